"""The state of a job over HTTP, and going back to an earlier run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from airberg.api.acting import acting
from airberg.api.json_route import JsonRoute
from airberg.api.problems import PROBLEM_RESPONSES
from airberg.api.rooms import Reads, Rooms, Writes
from airberg.api.slots import Slots
from airberg.sync.given_states import MAX_STATES, check_states
from airberg.sync.job_tables import JobState, JobTables, Rewind, TableRewind

router = APIRouter(tags=["state"], responses=PROBLEM_RESPONSES, route_class=JsonRoute)

MESSAGE = "An `AirbyteStateMessage` as the connector writes it: of one stream, or one of all (`GLOBAL`)."


class StreamStateView(BaseModel):
    """Where a stream stands."""

    stream: str
    namespace: str | None
    table: str
    exists: bool = Field(description="Whether the table is there: the first run makes it.")
    sync_mode: str = Field(description="incremental, or full_refresh: such a stream has no state.")
    kind: str | None = Field(description="stream, global or legacy; null without a state to show.")
    state: dict[str, Any] | None = Field(description=MESSAGE)
    protected: bool = Field(description="The state is not shown: it may hold values of protected columns.")
    checkpoint: int = Field(description="Number of the newest commit of the job in this table.")
    shared: int = Field(description="Number of the newest checkpoint that tables share; 0: there is none.")
    flow_run_id: str | None = Field(description="The run that made it; state__… for a state that was set.")
    complete: bool = Field(description="That run read the stream to its end.")
    generation_id: int
    snapshot_id: str | None


class JobStateView(BaseModel):
    """Where a job stands."""

    job_id: UUID
    states: list[dict[str, Any]] = Field(
        description="The states as the connector gets them, fit to be sent back; none that is protected."
    )
    unfinished: list[str] = Field(
        description="Tables that the next run brings to where the others are, before it reads anything."
    )
    streams: list[StreamStateView]


class StatesBody(BaseModel):
    """States to go on from."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    states: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_STATES, description=MESSAGE)


