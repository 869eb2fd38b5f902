"""`airberg tables report|compact|manifests|expire|orphans|upkeep`: what they do, behind their arguments."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn
from uuid import UUID

import typer
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from airberg.cli.parent import die_with_parent
from airberg.errors import ConfigurationFailed, NotFound
from airberg.jobs.open import open_store
from airberg.lake.catalog import open_catalog
from airberg.lake.tables import find_table
from airberg.lake.upkeep.neighbours import survey
from airberg.lake.upkeep.policy import DAY_MS, Policy, deployment_policy
from airberg.lake.upkeep.report import TableReport
from airberg.lake.upkeep.run import Keeper, Outcome, TableUpkeep, Task, failure_of
from airberg.settings import Settings

_OLD_SPILL_S = 2 * 86_400
_REPORT = """\
{table}: version {format_version}, {rows:,} rows, {snapshots:,} snapshots, {manifests:,} manifests
  data files {data_files:,} ({data_size}), small {small_files:,}, many deletes {files_with_many_deletes:,}
  delete files {delete_files:,} ({delete_size}), deleted rows {deleted_rows:,}
  compact: {compact_files:,} files ({compact_size}), {compact_delete_files:,} delete files for no rows
  manifests: {rewrite_manifests:,} to write together
  expire: {expire_snapshots:,} snapshots"""


def look_after_tables(
    settings: Settings,
    tasks: Sequence[Task],
    *,
    tables: Sequence[str],
    job: UUID | None,
    every: bool,
    dry_run: bool,
    as_json: bool,
    orphan_age_days: float | None = None,
    force: bool = False,
) -> None:
    """Do some tasks to the tables that were named, and print a line (or a JSON object) for each.

    Args:
        settings: Of the deployment.
        tasks: What to do, in order.
        tables: Dotted names.
        job: All tables of this job.
        every: All tables of all jobs.
        dry_run: Only say what would be done.
        as_json: Print JSON, an object a line.
        orphan_age_days: Instead of that of the settings.
        force: Take an age of less than a day.

    Raises:
        NotFound: There is no such table or job.
        ConfigurationFailed, TransientFailed: The tables are named in no way, or in several; or something
            failed, and everything else was done.
    """
    if sum([bool(tables), job is not None, every]) != 1:
        raise ConfigurationFailed(
            "It is not said, or said twice, which tables are meant.",
            guidance="Name tables, or one job (--job), or all of them (--all).",
            code="tables-not-named",
        )
    policy = deployment_policy(settings)
    if orphan_age_days is not None:
        policy = _with_age(policy, orphan_age_days)
    _clear_old(settings.upkeep_spill_dir)
    catalog = open_catalog(settings)
    keeper = Keeper(
        catalog,
        policy,
        lambda: survey(catalog),
        lambda: _writing_since(settings),
        spill_dir=settings.upkeep_spill_dir,
        dry_run=dry_run,
        force=force,
    )
    failed: list[TableUpkeep] = []
    for table in _chosen(settings, catalog, tables, job, every):
        done = keeper.look_after(table, tasks)
        if done.failures:
            failed.append(done)
        _print(done, dry_run=dry_run, as_json=as_json)
    if (failure := failure_of(failed)) is not None:
        if as_json:  # each failure stands in its object
            raise typer.Exit(failure.exit_code)
        raise failure


def end_politely() -> None:
    """End with the process that started us, and remove temporary files when that is asked of us."""
    die_with_parent()
    signal.signal(signal.SIGTERM, _end)


def _end(_signal: int, _frame: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def _with_age(policy: Policy, days: float) -> Policy:
    from msgspec.structs import replace

    return replace(policy, orphan_age_ms=int(days * DAY_MS))


def _clear_old(folder: Path) -> None:
    """Remove what upkeep left behind that was killed; another one may be running."""
    for left in folder.glob("upkeep-*") if folder.exists() else ():
        with contextlib.suppress(OSError):
            if left.stat().st_mtime < time.time() - _OLD_SPILL_S:
                shutil.rmtree(left, ignore_errors=True)


# ---- which tables ------------------------------------------------------------------------------------------


def _chosen(
    settings: Settings, catalog: Catalog, tables: Sequence[str], job: UUID | None, every: bool
) -> Iterator[Table]:
    for dotted in dict.fromkeys(tables):
        *namespace, name = dotted.split(".")
        found = find_table(catalog, tuple(namespace), name) if namespace else None
        if found is None:
            raise NotFound(f"There is no table {dotted!r}.", guidance="Check the name: schema.table.")
        yield found
    if job is not None or every:
        for namespace_, name in _tables_of_jobs(settings, job):
            if (found := find_table(catalog, namespace_, name)) is not None:  # else no run has made it yet
                yield found


def _tables_of_jobs(settings: Settings, job_id: UUID | None) -> list[tuple[tuple[str, ...], str]]:
    """The tables of a job, or of all; each once, though several jobs write it."""
    with contextlib.closing(open_store(settings)) as store:
        jobs = store.jobs() if job_id is None else [store.job(job_id)]
    plans = [job.plan for job in jobs if job.plan is not None]  # no plan: no run has begun
    return sorted({(plan.namespace, stream.table) for plan in plans for stream in plan.streams})


def _writing_since(settings: Settings) -> int | None:
    """When the oldest run began that is alive: its files are named by nothing until it commits."""
    with contextlib.closing(open_store(settings)) as store:
        began = [
            run.started_at
            for run in store.open_runs()
            if run.started_at is not None and store.lease(run.job_id) is not None
        ]
    return int(min(began).timestamp() * 1000) if began else None


# ---- what is shown -----------------------------------------------------------------------------------------


def _print(done: TableUpkeep, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        shown = {
            "table": done.table,
            "dry_run": dry_run,
            **{task.value: asdict(outcome) for task, outcome in done.outcomes.items()},
            "errors": [
                {"task": task.value, "code": e.code, "message": e.message, "guidance": e.guidance}
                for task, e in done.failures.items()
            ],
        }
        typer.echo(json.dumps(shown))
        return
    for task, outcome in done.outcomes.items():
        if isinstance(outcome, TableReport):
            typer.echo(_report_text(done.table, outcome))
        else:
            typer.echo(f"{done.table}: {task.value}{' (dry run)' if dry_run else ''}: {_text(outcome)}")
    for task, error in done.failures.items():
        typer.echo(f"{done.table}: {task.value} failed: {error.sentence()}")


def _text(outcome: Outcome) -> str:
    """The counts of an outcome that are not zero."""
    said = [
        f"{name.replace('_', ' ')} {value:,}"
        for name, value in asdict(outcome).items()
        if isinstance(value, int) and value
    ]
    return ", ".join(said) or "nothing to do"


def _report_text(table: str, found: TableReport) -> str:
    return _REPORT.format(
        table=table,
        data_size=_size(found.data_bytes),
        delete_size=_size(found.delete_bytes),
        compact_size=_size(found.compact_bytes),
        **asdict(found),
    )


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
