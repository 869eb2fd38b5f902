"""In-memory twins of the sink and of the directory, for tests of everything that uses them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any
from uuid import UUID

from airberg.errors import Unavailable
from airberg.governance.directory import AT_MOST, Entity, Kind
from airberg.governance.port import Proposal
from airberg.governance.resolve import DOMAIN_PREFIX, GROUP_PREFIX, TAG_PREFIX, USER_PREFIX
from airberg.governance.wire import as_json

_PREFIXES: Mapping[Kind, str] = {
    "domain": DOMAIN_PREFIX,
    "tag": TAG_PREFIX,
    "user": USER_PREFIX,
    "group": GROUP_PREFIX,
}


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
    """Knows the entities that it was given.

    Args:
        entities: Name by urn; of users and groups the name is not looked at.
    """

    def __init__(self, entities: Mapping[str, str], *, available: bool = True) -> None:
        self.available = available
        self._entities = [Entity(urn, name) for urn, name in entities.items()]

    def existing(self, urns: Collection[str]) -> frozenset[str]:
        """See `EntityDirectory.existing`."""
        self._answer()
        return frozenset(urns) & {e.urn for e in self._entities}

    def entities(self, kind: Kind) -> list[Entity]:
        """See `EntityDirectory.entities`."""
        self._answer()
        found = [e for e in self._entities if e.urn.startswith(_PREFIXES[kind])]
        if kind in ("user", "group"):
            found = [Entity(e.urn) for e in found]
        return found[: AT_MOST[kind]]

    def _answer(self) -> None:
        if not self.available:
            raise Unavailable("The directory is switched off.", code="datahub-unavailable")
