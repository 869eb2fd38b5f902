"""What the service knows, and what it does with proposals."""

from __future__ import annotations

import copy
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airberg.testing.datahub import validation
from airberg.testing.datahub.faults import Breakage, Fault
from airberg.testing.datahub.graphql import execute
from airberg.testing.datahub.patches import patched
from airberg.testing.datahub.refusal import Refused
from airberg.testing.datahub.untyped import Json

VERSION = "v1.7.0"
OLD_VERSION = "v0.12.1"
UNVERSIONED = "-1"
"""What `If-Version-Match` says of an aspect that is not there."""

_PROPOSAL = {
    *("auditHeader", "entityType", "entityUrn", "entityKeyAspect", "changeType", "aspectName", "aspect"),
    *("systemMetadata", "headers"),
}
_CREATES = ("CREATE", "CREATE_ENTITY")


class DataHubDouble:
    """A metadata service in memory.

    Args:
        token: Bearer token that it wants; `""`: none. Default: made up.
        version: That it says it is. Default: the newest that it was compared with, or an old one.
        old: It is from before the envelope of patches with keys (`GenericJsonPatch`), conditional headers and
            the OpenAPI of entities: it refuses all three.
        drops_patches: It does not know the envelope either, but leaves such a proposal out of its batch and
            answers 200: releases do so that skip proposals which they cannot read (`AspectsBatchImpl`).

    Attributes:
        token: Bearer token that it wants, or `""`.
        page: Most results of one answer of a search.
        graphql_error: Message to answer to every GraphQL query, or None.
        unindexed: Urns that are stored and that its search does not show yet.
        aspects: Latest value by urn and name of the aspect.
        timeseries: Urn, name of the aspect and value of each event, in the order in which they came.
        calls: Method and path of each request.
        system_metadata: That of each proposal that was taken.
        url: Address, while it is served.
    """

    def __init__(
        self,
        token: str | None = None,
        *,
        version: str | None = None,
        old: bool = False,
        drops_patches: bool = False,
    ) -> None:
        self.token = secrets.token_urlsafe(12) if token is None else token
        self.version = version or (OLD_VERSION if old else VERSION)
        self.old = old
        self.drops_patches = drops_patches
        self.page = 1000
        self.graphql_error: str | None = None
        self.unindexed: set[str] = set()
        self.aspects: dict[tuple[str, str], Any] = {}
        self.timeseries: list[tuple[str, str, Any]] = []
        self.calls: list[str] = []
        self.system_metadata: list[dict[str, Any]] = []
        self.url = ""
        self.breakage = Breakage()
        self._versions: dict[tuple[str, str], int] = {}
        self._lock = threading.RLock()

    @property
    def fault(self) -> Fault | None:
        """What goes wrong with requests from now on; None heals it."""
        return self.breakage.fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        self.breakage.put(fault)

    # ---- what it has -------------------------------------------------------------------------------------

    def aspect(self, urn: str, name: str) -> Json:
        """A copy of the latest value, or None."""
        return copy.deepcopy(self.aspects.get((urn, name)))

    def events(self, urn: str, name: str) -> list[Any]:
        """Copies of all values of a timeseries aspect, the earliest first."""
        found = [copy.deepcopy(v) for u, n, v in self.timeseries if (u, n) == (urn, name)]
        return sorted(found, key=lambda value: value["timestampMillis"])

    def names(self, urn: str) -> list[str]:
        """Names of the aspects that an entity has, sorted."""
        return sorted(name for known, name in self.aspects if known == urn)

    def version_of(self, urn: str, name: str) -> str:
        """The version that `If-Version-Match` is compared with."""
        return str(self._versions.get((urn, name), UNVERSIONED))

    def state(self) -> dict[str, Any]:
        """All that was stored, to compare two ways of getting there."""
        latest = {f"{urn} {name}": value for (urn, name), value in self.aspects.items()}
        events = sorted(json.dumps(e, sort_keys=True) for e in self.timeseries)
        return copy.deepcopy({"latest": latest, "events": events})

    # ---- writes ------------------------------------------------------------------------------------------

    def add_domain(self, urn: str, name: str) -> None:
        """Store a domain as its page in the user interface would."""
        self.upsert(urn, "domainProperties", {"name": name})

    def propose(self, proposal: dict[str, Any]) -> None:
        """Take one change proposal (`MetadataChangeProposal`) of the rest.li endpoint.

        Raises:
            Refused: It is not taken.
        """
        if not isinstance(proposal, dict) or (unknown := set(proposal) - self._members_of_proposals()):
            found = sorted(unknown) if isinstance(proposal, dict) else type(proposal).__name__
            raise Refused(400, f"MetadataChangeProposal: unrecognized field found but not allowed {found}")
        urn, name = proposal.get("entityUrn"), proposal.get("aspectName")
        validation.parsed_urn(urn, str(proposal.get("entityType")))
        try:
            value = json.loads(proposal["aspect"]["value"])
        except (KeyError, TypeError, ValueError) as error:
            raise Refused(400, f"{name} of {urn}: no value in JSON ({type(error).__name__})") from error
        change, headers = proposal.get("changeType"), proposal.get("headers") or {}
        if change == "PATCH":
            if self.drops_patches and isinstance(value, dict):
                return
            self.patch(str(urn), str(name), value, envelopes=not self.old)
        elif change in ("UPSERT", *_CREATES):
            create = {"If-None-Match": "*"} if change in _CREATES else {}
            self.upsert(str(urn), str(name), value, headers | create)
        else:
            raise Refused(422, f"ChangeType not supported: {change} for aspect {name}")
        self.system_metadata.append(proposal.get("systemMetadata") or {})

    def upsert(self, urn: str, name: str, value: Json, headers: dict[str, str] | None = None) -> None:
        """Store an aspect, and the key of its entity, as the service would.

        Raises:
            Refused: It would not.
        """
        parsed = validation.parsed_urn(urn)
        kind = validation.aspect_class(parsed.entity_type, name)
        validation.check_aspect(kind, urn, value)
        with self._lock:
            self._meet(urn, name, headers or {})
            if validation.is_timeseries(kind):
                self._add_event(urn, name, copy.deepcopy(value))
            else:
                self._store(urn, name, copy.deepcopy(value))
            key, key_value = validation.key_of(parsed)
            if (urn, key) not in self.aspects:
                self._store(urn, key, key_value)

    def patch(self, urn: str, name: str, patch: Json, *, envelopes: bool = True) -> None:
        """Apply a JSON patch, whose paths address members of arrays by their keys.

        Args:
            urn: Of the entity.
            name: Of the aspect.
            patch: Its operations, or DataHub's envelope around them.
            envelopes: Whether the envelope is known; OpenAPI has known it from the beginning.

        Raises:
            Refused: It cannot be read or applied, or what comes out of it is not valid.
        """
        kind = validation.aspect_class(validation.parsed_urn(urn).entity_type, name)
        if validation.is_timeseries(kind):
            raise Refused(422, f"ChangeType not supported: PATCH for aspect {name}")
        with self._lock:
            current = self.aspects.get((urn, name))
            self.upsert(urn, name, patched(name, current, patch, envelopes=envelopes))

    def delete(self, urn: str) -> None:
        """Remove an entity with all that is known of it."""
        validation.parsed_urn(urn)
        with self._lock:
            self.aspects = {k: v for k, v in self.aspects.items() if k[0] != urn}
            self.timeseries = [e for e in self.timeseries if e[0] != urn]

    @contextmanager
    def whole(self) -> Iterator[None]:
        """What is done in the block is done as a whole, or, when some of it is refused, not at all."""
        with self._lock:
            before = (dict(self.aspects), list(self.timeseries), dict(self._versions))
            stamps = list(self.system_metadata)
            try:
                yield
            except Refused:
                self.aspects, self.timeseries, self._versions = before
                self.system_metadata = stamps
                raise

    def _members_of_proposals(self) -> set[str]:
        return _PROPOSAL - {"headers"} if self.old else _PROPOSAL

    def _meet(self, urn: str, name: str, headers: dict[str, str]) -> None:
        """Refuse when a condition of the write does not hold (`ConditionalWriteValidator`)."""
        for header, wanted in headers.items():
            if header == "If-None-Match":
                if (urn, name) in self.aspects:
                    raise Refused(412, f"Cannot perform CREATE since the aspect {name} of {urn} exists")
            elif header == "If-Version-Match":
                if wanted != (actual := str(self._versions.get((urn, name), UNVERSIONED))):
                    raise Refused(412, f"Expected version {wanted}, actual version {actual}")
            elif header in ("If-Modified-Since", "If-Unmodified-Since"):
                raise Refused(501, f"{header} is not known to this double")

    def _store(self, urn: str, name: str, value: Json) -> None:
        known = self.aspects.get((urn, name))
        self.aspects[urn, name] = value
        if known != value:
            self._versions[urn, name] = self._versions.get((urn, name), 0) + 1

    def _add_event(self, urn: str, name: str, value: Json) -> None:
        """An event of the same identity takes an earlier one's place (`TimeseriesAspectTransformer`)."""
        identity = _identity(urn, name, value)
        self.timeseries = [e for e in self.timeseries if _identity(*e) != identity]
        self.timeseries.append((urn, name, value))

    # ---- reads -------------------------------------------------------------------------------------------

    def graphql(self, body: Json) -> dict[str, Any]:
        """Execute a GraphQL query; wrong fields, arguments and types are errors as in the service."""
        if self.graphql_error:
            return {"data": None, "errors": [{"message": self.graphql_error}]}
        with self._lock:
            known = dict(self.aspects)
        return execute(known, self.unindexed, self.page, body)


def _identity(urn: str, name: str, value: dict[str, Any]) -> tuple[str, ...]:
    parts = ("timestampMillis", "eventGranularity", "messageId", "partitionSpec")
    return (urn, name, *(json.dumps(value.get(part), sort_keys=True) for part in parts))
