"""Rewind of a job: which tables go back to which snapshot and state, and whether they can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from airberg.errors import Conflict
from airberg.jobs.model import Job, Run, RunStatus
from airberg.jobs.port import JobStore
from airberg.lake.note import Note, is_sealed
from airberg.lake.past import Past, left_behind, newest_past, rows_of, snapshot_of
from airberg.lake.rewind import Return
from airberg.lake.tables import find_table
from airberg.plan.model import JobPlan
from airberg.protocol.state import state_from_json
from airberg.sync.job_tables import LostCommit, TableRewind

LOOKED_AT_RUNS = 10_000
"""Runs that are looked at for what was before a run, for tables that it did not write."""


@dataclass(frozen=True, slots=True)
class PlannedRewind:
    """A rewind that can be done: tables on their way back, and what is shown of each."""

    returns: tuple[Return, ...]
    shown: tuple[TableRewind, ...]


def plan_rewind(store: JobStore, catalog: Catalog, job: Job, run: Run, *, force: bool) -> PlannedRewind:
    """What a rewind to the end of a run does to each table of its job.

    Tables that the run did not write go back to what they were before it; a table that the job began later
    has no rows of it then.

    Args:
        store: Knows the job's other runs.
        catalog: Of the tables.
        job: The job.
        run: The run.
        force: Also where commits of other writers get lost.

    Raises:
        Conflict: It cannot be done: the message says why.
        TransientFailed, ConfigurationFailed: The catalog or its storage failed or refused.
    """
    if job.plan is None or run.status is not RunStatus.COMPLETED:
        raise Conflict(
            f"The run {run.id} has not completed.",
            guidance="Choose a run with the status completed.",
            code="run-not-completed",
        )
    wrote = {report.table: report.stream for report in run.report.streams}
    streams = {stream.table: stream.name for stream in job.plan.streams}
    guarded = any(stream.protect_state for stream in job.plan.streams)
    before = _Before(store, run)
    found: list[tuple[Return, TableRewind]] = []
    for name in sorted(streams | wrote):
        table = find_table(catalog, job.plan.namespace, name)
        if table is None:
            if name in streams and name in wrote:
                raise _gone(job.plan, name)
            continue
        wanted = _end_of(run) if name in wrote else before
        past = newest_past(table, str(job.id), wanted)
        if past is None:
            raise _forgotten(table, run)
        back = Return(table, past, snapshot_of(table, past))
        stream = streams.get(name) or wrote[name]
        found.append((back, _shown(job, stream, back, guarded=guarded)))
    for back, _ in found:
        refuse_losses(job.id, back.table, back.past.snapshot_id, force=force)
    return PlannedRewind(tuple(b for b, _ in found), tuple(s for _, s in found))


def refuse_losses(job_id: UUID, table: Table, snapshot_id: int | None, *, force: bool) -> None:
    """Refuse a rewind that takes rows of others out of a table.

    Raises:
        Conflict: Another job of Airberg would not know that its rows are gone (`rewind-other-job`, in any
            case); or another writer committed since (`rewind-other-writer`, without `force`).
    """
    lost = [_lost(job_id, snapshot) for snapshot in left_behind(table.metadata, snapshot_id)]
    name = ".".join(table.name())
    if jobs := sorted({commit.who for commit in lost if commit.by == "job"}):
        raise Conflict(
            f"Another job has written to {name} since: {', '.join(jobs[:5])}.",
            guidance="Its state would stay where it is, and its rows would be missing. Give each job tables "
            "of its own; to load this one anew, delete its state.",
            code="rewind-other-job",
        )
    if not force and (others := [commit for commit in lost if commit.by == "other"]):
        who = ", ".join(sorted({c.who or "unnamed" for c in others})[:5])
        ids = ", ".join(str(c.snapshot_id) for c in others[:5])
        raise Conflict(
            f"Another writer has committed to {name} since ({who}; snapshots {ids}).",
            guidance='Its changes would be lost. Send "force": true if that is meant.',
            code="rewind-other-writer",
        )


def _end_of(run: Run) -> Callable[[Note | None], bool]:
    def is_end(note: Note | None) -> bool:
        return note is not None and note.run_id == run.flow_run_id and note.complete

    return is_end


class _Before:
    """Whether a note is from before a run: of an earlier run of the job, or there is none."""

    def __init__(self, store: JobStore, run: Run) -> None:
        self._store = store
        self._run = run
        self._earlier: frozenset[str] | None = None

    def __call__(self, note: Note | None) -> bool:
        if note is None:
            return True
        if self._earlier is None:
            runs = self._store.runs(self._run.job_id, limit=LOOKED_AT_RUNS)
            self._earlier = frozenset(r.flow_run_id for r in runs if r.created_at < self._run.created_at)
        return note.run_id in self._earlier


def _shown(job: Job, stream: str, back: Return, *, guarded: bool) -> TableRewind:
    metadata = back.table.metadata
    here = Past("", str(metadata.table_uuid), metadata.current_snapshot_id, metadata.properties)
    job_id = str(job.id)
    texts = [past.note_text(job_id) for past in (here, back.past)]
    protected = guarded or any(text is not None and is_sealed(text) for text in texts)
    states = [None, None] if protected else [_state(past, job_id) for past in (here, back.past)]
    return TableRewind(
        stream=stream,
        table=".".join(back.table.name()),
        from_snapshot_id=metadata.current_snapshot_id,
        to_snapshot_id=back.past.snapshot_id,
        rows_before=rows_of(back.table.current_snapshot()),
        rows_after=rows_of(back.snapshot),
        state_before=states[0],
        state_after=states[1],
        protected=protected,
        lost=tuple(_lost(job.id, s) for s in left_behind(metadata, back.past.snapshot_id)),
    )


def _state(past: Past, job_id: str) -> Any:  # noqa: ANN401 - decoded JSON
    note = past.note(job_id)
    if note is None or note.state is None:
        return None
    return msgspec.json.decode(state_from_json(str(note.state).encode()).raw)


def _lost(job_id: UUID, snapshot: Snapshot) -> LostCommit:
    facts = snapshot.summary.additional_properties if snapshot.summary else {}
    by, who = "other", facts.get("engine-name", "") or facts.get("spark.app.id", "")
    if "airberg.upkeep" in facts:
        by, who = "upkeep", ""
    elif (job := facts.get("airberg.job-id")) is not None:
        by, who = ("job", job) if job != str(job_id) else (facts.get("airberg.act", "run"), "")
        who = who or facts.get("airberg.run-id", "")
    return LostCommit(
        snapshot_id=snapshot.snapshot_id,
        at_ms=snapshot.timestamp_ms,
        operation=snapshot.summary.operation.value if snapshot.summary else "",
        by=by,
        who=who,
    )


def _gone(plan: JobPlan, name: str) -> Conflict:
    return Conflict(
        f"The table {'.'.join((*plan.namespace, name))} is gone, which the run wrote.",
        guidance="A run makes it again and loads it from the beginning.",
        code="rewind-table-gone",
    )


def _forgotten(table: Table, run: Run) -> Conflict:
    return Conflict(
        f"What {'.'.join(table.name())} was at the end of the run {run.id} is not known any more.",
        guidance="Go back to a newer run. A table keeps as many older metadata files as its property "
        "write.metadata.previous-versions-max says (100): raise it for the future.",
        code="rewind-forgotten",
    )
