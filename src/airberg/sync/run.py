"""One run of a job, from lease to report: what `airberg sync JOB_ID` and `airberg plan JOB_ID` do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from airberg.errors import ConfigurationFailed, LeaseHeld, RunError
from airberg.governance.openlineage.story import open_story
from airberg.jobs.model import Job, Run, RunRequest, RunStatus
from airberg.sync.attempts import record_end
from airberg.sync.backends import Backends
from airberg.sync.failure import as_run_error
from airberg.sync.kept_log import kept_log
from airberg.sync.lease import job_lease
from airberg.sync.record import PartOfRun, RunRecord, WholeRun
from airberg.sync.session import Session

log = logging.getLogger(__name__)

T = TypeVar("T")


def run_sync(
    backends: Backends,
    job_id: UUID,
    flow_run_id: str,
    attempt: int,
    *,
    asked: RunRequest | None = None,
) -> Run:
    """Run a job once and record how it went.

    Args:
        backends: What it works with.
        job_id: The job.
        flow_run_id: The orchestrator's id of the run; attempts of one run share it.
        attempt: Number of the attempt, from 1.
        asked: What is asked of the run, if nobody has announced it.

    Raises:
        RunError: The run did not succeed; its branch says whether a retry makes sense. The reason is
            stored with the run.
    """
    job = _living(backends, job_id)
    record = WholeRun(backends.store, job_id, flow_run_id, attempt, asked)
    return _sync(backends, job, record, f"{flow_run_id}/{attempt}")


def run_part(backends: Backends, job_id: UUID, flow_run_id: str, number: int, attempt: int) -> Run:
    """Do a part of a run that was planned, beside other parts of it, and record how it went.

    Args:
        backends: What it works with.
        job_id: The job.
        flow_run_id: The orchestrator's id of the run.
        number: Of the part.
        attempt: Number of the attempt of this part, from 1.

    Returns:
        The part, as a run.

    Raises:
        RunError: The part did not succeed, or the run has none of that number.
    """
    job = _living(backends, job_id)
    record = PartOfRun(backends.store, job_id, flow_run_id, number, attempt)
    return _sync(backends, job, record, f"{flow_run_id}/{attempt}, part {number}")


def plan_run(
    backends: Backends,
    job_id: UUID,
    flow_run_id: str,
    attempt: int,
    *,
    asked: RunRequest | None = None,
) -> Run:
    """Begin a run: ask the source what it offers, make the tables ready, share them out among parts.

    Args:
        backends: What it works with.
        job_id: The job.
        flow_run_id: The orchestrator's id of the run.
        attempt: Number of the attempt, from 1.
        asked: What is asked of the run, if nobody has announced it.

    Returns:
        The run, with its parts.

    Raises:
        RunError: It did not succeed, and so the run has failed.
    """
    job = _living(backends, job_id)
    store, record = backends.store, WholeRun(backends.store, job_id, flow_run_id, attempt, asked)
    holder, seconds = f"{flow_run_id}/{attempt}, plan", backends.settings.sync.lease_seconds
    with job_lease(store, job_id, holder, seconds) as lease:
        run = record.start()
        story = open_story(backends.settings, store, backends.catalog, job, run)
        session = Session(backends, job, run, record, lease, story)
        with kept_log(store.run_logs, run, backends.settings):
            log.info("run %s of job %r is planned, attempt %d", run.id, job.request.name, attempt)
            shares, error = _outcome(session, session.share_out)
        if not shares:  # it failed, or there is nothing to sync: then it is complete
            return record_end(record, run.id, session.attempts, session.report, story, error)
        session.attempts.end(RunStatus.COMPLETED, datetime.now(UTC), None)
        record.report(run.id, session.report())
        return store.run_parts.share_out(run.id, shares)


def _living(backends: Backends, job_id: UUID) -> Job:
    job = backends.store.job(job_id)
    if job.deleted_at is not None:
        raise ConfigurationFailed("The job was deleted.", guidance="Create a new job.")
    return job


def _sync(backends: Backends, job: Job, record: RunRecord, holder: str) -> Run:
    store, seconds = backends.store, backends.settings.sync.lease_seconds
    with job_lease(store, job.id, holder, seconds, tables=record.tables) as lease:
        run = record.start()
        story = open_story(backends.settings, store, backends.catalog, job, run)
        session = Session(backends, job, run, record, lease, story)
        # Its log is kept before its end is: who follows the log stops at the end.
        with kept_log(store.run_logs, run, backends.settings):
            what = f"run {run.id}" if run.part is None else f"part {run.part} of run {run.id}"
            log.info("%s of job %r, attempt %d", what, job.request.name, run.attempt)
            _, error = _outcome(session, session.execute)
            if error is None:
                _log_rows(session)
        return record_end(record, run.id, session.attempts, session.report, story, error)


def _outcome(session: Session, work: Callable[[], T]) -> tuple[T | None, RunError | None]:
    """Do the work; what came of it, or what ended it.

    Raises:
        LeaseHeld: The run belongs to another process now, which will report it.
    """
    try:
        return work(), None
    except LeaseHeld:
        raise
    except Exception as e:  # noqa: BLE001 - whatever it is, the run must not stay "running"
        error = as_run_error(e, session.texts)
        log.error("failed (%s): %s", error.code, error.sentence())
        return None, error


def _log_rows(session: Session) -> None:
    streams = session.report().streams
    written, deleted = sum(s.rows_written for s in streams), sum(s.rows_deleted for s in streams)
    log.info("completed: %s rows written, %s deleted", f"{written:,}", f"{deleted:,}")
