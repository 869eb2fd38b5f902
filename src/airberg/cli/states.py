"""`airberg state show|delete` and `airberg rewind`: where a job stands, and going back to an earlier run."""

from __future__ import annotations

import contextlib
import getpass
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from airberg.cli.logs import log_to_stderr
from airberg.jobs.audit import Act
from airberg.settings import load_settings

if TYPE_CHECKING:  # it needs pyiceberg, which other commands do not
    from airberg.sync.job_tables import JobState, Rewind
    from airberg.sync.job_tables_here import JobTablesHere

state = typer.Typer(help="The state of jobs, as their tables hold it.", no_args_is_help=True)

JobId = Annotated[UUID, typer.Argument(help="Id of the job.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON object, logs to stderr.")]


@state.command("show")
def show(job: JobId, as_json: AsJson = False) -> None:
    """Show where a job stands: the state of each stream. States of protected columns are not shown."""
    with _tables() as tables:
        _print_state(tables.state(job), as_json=as_json)


@state.command("delete")
def delete(
    job: JobId,
    stream: Annotated[
        list[str] | None, typer.Option(help="Name of a stream; several times for several; default all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Forget the state of streams: the next run reads them from the start. Rows stay."""
    with _tables() as tables:
        act = _act("state.delete", job, streams=stream or ["*"])
        _print_state(tables.delete_state(job, stream or None, act=act), as_json=as_json)


def rewind(
    job: JobId,
    run: Annotated[UUID, typer.Argument(help="Id of a run of the job that has completed.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also where rows of other writers get lost; never of a job.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take all tables of a job back to what they were at the end of a run, with the state of then."""
    with _tables() as tables:
        act = _act("job.rewind", job, run=str(run), force=force)
        _print_rewind(tables.rewind(job, run, force=force, dry_run=dry_run, act=act), as_json=as_json)


@contextlib.contextmanager
def _tables() -> Iterator[JobTablesHere]:
    from airberg.jobs.open import open_store
    from airberg.lake.catalog import open_catalog
    from airberg.sync.job_tables_here import JobTablesHere

    settings = load_settings()
    log_to_stderr(settings)
    with contextlib.closing(open_store(settings)) as store:
        yield JobTablesHere(settings, store, open_catalog(settings), store.sealer)


def _act(action: str, job: UUID, **detail: object) -> Act:
    """What the audit log has of somebody at a terminal of this machine."""
    return Act(
        actor=f"command line ({getpass.getuser()})", action=action, kind="job", target=str(job), detail=detail
    )


def _print_state(found: JobState, *, as_json: bool) -> None:
    import msgspec

    if as_json:
        typer.echo(msgspec.json.encode(found))
        return
    for stream in found.streams:
        if stream.protected:
            told = "a state that is not shown, as it may hold values of protected columns"
        elif stream.state is not None:
            told = msgspec.json.encode(stream.state).decode()
        else:
            told = "no state" if stream.sync_mode == "incremental" else "read in full, no state"
        typer.echo(f"{stream.table}: checkpoint {stream.checkpoint}, {told}")
    if found.unfinished:
        typer.echo(f"unfinished, the next run completes it: {', '.join(found.unfinished)}")


def _print_rewind(found: Rewind, *, as_json: bool) -> None:
    import msgspec

    if as_json:
        typer.echo(msgspec.json.encode(found))
        return
    for table in found.tables:
        commits = f", {len(table.lost)} commits" if table.lost else ""
        typer.echo(
            f"{table.table}: {table.rows_before:,} rows -> {table.rows_after:,} rows{commits}, "
            f"snapshot {table.to_snapshot_id}"
        )
    typer.echo("done" if found.done else "dry run: nothing was changed")
