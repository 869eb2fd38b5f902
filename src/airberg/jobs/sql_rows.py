"""Rows of jobs and runs, as the transactions of the store read and write them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airberg.jobs.encoding import job_columns, job_of, run_columns, run_of
from airberg.jobs.lifecycle import no_job, no_run
from airberg.jobs.model import Job, Run
from airberg.jobs.sql_finding import JOB_VALUES
from airberg.jobs.tables import jobs, runs


def stored_job(c: Connection, job_id: UUID, *, lock: bool = False) -> Job:
    """The job. Raises NotFound.

    Args:
        lock: Nobody else changes it until the end of the transaction.
    """
    query = sa.select(*JOB_VALUES).where(jobs.c.id == job_id)
    row = c.execute(query.with_for_update() if lock else query).mappings().first()
    if row is None:
        raise no_job(job_id)
    return job_of(row)


def set_job(c: Connection, job_id: UUID, values: dict[str, Any]) -> None:
    """Change columns of a job. Raises NotFound."""
    if c.execute(jobs.update().where(jobs.c.id == job_id).values(values)).rowcount == 0:
        raise no_job(job_id)


def set_outcome(c: Connection, job: Job) -> None:
    """Store what a run changes of its job."""
    changed = ("status", "status_message", "last_started_at", "last_completed_at", "last_failed_at")
    values = job_columns(job)
    set_job(c, job.id, {name: values[name] for name in changed})


def stored_run(c: Connection, run_id: UUID) -> Run:
    """The run. Raises NotFound."""
    row = c.execute(sa.select(runs).where(runs.c.id == run_id)).mappings().first()
    if row is None:
        raise no_run(run_id)
    return run_of(row)


def find_run_in(c: Connection, job_id: UUID, flow_run_id: str) -> Run | None:
    """The run of that flow run."""
    query = sa.select(runs).where(runs.c.job_id == job_id, runs.c.flow_run_id == flow_run_id)
    row = c.execute(query).mappings().first()
    return None if row is None else run_of(row)


def set_run(c: Connection, run: Run) -> None:
    """Store all of a run."""
    c.execute(runs.update().where(runs.c.id == run.id).values(run_columns(run)))
