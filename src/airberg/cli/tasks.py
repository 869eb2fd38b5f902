"""The commands that a flow's tasks start: `plan`, `sync` and `register`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from uuid import UUID

import msgspec

from airberg.cli.parent import die_with_parent
from airberg.errors import AirbergError, ConfigurationFailed
from airberg.flows.changed_tables import write_changed_tables
from airberg.flows.planned_parts import write_parts
from airberg.jobs.model import RunRequest, RunStatus
from airberg.jobs.open import open_store
from airberg.jobs.port import JobStore
from airberg.keys.open import open_keys
from airberg.lake.catalog import open_catalog
from airberg.logs.context import note_for_process
from airberg.settings import Settings
from airberg.sync.backends import Backends
from airberg.sync.run import plan_run, run_part, run_sync

log = logging.getLogger(__name__)

DELETED_AT_ONCE = 10
"""Deleted jobs that DataHub is told of at the end of a run."""


def sync_job(
    settings: Settings,
    job_id: UUID,
    flow_run_id: str,
    attempt: int,
    *,
    part: int | None = None,
    asked: RunRequest | None = None,
) -> None:
    """Run a job once, or do a part of a run that was planned.

    Args:
        settings: Of the deployment.
        job_id: The job.
        flow_run_id: The orchestrator's id of the run.
        attempt: Number of the attempt, from 1.
        part: Number of the part; None: a whole run.
        asked: What is asked of a whole run, if nobody has announced it.

    Raises:
        RunError: It did not succeed.
    """
    die_with_parent()
    of_part = {} if part is None else {"part": str(part)}
    note_for_process(job_id=str(job_id), flow_run_id=flow_run_id, attempt=str(attempt), **of_part)
    with _backends(settings) as backends:
        if part is None:
            run = run_sync(backends, job_id, flow_run_id, attempt, asked=asked)
        else:
            run = run_part(backends, job_id, flow_run_id, part, attempt)
        write_changed_tables(backends.store.job(job_id), run, settings)


def plan_job(
    settings: Settings,
    job_id: UUID,
    flow_run_id: str,
    attempt: int,
    *,
    asked: RunRequest | None = None,
) -> None:
    """Begin a run and share its tables out among parts.

    Args:
        settings: Of the deployment.
        job_id: The job.
        flow_run_id: The orchestrator's id of the run.
        attempt: Number of the attempt, from 1.
        asked: What is asked of the run, if nobody has announced it.

    Raises:
        RunError: It did not succeed.
    """
    die_with_parent()
    note_for_process(job_id=str(job_id), flow_run_id=flow_run_id, attempt=str(attempt))
    with _backends(settings) as backends:
        run = plan_run(backends, job_id, flow_run_id, attempt, asked=asked)
    for part in run.report.parts:
        log.info("part %d: %s", part.number, ", ".join(part.tables))
    write_parts(run.report.parts)


@contextlib.contextmanager
def _backends(settings: Settings) -> Iterator[Backends]:
    with contextlib.closing(open_store(settings)) as store:
        yield Backends(
            settings=settings,
            store=store,
            keys=open_keys(settings),
            catalog=open_catalog(settings),
            sealer=store.sealer,
        )


def register_tables(settings: Settings, job_id: UUID, flow_run_id: str, attempt: int) -> None:
    """Register the tables of a run; what goes wrong is shown on the run and never undoes the load.

    Raises:
        RunError: It did not succeed; the flow tries again.
    """
    from airberg.governance.later import later_runs
    from airberg.governance.register import register_run  # not needed by a sync, and takes its time
    from airberg.governance.sinks import open_sink

    die_with_parent()
    note_for_process(job_id=str(job_id), flow_run_id=flow_run_id, attempt=str(attempt))
    with contextlib.closing(open_store(settings)) as store:
        job = store.job(job_id)
        run = store.find_run(job_id, flow_run_id)
        if run is None or run.status is not RunStatus.COMPLETED:
            raise ConfigurationFailed("There is no completed run to register.", code="no-run")
        try:
            later = later_runs(store, job, run)
            where = register_run(job, run, open_catalog(settings), settings, open_sink(settings), later)
        except AirbergError as e:
            failed = msgspec.structs.replace(run.report, metadata_error=e.sentence())
            store.report_run(run.id, failed)
            raise
        store.report_run(run.id, msgspec.structs.replace(run.report, metadata=where, metadata_error=None))
        log.info("metadata: %s", where)
        if settings.datahub.server is not None:
            _tell_deleted_jobs(store, settings)


def _tell_deleted_jobs(store: JobStore, settings: Settings) -> None:
    """Now that DataHub is there: of jobs that were deleted. What fails is left to the next run of any job."""
    from airberg.governance.retire import tell_deleted_jobs
    from airberg.governance.sinks import open_sink

    try:
        for one in tell_deleted_jobs(store, settings.datahub, open_sink(settings), limit=DELETED_AT_ONCE):
            log.info("deleted job %s: %s", one.job.id, one.error or "DataHub was told")
    except AirbergError as e:
        log.warning("DataHub could not be told of deleted jobs: %s", e.sentence())
