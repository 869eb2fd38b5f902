"""Change proposals straight to DataHub's metadata service (GMS), through DataHub's own emitter."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Literal, TypeAlias
from uuid import UUID

from airberg.governance.connection import Connection, NotTaken, shown
from airberg.governance.patch_merge import as_upserts, holds, patch_of, place_of
from airberg.governance.port import Proposal

log = logging.getLogger(__name__)

PatchMode: TypeAlias = Literal["auto", "patch", "upsert"]
Transport: TypeAlias = Literal["restli", "openapi"]

MERGES = 3
"""How often aspects are read and merged again when somebody writes them in between."""


class RestSink:
    """Sends a run's proposals in one batch and waits until the primary store has them.

    Everything that is sent may be sent twice: UPSERTs and keyed patches end in the same state, and events of
    one moment are one.

    Args:
        server: Address of the metadata service.
        token: Access token, if it wants one; never shown.
        timeout_s: Of each request, to connect and for each silence, in seconds (at least 1).
        retries: Of each request inside one `send`, after 429, 5xx or a lost connection; as late as
            `Retry-After` says, else after 1, 2, 4 s. The flow task is retried on top of that.
        max_wait_s: When the service wants to be asked later than this, `send` ends at once.
        patch_mode: How tags and owners are added to those of people. `patch`: the service does it. `upsert`:
            they are read, merged and written. `auto`: as `patch`, and as `upsert` with a service that does
            not know patches with keys.
        transport: Endpoints of rest.li, in one batch, or of OpenAPI, in one for each kind of entity.
        wait: Waits some seconds.
    """

    def __init__(
        self,
        server: str,
        *,
        token: str | None = None,
        timeout_s: float = 10.0,
        retries: int = 2,
        max_wait_s: float = 30.0,
        patch_mode: PatchMode = "auto",
        transport: Transport = "restli",
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._server = server.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._retries = retries
        self._max_wait_s = max_wait_s
        self._patch_mode = patch_mode
        self._transport = transport
        self._wait = wait

    def __repr__(self) -> str:
        return f"RestSink({shown(self._server)!r})"

    def send(self, job_id: UUID, run_id: UUID, proposals: Sequence[Proposal]) -> str:
        """Send the proposals; see `MetadataSink.send`.

        Each carries the run as `airberg-<run id>`, so that `datahub ingest rollback` can take it back.
        """
        stamped = _stamped(proposals, pipeline=f"airberg_{job_id}", run=f"airberg-{run_id}")
        with Connection(
            self._server,
            token=self._token,
            timeout_s=self._timeout_s,
            retries=self._retries,
            max_wait_s=self._max_wait_s,
            openapi=self._transport == "openapi",
            wait=self._wait,
        ) as datahub:
            if self._patch_mode == "upsert":
                _merge(datahub, stamped, envelopes_only=False)
            elif self._patch_mode == "patch":
                datahub.emit(stamped)
            else:
                _patch_or_merge(datahub, stamped)
        return shown(self._server)


def _patch_or_merge(datahub: Connection, proposals: Sequence[Proposal]) -> None:
    """Send patches as they are; where the service does not know those with keys, merge them here.

    Some releases refuse a batch with such a patch. Others leave it out and answer 200; so with those that do
    not say that they are new enough, what became of each is read.
    """
    envelopes = [(p, patch) for p in proposals if (patch := patch_of(p)) and patch.is_envelope]
    try:
        datahub.emit(proposals)
    except NotTaken as refused:
        unknown = refused.is_refusal or (refused.answered == 500 and not datahub.knows_envelopes)
        if not envelopes or not unknown:
            raise
        log.info("%s Tags and owners are read, merged and written.", refused.message)
        _merge(datahub, proposals, envelopes_only=True)
        return
    if datahub.knows_envelopes:
        return
    left_out = [p for p, patch in envelopes if not holds(datahub.read(*place_of(p)).value, patch)]
    if left_out:
        log.info("DataHub left patches out; these tags and owners are read, merged and written")
        _merge(datahub, left_out, envelopes_only=True)


def _merge(datahub: Connection, proposals: Sequence[Proposal], *, envelopes_only: bool) -> None:
    """Read, merge and write patched aspects, again when somebody else wrote one in between."""
    for attempt in range(1, MERGES + 1):
        try:
            datahub.emit(as_upserts(proposals, datahub.read, envelopes_only=envelopes_only))
        except NotTaken as refused:
            if attempt == MERGES or not refused.is_conflict:
                raise
        else:
            return


def _stamped(proposals: Sequence[Proposal], *, pipeline: str, run: str) -> list[Proposal]:
    """Copies of the proposals that say which pipeline and run they come from."""
    from datahub.metadata.schema_classes import SystemMetadataClass

    stamped = deepcopy(list(proposals))
    for proposal in stamped:
        proposal.systemMetadata = SystemMetadataClass(runId=run, pipelineName=pipeline)
    return stamped
