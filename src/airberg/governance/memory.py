"""In-memory twins of the sink and of the domain directory, for tests of everything that uses them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from airberg.errors import Unavailable
from airberg.governance.port import Proposal
from airberg.governance.resolve import Domain, match_domain
from airberg.governance.wire import as_json


class MemorySink:
    """Keeps what was sent, as the objects that a file would hold.

    Attributes:
        sent: Proposals by job and run.
        available: Set to False to have it refuse.
    """

    def __init__(self, *, available: bool = True) -> None:
        self.available = available
        self.sent: dict[tuple[UUID, UUID], list[dict[str, Any]]] = {}

    def send(self, job_id: UUID, run_id: UUID, proposals: Iterable[Proposal]) -> str:
        """Keep the proposals; see `MetadataSink.send`."""
        if not self.available:
            raise Unavailable("The metadata sink is switched off.", code="metadata-unavailable")
        self.sent[job_id, run_id] = [as_json(p) for p in proposals]
        return f"memory:{job_id}/{run_id}"


class MemoryDirectory:
    """Knows the domains that it was given.

    Args:
        domains: Name by urn.
    """

    def __init__(self, domains: Mapping[str, str], *, available: bool = True) -> None:
        self.available = available
        self._domains = [Domain(urn, name) for urn, name in domains.items()]

    def resolve(self, text: str) -> str:
        """The urn of the domain; see `DomainDirectory.resolve`."""
        if not self.available:
            raise Unavailable("The domain directory is switched off.", code="datahub-unavailable")
        return match_domain(text, self._domains)
