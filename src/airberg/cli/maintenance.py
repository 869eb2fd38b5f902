"""The commands `airberg tables ...` and their arguments; what they do is in `airberg.cli.upkeep`.

`airberg tables show` is in `airberg.cli.tables`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Annotated
from uuid import UUID

import typer

from airberg.cli.logs import log_to_stderr
from airberg.settings import load_settings

Tables = Annotated[list[str] | None, typer.Argument(help="Dotted names of tables.")]
Job = Annotated[UUID | None, typer.Option(help="All tables of this job.")]
Every = Annotated[bool, typer.Option("--all", help="All tables of all jobs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON object for each table, logs to stderr.")]


def add_upkeep_commands(app: typer.Typer) -> None:
    """Add the commands that look after tables."""
    app.command("report")(_report)
    app.command("compact")(_command("Write small data files, and files with many deletes, anew.", "compact"))
    app.command("manifests")(_command("Write many small manifests as few, by partition.", "manifests"))
    app.command("expire")(
        _command("Take old snapshots out of tables, and delete the files that only they reached.", "expire")
    )
    app.command("orphans")(_orphans)
    everything = (
        "Do everything that is due: compact, manifests, expire, orphans. The exit code says whether to retry."
    )
    app.command("upkeep")(_command(everything, "compact", "manifests", "expire", "orphans"))
    app.command("jobs")(_jobs)
    app.command("show")(_show)


def _report(tables: Tables = None, job: Job = None, every: Every = False, as_json: AsJson = False) -> None:
    """Show files, sizes, deletes and snapshots of tables, and what upkeep would do."""
    _start(("report",), tables, job, every, dry_run=True, as_json=as_json)


def _command(does: str, *names: str) -> Callable[..., None]:
    """A command that carries out tasks of upkeep and has no options of its own."""

    def command(
        tables: Tables = None,
        job: Job = None,
        every: Every = False,
        dry_run: DryRun = False,
        as_json: AsJson = False,
    ) -> None:
        _start(names, tables, job, every, dry_run=dry_run, as_json=as_json)

    command.__doc__ = does
    return command


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


def _show(
    table: Annotated[str, typer.Argument(help="Dotted name of the table.")],
    decrypt: Annotated[
        list[str] | None, typer.Option(help="Encrypted column to show decrypted; nested with dots.")
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="How many rows to show.")] = 5,
) -> None:
    """Show a table: schema, row count, snapshots, first rows; encrypted columns decrypted for who may.

    AIRBERG_TOKEN has the access token of the reader, for keys that not everybody may use.
    """
    from airberg.cli.tables import print_table

    print_table(load_settings(), table, rows, encryption=True, decrypt=decrypt or ())


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
    log_to_stderr(settings)
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
