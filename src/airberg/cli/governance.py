"""The commands `airberg governance ...`: what DataHub has, and what it is still to be told."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from airberg.settings import load_settings

if TYPE_CHECKING:
    from airberg.governance.differences import Difference
    from airberg.governance.port import MetadataSink
    from airberg.jobs.port import JobStore
    from airberg.settings import Settings

app = typer.Typer(help="Tables and flows in DataHub.", no_args_is_help=True)

OnlyJob = Annotated[UUID | None, typer.Option("--job", help="Only this job.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, an object a line.")]


@app.command("replay")
def _replay(
    job: OnlyJob = None,
    run: Annotated[
        UUID | None, typer.Option("--run", help="This run, whether DataHub was told of it or not.")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option("--since", help="Only runs that were made then or later, in UTC.")
    ] = None,
    from_files: Annotated[
        bool,
        typer.Option(help="Send the files that were written without DataHub, and do not read the tables."),
    ] = False,
    deleted: Annotated[
        bool, typer.Option("--deleted", help="No runs: only the jobs that were deleted.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Tell DataHub of runs that it was not told of, oldest first, and then of jobs that were deleted.

    Exit code 0: all were sent; 1: some were not, and stay due; 2: there is no DataHub to send to.
    """
    if deleted and (run is not None or since is not None or from_files):
        raise typer.BadParameter("it goes with --job and --json only", param_hint="--deleted")
    from airberg.governance.replay import due_runs, from_tables, replay
    from airberg.governance.sinks import open_sink
    from airberg.governance.stored import from_files as from_folder
    from airberg.lake.catalog import open_catalog

    settings = _settings_with_server()
    sink = open_sink(settings)
    moment = None if since is None else since if since.tzinfo else since.replace(tzinfo=UTC)
    found: Counter[str] = Counter()
    with _store(settings) as store:
        runs = iter(()) if deleted else due_runs(store, job_id=job, run_id=run, since=moment)
        send = (
            from_folder(settings.metadata_dir, sink)
            if from_files or deleted  # of deleted jobs alone the catalog need not be there
            else from_tables(open_catalog(settings), settings, sink)
        )
        for one in replay(store, runs, send):
            found[one.outcome] += 1
            if as_json:
                ids = {"run": str(one.run.id), "job": str(one.run.job_id)}
                _say(json.dumps(ids | {"outcome": one.outcome, "words": one.words}))
            else:
                _say(f"run {one.run.id} of job {one.run.job_id}: {_WORDS[one.outcome]}{one.words}")
        if run is None and not found["away"]:
            _tell_deleted(store, settings, sink, job, found, as_json=as_json)
    if not as_json:
        sent = found["sent"] + found["history"] + found["removed"]
        _say(f"{sent} sent, {found['failed'] + found['away']} not")
    if found["failed"] or found["away"]:
        raise typer.Exit(1)


def _tell_deleted(
    store: JobStore,
    settings: Settings,
    sink: MetadataSink,
    job_id: UUID | None,
    found: Counter[str],
    *,
    as_json: bool,
) -> None:
    from airberg.governance.retire import tell_deleted_jobs

    for one in tell_deleted_jobs(store, settings.datahub, sink, job_id=job_id):
        outcome = "removed" if one.error is None else "away" if one.away else "failed"
        found[outcome] += 1
        if as_json:
            about = {"run": None, "job": str(one.job.id), "outcome": outcome, "words": one.error or ""}
            _say(json.dumps(about))
        else:
            _say(f"deleted job {one.job.id}: {f'not sent: {one.error}' if one.error else 'removed'}")


@app.command("diff")
def _diff(
    job: OnlyJob = None,
    table: Annotated[str | None, typer.Option("--table", help="Only this table, by its dotted name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what DataHub has against what it should have; tags and owners of people are shown as kept.

    Exit code 0: nothing differs; 1: something does, or DataHub does not answer; 2: there is nothing to ask.
    """
    from airberg.governance.compare import compare
    from airberg.governance.sinks import open_connection
    from airberg.lake.catalog import open_catalog

    settings = _settings_with_server()
    found: Counter[str] = Counter()
    with _store(settings) as store, open_connection(settings) as datahub:
        jobs = store.jobs() if job is None else [store.job(job)]
        for one in compare(store, jobs, open_catalog(settings), settings, datahub, table=table):
            for difference in one.found:
                found[difference.kind] += 1
                _say(
                    json.dumps({"job": str(one.job.id), "run": str(one.run.id)} | asdict(difference))
                    if as_json
                    else _line(difference)
                )
    kept = found.pop("kept", 0)
    if not as_json:
        _say(f"{found.total()} difference(s), {kept} of people kept")
    if found.total():
        raise typer.Exit(1)


def _line(difference: Difference) -> str:
    at = f"{difference.urn} {difference.aspect}{difference.pointer}"
    expected, there = difference.expected, difference.found
    return {
        "missing": f"missing    {at}: {expected}",
        "different": f"different  {at}: {there} instead of {expected}",
        "extra": f"extra      {at}: {there}",
        "kept": f"kept       {at}: {there}",
    }[difference.kind]


_WORDS = {
    "sent": "sent to ",
    "history": "what it did was sent, later runs tell the rest, to ",
    "failed": "not sent: ",
    "away": "not sent, nor any after it: ",
}


def _settings_with_server() -> Settings:
    from airberg.errors import ConfigurationFailed

    settings = load_settings()
    if settings.datahub.server is None:
        raise ConfigurationFailed(
            "No DataHub is configured.",
            guidance="Set AIRBERG_DATAHUB__SERVER to its metadata service.",
            code="no-datahub",
        )
    return settings


@contextlib.contextmanager
def _store(settings: Settings) -> Iterator[JobStore]:
    from airberg.jobs.open import open_store

    with contextlib.closing(open_store(settings)) as store:
        yield store


def _say(text: str) -> None:
    """Print what does not steer the terminal."""
    typer.echo("".join(c if c.isprintable() else "?" for c in text))