class RewindBody(BaseModel):
    """Where to go back to."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    run_id: UUID = Field(description="A run of the job that has completed.", strict=False)
    force: bool = Field(
        False, description="Also where that takes rows of other writers out of a table. Never those of a job."
    )


class LostCommitView(BaseModel):
    """A commit whose rows a rewind takes out of a table."""

    snapshot_id: str
    at: datetime
    operation: str
    by: str = Field(description="run, state, rewind or upkeep of this job; other: another writer.")
    who: str = Field(description="The run's flow_run_id, or the engine that the snapshot names.")


class TableRewindView(BaseModel):
    """What a rewind does to one table."""

    stream: str
    table: str
    from_snapshot_id: str | None
    to_snapshot_id: str | None = Field(description="Whose rows the table has afterwards; null: it has none.")
    rows_before: int = Field(description="By the counts of the snapshot.")
    rows_after: int
    rows_difference: int
    state_before: dict[str, Any] | None
    state_after: dict[str, Any] | None
    protected: bool = Field(
        description="The states are not shown: they may hold values of protected columns."
    )
    lost: list[LostCommitView] = Field(description="Commits that the table loses, newest first.")


class RewindView(BaseModel):
    """What a rewind does, or has done."""

    job_id: UUID
    run_id: UUID
    flow_run_id: str
    done: bool = Field(description="false: it was a dry run.")
    tables: list[TableRewindView]


@contextlib.contextmanager
def job_tables(request: Request) -> Iterator[JobTables]:
    """Who looks after tables, while there is a free turn.

    Raises:
        TooManyRequests: There is none.
    """
    slots: Slots = request.app.state.table_slots
    tables: JobTables = request.app.state.job_tables
    with slots.one():
        yield tables


@router.get("/api/jobs/{job_id}/state", response_model=JobStateView)
def get_state(request: Request, job_id: UUID, caller: Reads) -> JobStateView:
    """Where a job stands: the state of each stream, as its table holds it."""
    Rooms(request).job(job_id, caller)
    with job_tables(request) as tables:
        return _state_view(job_id, tables.state(job_id))


@router.put("/api/jobs/{job_id}/state", response_model=JobStateView)
def set_state(request: Request, job_id: UUID, body: StatesBody, caller: Writes) -> JobStateView:
    """Replace the state of the streams that are sent; the next run goes on from there. Rows stay."""
    job = Rooms(request).own_living(job_id, caller)
    named: list[str] = []
    if job.plan is not None:  # what can be refused without a look at the tables needs no process
        given = check_states(body.states, job.plan)
        named = [*map(str, given.own), *(["*"] if given.common else [])]
    act = acting(request, caller, "state.set", "job", job_id, streams=named)
    with job_tables(request) as tables:
        return _state_view(job_id, tables.set_state(job_id, body.states, act=act))


@router.delete("/api/jobs/{job_id}/state", response_model=JobStateView)
def delete_state(
    request: Request,
    job_id: UUID,
    caller: Writes,
    stream: Annotated[
        list[Annotated[str, Field(max_length=200)]] | None,
        Query(max_length=10, description="Name of a stream, or namespace.name; default all."),
    ] = None,
) -> JobStateView:
    """Forget the state of streams: the next run reads them from the start.

    Rows stay. In merge mode what comes again replaces them, in append mode they are there twice then.
    """
    Rooms(request).own_living(job_id, caller)
    act = acting(request, caller, "state.delete", "job", job_id, streams=stream or ["*"])
    with job_tables(request) as tables:
        return _state_view(job_id, tables.delete_state(job_id, stream, act=act))


@router.post("/api/jobs/{job_id}/rewind", response_model=RewindView)
def rewind_job(
    request: Request,
    job_id: UUID,
    body: RewindBody,
    caller: Writes,
    dry_run: Annotated[bool, Query(description="Only say what would be done to each table.")] = False,
) -> RewindView:
    """Take all tables of a job back to what they were at the end of a run, with the state of then.

    The next run goes on from that state. Called again after it was interrupted, it completes what it began.
    """
    Rooms(request).own_living(job_id, caller)
    act = acting(request, caller, "job.rewind", "job", job_id, run=str(body.run_id), force=body.force)
    with job_tables(request) as tables:
        done = tables.rewind(job_id, body.run_id, force=body.force, dry_run=dry_run, act=act)
    return _rewind_view(job_id, done)


def _state_view(job_id: UUID, state: JobState) -> JobStateView:
    return JobStateView(
        job_id=job_id,
        states=list(state.states),
        unfinished=list(state.unfinished),
        streams=[
            StreamStateView(**(msgspec.structs.asdict(s) | {"snapshot_id": id_text(s.snapshot_id)}))
            for s in state.streams
        ],
    )


def _rewind_view(job_id: UUID, done: Rewind) -> RewindView:
    return RewindView(
        job_id=job_id,
        run_id=done.run_id,
        flow_run_id=done.flow_run_id,
        done=done.done,
        tables=[_table_view(table) for table in done.tables],
    )


def _table_view(table: TableRewind) -> TableRewindView:
    changed = {
        "from_snapshot_id": id_text(table.from_snapshot_id),
        "to_snapshot_id": id_text(table.to_snapshot_id),
        "rows_difference": table.rows_after - table.rows_before,
        "lost": [
            LostCommitView(
                snapshot_id=str(c.snapshot_id), at=moment(c.at_ms), operation=c.operation, by=c.by, who=c.who
            )
            for c in table.lost
        ],
    }
    return TableRewindView(**(msgspec.structs.asdict(table) | changed))


def id_text(snapshot_id: int | None) -> str | None:
    """A snapshot's id as text: it exceeds what JavaScript can count."""
    return None if snapshot_id is None else str(snapshot_id)


def moment(milliseconds: int) -> datetime:
    """A time of Iceberg, which counts milliseconds since 1970."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
