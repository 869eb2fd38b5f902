"""Runs as the API shows them: what happened to each table, from which state to which, and why it failed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from airberg.jobs.model import AttemptReport, ReportedState, Run, RunStatus, StreamReport
from airberg.jobs.parts import part_of
from airberg.jobs.state_diff import Change, state_diff

ERRORS_PAGE = "docs/reference/errors.md#codes-of-a-run"
"""Where the codes of runs are explained."""


class _View(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RunSummary(_View):
    """A run in one line."""

    id: UUID
    status: str
    attempt: int
    rows_read: int
    rows_written: int
    rows_deleted: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    duration_s: float | None = Field(description="From start to end, or until now.")
    error: str | None


class StateView(_View):
    """A state of the connector: how far it has read a stream."""

    value: Any = Field(None, description="As the connector wrote it; null when it is withheld.")
    withheld: Literal["protected", "too-large", "unreadable"] | None = Field(
        None, description="Why it is not shown. `protected`: the job protects columns."
    )
    bytes: int | None = Field(None, description="Size of its JSON text.")
    sha256: str | None = Field(None, description="Digest of that text.")


class ChangeView(_View):
    """A value of a state that changed."""

    pointer: str = Field(description="JSON pointer into the state.")
    before: Any
    after: Any


class MemberView(_View):
    """A value that one of the states does not have."""

    pointer: str = Field(description="JSON pointer into the state.")
    value: Any


class StateDiffView(_View):
    """What differs between two states."""

    added: list[MemberView]
    changed: list[ChangeView]
    removed: list[MemberView]
    more: int = Field(description="How many differences are left out.")


class StreamView(_View):
    """What a run did to one table."""

    stream: str
    table: str
    phase: str = Field(description="waiting, reading, committing, complete or incomplete.")
    rows_read: int
    bytes_read: int = Field(description="JSON text of the records read.")
    rows_staged: int = Field(description="In data files, not committed yet.")
    bytes_staged: int
    rows_written: int = Field(description="Committed.")
    rows_estimated: int | None = Field(description="How many there will be, if the connector says so.")
    bytes_estimated: int | None
    rows_per_s: float = Field(description="Records read each second, over the newest attempt.")
    rows_deleted: int
    values_nulled: int
    records_ignored: int
    bytes_written: int
    checkpoints: int
    snapshot_ids: list[str] = Field(description="As text: they exceed what JavaScript can count.")
    complete: bool
    attempts: int = Field(description="Attempts of the run that worked on it.")
    started_at: datetime | None = Field(description="When its first records came, or its first commit.")
    ended_at: datetime | None = Field(description="When it was complete, or given up.")
    duration_s: float | None = Field(description="From start to end, or until now.")
    state_before: StateView | None = Field(description="What the run began from; null: the beginning.")
    state_after: StateView | None = Field(description="That of the newest commit; null: none was made.")
    state_changed: bool = Field(description="Whether the run has moved the state.")
    state_diff: StateDiffView | None = Field(description="From before to after; null: one is not shown.")


class AttemptView(_View):
    """One attempt of a run."""

    number: int
    status: str = Field(description="running, completed, failed, cancelled, or lost: ended without a word.")
    started_at: datetime | None
    ended_at: datetime | None
    duration_s: float | None
    error: str | None
    error_code: str | None
    guidance: str | None


class PartView(_View):
    """A part of a run whose streams are synced side by side: what one task of the flow does."""

    number: int = Field(description="From 0.")
    tables: list[str]
    status: str
    attempt: int = Field(description="Number of its newest attempt; 0 before the first.")
    started_at: datetime | None
    ended_at: datetime | None
    duration_s: float | None
    error: str | None
    error_code: str | None
    attempts: list[AttemptView]


class AskedView(_View):
    """What was asked of a run."""

    streams: list[str] = Field(description="The only streams to sync; empty: all of the job's.")
    full_refresh: bool = Field(description="To read them from their beginning, and replace the tables.")


class RunView(RunSummary):
    """A run in full."""

    job_id: UUID
    flow_run_id: str
    flow_run_url: Annotated[str, Field(json_schema_extra={"format": "uri"})]
    error_code: str | None
    guidance: str | None = Field(description="What to do about the error.")
    error_page: str | None = Field(description="Where the code of the error is explained.")
    attempts: list[AttemptView]
    asked: AskedView
    parts: list[PartView] = Field(description="Empty, unless its streams are synced side by side.")
    records_of_unknown_streams: int
    metadata: str | None
    metadata_error: str | None
    lineage_error: str | None
    streams: list[StreamView]


def run_summary(run: Run) -> RunSummary:
    """A run in one line."""
    return RunSummary(**_summary(run))


def _summary(run: Run) -> dict[str, Any]:
    streams = run.report.streams
    return {
        "id": run.id,
        "status": run.status.value,
        "attempt": run.attempt,
        "rows_read": sum(s.rows_read for s in streams),
        "rows_written": sum(s.rows_written for s in streams),
        "rows_deleted": sum(s.rows_deleted for s in streams),
        "created_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "duration_s": _duration(run.started_at, run.ended_at),
        "error": run.error,
    }


def run_view(run: Run, flow_url: str, *, states: bool = True) -> RunView:
    """A run in full; in lists without states, which may be large."""
    attempts = [_attempt_view(run, a) for a in _attempts(run)]
    failed = run.error_code is not None
    told = attempts[-1] if attempts and attempts[-1].error_code == run.error_code else None
    return RunView(
        **_summary(run),
        job_id=run.job_id,
        flow_run_id=run.flow_run_id,
        flow_run_url=f"{flow_url}/runs/{run.flow_run_id}",
        error_code=run.error_code,
        guidance=told.guidance if failed and told else None,
        error_page=ERRORS_PAGE if failed else None,
        attempts=attempts,
        asked=AskedView(streams=list(run.asked.streams), full_refresh=run.asked.full_refresh),
        parts=[_part_view(part_of(run, part.number), part.tables) for part in run.report.parts],
        records_of_unknown_streams=run.report.records_of_unknown_streams,
        metadata=run.report.metadata,
        metadata_error=run.report.metadata_error,
        lineage_error=run.report.lineage_error,
        streams=[_stream_view(s, until=run.ended_at, states=states) for s in run.report.streams],
    )


def _attempts(run: Run) -> tuple[AttemptReport, ...]:
    """Those that have reported themselves, and the newest one, which may not have come to that."""
    reported = run.report.attempts
    if run.attempt == 0 or run.started_at is None or any(a.number == run.attempt for a in reported):
        return reported
    begun = run.started_at if not reported else None
    newest = AttemptReport(number=run.attempt, status=RunStatus.RUNNING, started_at=begun)
    return (*reported, newest)


def _attempt_view(run: Run, attempt: AttemptReport) -> AttemptView:
    at_work = attempt.number == run.attempt and not run.status.ended
    silent = attempt.status is RunStatus.RUNNING
    ended_at = attempt.ended_at
    known = ended_at is not None or (silent and at_work)
    return AttemptView(
        number=attempt.number,
        status="lost" if silent and not at_work else attempt.status.value,
        started_at=attempt.started_at,
        ended_at=ended_at,
        duration_s=_duration(attempt.started_at, ended_at) if known else None,
        error=attempt.error,
        error_code=attempt.error_code,
        guidance=attempt.guidance,
    )


def _part_view(part: Run, tables: tuple[str, ...]) -> PartView:
    return PartView(
        number=part.part or 0,
        tables=list(tables),
        status=part.status.value,
        attempt=part.attempt,
        started_at=part.started_at,
        ended_at=part.ended_at,
        duration_s=_duration(part.started_at, part.ended_at),
        error=part.error,
        error_code=part.error_code,
        attempts=[_attempt_view(part, attempt) for attempt in _attempts(part)],
    )


def _stream_view(stream: StreamReport, *, until: datetime | None, states: bool) -> StreamView:
    if not states:
        stream = msgspec.structs.replace(stream, state_before=None, state_after=None)
    own = {
        "snapshot_ids": [str(i) for i in stream.snapshot_ids],
        "duration_s": _duration(stream.started_at, stream.ended_at or until),
        "state_before": _state_view(stream.state_before),
        "state_after": _state_view(stream.state_after),
        "state_diff": _diff_view(stream.state_before, stream.state_after),
    }
    return StreamView(**(msgspec.structs.asdict(stream) | own))


def _state_view(state: ReportedState | None) -> StateView | None:
    if state is None:
        return None
    return StateView(value=_value(state), withheld=state.withheld, bytes=state.bytes, sha256=state.sha256)


def _value(state: ReportedState | None) -> Any:  # noqa: ANN401 - JSON
    return None if state is None or state.text is None else msgspec.json.decode(state.text)


def _diff_view(before: ReportedState | None, after: ReportedState | None) -> StateDiffView | None:
    """A stream that begins at its beginning has a state without members."""
    if after is None or after.withheld or (before is not None and before.withheld):
        return None
    found = state_diff({} if before is None else _value(before), _value(after))

    def members(changes: list[Change], value: str) -> list[MemberView]:
        return [MemberView(pointer=c.pointer, value=getattr(c, value)) for c in changes]

    return StateDiffView(
        added=members(found.added, "after"),
        changed=[ChangeView(pointer=c.pointer, before=c.before, after=c.after) for c in found.changed],
        removed=members(found.removed, "before"),
        more=found.more,
    )


def _duration(started: datetime | None, ended: datetime | None) -> float | None:
    """Seconds, until now when it goes on."""
    if started is None:
        return None
    return round(max(((ended or datetime.now(UTC)) - started).total_seconds(), 0.0), 3)
