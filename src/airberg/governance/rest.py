"""Change proposals straight to DataHub's metadata service (GMS), through DataHub's own emitter."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy, deepcopy
from typing import Literal, TypeAlias
from uuid import UUID

from airberg import __version__
from airberg.governance.batches import Packed, batches, packed
from airberg.governance.connection import Connection, NotTaken, shown
from airberg.governance.patch_merge import as_upserts, holds, patch_of, place_of
from airberg.governance.port import MADE_ONCE, Proposal

log = logging.getLogger(__name__)

PatchMode: TypeAlias = Literal["auto", "patch", "upsert"]
Transport: TypeAlias = Literal["restli", "openapi"]

BATCH_SIZE = 2_000
"""Most proposals in a request: about those of 150 tables."""
USUAL = 200
"""As many does DataHub's own client put into a request; so many must do, and are tried again as they are."""
MERGES = 3
"""How often aspects are read and merged again when somebody writes them in between."""


class RestSink:
    """Sends a run's proposals in one request and waits until the primary store has them.

    In more than one where they are very many or large, or where DataHub, or what is before it, does not take
    so much at once (413, 500, 502, 504, no answer in time): then in halves, and halves of those. Proposals
    are taken as they are made, so no more than one request's are in memory.

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
        transport: Endpoints of rest.li, in one request, or of OpenAPI, in one for each kind of entity and
            each 200 proposals.
        batch_size: Most proposals in a request.
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
        batch_size: int = BATCH_SIZE,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._server = server.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._retries = retries
        self._max_wait_s = max_wait_s
        self._patch_mode = patch_mode
        self._transport = transport
        self._batch_size = batch_size
        self._wait = wait

    def __repr__(self) -> str:
        return f"RestSink({shown(self._server)!r})"

    def send(self, job_id: UUID, run_id: UUID, proposals: Iterable[Proposal]) -> str:
        """Send the proposals; see `MetadataSink.send`.

        Each carries the run as `airberg-<run id>`, so that `datahub ingest rollback` can take it back.
        Domains that are there stay as they are: people may have renamed and described them.
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
            delivery = _Delivery(datahub, self._patch_mode, self._batch_size)
            for batch in batches(_without_known(datahub, stamped), self._batch_size):
                delivery.send(batch)
        return shown(self._server)


class _Delivery:
    """Batches to one service; when one is too much for it, that one and all that follow are smaller."""

    def __init__(self, datahub: Connection, mode: PatchMode, most: int) -> None:
        self._datahub, self._mode, self._most = datahub, mode, most

    def send(self, batch: Sequence[Packed]) -> None:
        """Send all of a batch, in order, in as many requests as it takes."""
        sent = 0
        while sent < len(batch):
            piece = batch[sent : sent + self._most]
            try:
                self._emit(piece)
            except NotTaken as refused:
                if not _halves(piece, refused):
                    raise
                self._most = (len(piece) + 1) // 2
                log.info("%s %d proposals are too many: now %d.", refused.message, len(piece), self._most)
            else:
                sent += len(piece)

    def _emit(self, piece: Sequence[Packed]) -> None:
        if self._mode == "upsert":
            self._merge(piece, envelopes_only=False)
        elif self._mode == "patch":
            self._datahub.emit(piece, patient=len(piece) <= USUAL)
        else:
            self._patch_or_merge(piece)

    def _patch_or_merge(self, piece: Sequence[Packed]) -> None:
        """Send patches as they are; where the service does not know those with keys, merge them here.

        Some releases refuse a batch with such a patch. Others leave it out and answer 200; so with those that
        do not say that they are new enough, what became of each is read.
        """
        datahub = self._datahub
        envelopes = [
            (item, patch) for item in piece if (patch := patch_of(item.proposal)) and patch.is_envelope
        ]
        try:
            datahub.emit(piece, patient=len(piece) <= USUAL)
        except NotTaken as refused:
            unknown = refused.is_refusal or (refused.answered == 500 and not datahub.knows_envelopes)
            if not envelopes or not unknown or _halves(piece, refused):
                raise
            log.info("%s Tags and owners are read, merged and written.", refused.message)
            self._merge(piece, envelopes_only=True)
            return
        if datahub.knows_envelopes:
            return
        left_out = [
            item
            for item, patch in envelopes
            if not holds(datahub.read(*place_of(item.proposal)).value, patch)
        ]
        if left_out:
            log.info("DataHub left patches out; these tags and owners are read, merged and written")
            self._merge(left_out, envelopes_only=True)

    def _merge(self, piece: Sequence[Packed], *, envelopes_only: bool) -> None:
        """Read, merge and write patched aspects, again when somebody else wrote one in between."""
        proposals = [item.proposal for item in piece]
        encoded = {id(item.proposal): item for item in piece}
        for attempt in range(1, MERGES + 1):
            merged = as_upserts(proposals, self._datahub.read, envelopes_only=envelopes_only)
            try:
                self._datahub.emit(
                    [encoded.get(id(p)) or packed(p) for p in merged], patient=len(piece) <= USUAL
                )
            except NotTaken as refused:
                if attempt == MERGES or not refused.is_conflict:
                    raise
            else:
                return


def _halves(piece: Sequence[Packed], refused: NotTaken) -> bool:
    """Whether half of it is to be tried."""
    if refused.is_too_large:
        return len(piece) > 1
    return refused.may_be_too_much and len(piece) > USUAL


def _without_known(datahub: Connection, proposals: Iterable[Proposal]) -> Iterator[Proposal]:
    """Without what is to be made only where it is missing, and is there."""
    return (p for p in proposals if p.aspectName not in MADE_ONCE or datahub.read(*place_of(p)).value is None)


def _stamped(proposals: Iterable[Proposal], *, pipeline: str, run: str) -> Iterator[Proposal]:
    """Copies of the proposals that say which pipeline and run they come from."""
    from datahub.metadata.schema_classes import SystemMetadataClass

    stamp = SystemMetadataClass(
        runId=run,
        pipelineName=pipeline,
        lastObserved=int(time.time() * 1000),
        properties={"clientId": "airberg", "clientVersion": __version__},
    )
    for proposal in proposals:
        # A wrapper has members of its own; the generated class keeps all in one that copies would share.
        stamped = copy(proposal) if hasattr(proposal, "make_mcp") else deepcopy(proposal)
        stamped.systemMetadata = deepcopy(stamp)  # DataHub's client writes into it
        yield stamped
