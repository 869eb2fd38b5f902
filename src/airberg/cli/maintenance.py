"""The commands `airberg tables ...` and their arguments; what they do is in `airberg.cli.upkeep`."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import typer

from airberg.settings import Settings, load_settings

Tables = Annotated[list[str] | None, typer.Argument(help="Dotted names of tables.")]
Job = Annotated[UUID | None, typer.Option(help="All tables of this job.")]
Every = Annotated[bool, typer.Option("--all", help="All tables of all jobs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON object for each table, logs to stderr.")]


def add_upkeep_commands(app: typer.Typer) -> None:
    """Add the commands that look after tables."""
    app.command("report")(_report)
    app.command("compact")(_compact)
    app.command("manifests")(_manifests)
    app.command("expire")(_expire)
    app.command("orphans")(_orphans)
    app.command("upkeep")(_upkeep)
    app.command("jobs")(_jobs)


def _report(tables: Tables = None, job: Job = None, every: Every = False, as_json: AsJson = False) -> None:
    """Show files, sizes, deletes and snapshots of tables, and what upkeep would do."""
    _start(("report",), tables, job, every, dry_run=True, as_json=as_json)


def _compact(
    tables: Tables = None,
    job: Job = None,
    every: Every = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write small data files, and files with many deletes, anew."""
    _start(("compact",), tables, job, every, dry_run=dry_run, as_json=as_json)


def _manifests(
    tables: Tables = None,
    job: Job = None,
    every: Every = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write many small manifests as few, by partition."""
    _start(("manifests",), tables, job, every, dry_run=dry_run, as_json=as_json)


def _expire(
    tables: Tables = None,
    job: Job = None,
    every: Every = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Take old snapshots out of tables, and delete the files that only they reached."""
    _start(("expire",), tables, job, every, dry_run=dry_run, as_json=as_json)


def _orphans(
    tables: Tables = None,
    job: Job = None,
    every: Every = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    older_than_days: Annotated[
        float | None, typer.Option(min=0, help="Age in days; default that of the settings.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Take an age below a day: only where nothing else writes.")
    ] = False,
) -> None:
    """Delete old files in the folders of tables that nothing names."""
    _start(
        ("orphans",),
        tables,
        job,
        every,
        dry_run=dry_run,
        as_json=as_json,
        older_than_days=older_than_days,
        force=force,
    )


def _upkeep(
    tables: Tables = None,
    job: Job = None,
    every: Every = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Do everything that is due: compact, manifests, expire, orphans. The exit code says whether to retry."""
    steps = ("compact", "manifests", "expire", "orphans")
    _start(steps, tables, job, every, dry_run=dry_run, as_json=as_json)


def _jobs() -> None:
    """Print the ids of the jobs that have run: what the task `jobs` of the flow `airberg_upkeep` starts."""
    from airberg.jobs.open import open_store
    from airberg.jobs.upkeep import jobs_to_look_after

    with contextlib.closing(open_store(load_settings())) as store:
        for job_id in jobs_to_look_after(store):
            typer.echo(job_id)


def _start(
    names: Sequence[str],
    tables: Sequence[str] | None,
    job: UUID | None,
    every: bool,
    *,
    dry_run: bool,
    as_json: bool,
    older_than_days: float | None = None,
    force: bool = False,
) -> None:
    from airberg.cli.upkeep import end_politely, look_after_tables
    from airberg.lake.upkeep.run import Task

    settings = load_settings()
    _log_to_stderr(settings)
    end_politely()
    look_after_tables(
        settings,
        [Task(name) for name in names],
        tables=tables or (),
        job=job,
        every=every,
        dry_run=dry_run or settings.upkeep.dry_run,
        as_json=as_json,
        orphan_age_days=older_than_days,
        force=force,
    )


def _log_to_stderr(settings: Settings) -> None:
    """Standard output is what was asked for."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "pyiceberg", "sqlalchemy", "alembic", "datahub"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
