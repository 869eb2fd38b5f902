"""The commands `airberg runs ...`: what runs did, and their logs, from the job store."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import typer

from airberg.settings import load_settings

if TYPE_CHECKING:
    from airberg.api.run_views import RunSummary, StreamView
    from airberg.jobs.port import JobStore
    from airberg.jobs.run_logs import StoredLine

app = typer.Typer(help="Runs of jobs, and their logs.", no_args_is_help=True)

FOLLOW_EVERY_S = 1.0
LINES_AT_ONCE = 1_000

JobId = Annotated[UUID, typer.Argument(help="Id of the job.")]
RunId = Annotated[UUID, typer.Argument(help="Id of the run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, an object a line.")]
Status = Literal["queued", "running", "completed", "failed", "cancelled"]


@app.command("list")
def _list(
    job: JobId,
    status: Annotated[Status | None, typer.Option(help="Only runs of this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many of the newest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the runs of a job, newest first."""
    from airberg.api.run_views import run_summary
    from airberg.jobs.model import RunStatus

    with _store() as store:
        store.job(job)  # to say so, when there is none
        found = store.runs(job, limit=limit, status=None if status is None else RunStatus(status))
    shown = [run_summary(run) for run in found]
    if as_json:
        for run in shown:
            typer.echo(run.model_dump_json())
        return
    head = ("run", "status", "attempt", "started", "seconds", "read", "written", "deleted")
    _print_table(head, [_row(run) for run in shown])


def _row(run: RunSummary) -> tuple[object, ...]:
    counts = (f"{n:,}" for n in (run.rows_read, run.rows_written, run.rows_deleted))
    return (run.id, run.status, run.attempt, _time(run.started_at), _seconds(run.duration_s), *counts)


@app.command("show")
def _show(run: RunId, as_json: AsJson = False) -> None:
    """Show what a run did: its tables, from which state to which, its attempts, why it failed."""
    from airberg.api.run_views import run_view
    from airberg.flows.model import flow_url

    settings = load_settings()
    with _store() as store:
        found = store.run(run)
        flow_id = store.job(found.job_id).flow_id
    shown = run_view(found, flow_url(settings, flow_id))
    if as_json:
        typer.echo(shown.model_dump_json())
        return
    _say(f"run {shown.id}: {shown.status}, attempt {shown.attempt}, {_seconds(shown.duration_s)} s")
    if shown.error:
        _say(f"error: {shown.error} ({shown.error_code}; see {shown.error_page})")
    for attempt in shown.attempts:
        why = f": {attempt.error} {attempt.guidance or ''}".rstrip() if attempt.error else ""
        _say(f"attempt {attempt.number}: {attempt.status}, {_seconds(attempt.duration_s)} s{why}")
    for stream in shown.streams:
        _show_stream(stream)


def _show_stream(stream: StreamView) -> None:
    _say(
        f"{stream.stream} -> {stream.table}: {stream.phase}, {stream.rows_read:,} read, "
        f"{stream.rows_written:,} written, {stream.rows_deleted:,} deleted, {stream.values_nulled:,} nulled, "
        f"{_seconds(stream.duration_s)} s, {stream.rows_per_s:,.0f} rows/s"
    )
    if stream.snapshot_ids:
        _say(f"  snapshots: {', '.join(stream.snapshot_ids)}")
    if stream.state_after is not None and stream.state_after.withheld:
        moved = "moved" if stream.state_changed else "as before"
        _say(f"  state: {moved}; not shown ({stream.state_after.withheld})")
    if stream.state_diff is None:
        return
    for change in stream.state_diff.changed:
        _say(f"  state {change.pointer}: {_json(change.before)} -> {_json(change.after)}")
    for member in stream.state_diff.added:
        _say(f"  state {member.pointer}: {_json(member.value)}")
    for member in stream.state_diff.removed:
        _say(f"  state {member.pointer}: {_json(member.value)} -> gone")
    if stream.state_diff.more:
        _say(f"  state: {stream.state_diff.more} more differences")


@app.command("logs")
def _logs(
    run: RunId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], typer.Option(help="Only lines of this level or above.")
    ] = "DEBUG",
    tail: Annotated[int | None, typer.Option(min=1, help="Only so many of the last lines.")] = None,
) -> None:
    """Print the log of a run, over all its attempts."""
    from airberg.jobs.run_logs import text_of

    min_level = logging.getLevelNamesMapping()[level]
    with _store() as store:
        store.run(run)
        for line in _lines(store, run, min_level, tail, follow=follow):
            _say(text_of(line))


def _lines(
    store: JobStore, run_id: UUID, min_level: int, tail: int | None, *, follow: bool
) -> Iterator[StoredLine]:
    position = 0
    if tail is not None:
        newest = store.run_logs.read(run_id, limit=tail, min_level=min_level, newest=True)
        yield from newest
        if not follow:
            return
        position = newest[-1].seq if newest else 0
    while True:
        # In this order: a run's last lines are stored before its end is.
        ended = store.run(run_id).status.ended
        lines = store.run_logs.read(run_id, after=position, limit=LINES_AT_ONCE, min_level=min_level)
        yield from lines
        if lines:
            position = lines[-1].seq
        elif ended or not follow:
            return
        else:
            time.sleep(FOLLOW_EVERY_S)


@app.command("prune")
def _prune(
    older_than_days: Annotated[
        float | None, typer.Option(min=0, max=36_500, help="Age in days; default that of the settings.")
    ] = None,
) -> None:
    """Remove old logs of runs; `airberg serve` does so every hour."""
    from datetime import UTC, datetime, timedelta

    days = load_settings().run_logs.keep_days if older_than_days is None else older_than_days
    with _store() as store:
        removed = store.run_logs.prune(datetime.now(UTC) - timedelta(days=days))
    typer.echo(f"{removed} line(s) removed")


# ---- what is printed -------------------------------------------------------------------------------------


@contextlib.contextmanager
def _store() -> Iterator[JobStore]:
    from airberg.jobs.open import open_store

    with contextlib.closing(open_store(load_settings())) as store:
        yield store


def _print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    lines = [head, *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        _say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _say(text: str) -> None:
    """Print what does not steer the terminal."""
    typer.echo("".join(c if c.isprintable() or c in "\n\t" else "?" for c in text))


def _json(value: object) -> str:
    import msgspec

    return msgspec.json.encode(value).decode()


def _time(at: Any) -> str:  # noqa: ANN401 - a datetime, which is not imported for the sake of a name
    return "-" if at is None else f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _seconds(duration: float | None) -> str:
    return "-" if duration is None else f"{duration:,.1f}"
