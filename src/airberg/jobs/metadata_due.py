"""What a server of metadata is still to be told of: runs, and the ends of jobs.

Part of the job store, so that it is noted in the transaction that makes it due, and survives whatever the
server does meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from airberg.jobs.encoding import job_of, run_of
from airberg.jobs.engine import Transactions
from airberg.jobs.finding import Place
from airberg.jobs.lifecycle import no_job
from airberg.jobs.model import Job, Run
from airberg.jobs.sql_finding import JOB_VALUES, newer
from airberg.jobs.tables import jobs, runs


class MetadataDue(Protocol):
    """Finds what is due; runs stop being due with their report."""

    def runs(
        self,
        *,
        job_id: UUID | None = None,
        since: datetime | None = None,
        after: Place | None = None,
        limit: int = 100,
    ) -> Sequence[Run]:
        """Completed runs whose metadata no server has (`Run.metadata_due`), oldest first.

        Args:
            job_id: Only those of this job.
            since: Only those that were made then or later.
            after: Only those that are newer than the run at that place.
            limit: At most so many.
        """
        ...

    def deleted_jobs(self, *, job_id: UUID | None = None, limit: int = 100) -> Sequence[Job]:
        """Deleted jobs of whose end no server was told, oldest first."""
        ...

    def job_told(self, job_id: UUID) -> None:
        """A server was told that the job is deleted. Raises NotFound."""
        ...


class SqlMetadataDue:
    """Implements `MetadataDue` beside `airberg.jobs.sql.SqlJobStore`."""

    def __init__(self, engine: Engine) -> None:
        self._transactions = Transactions(engine)

    def runs(
        self,
        *,
        job_id: UUID | None = None,
        since: datetime | None = None,
        after: Place | None = None,
        limit: int = 100,
    ) -> Sequence[Run]:
        """See `MetadataDue.runs`."""
        # literal text: a bound parameter would keep the databases from using the partial index
        query = sa.select(runs).where(sa.text("runs.metadata_due"))
        if job_id is not None:
            query = query.where(runs.c.job_id == job_id)
        if since is not None:
            query = query.where(runs.c.created_at >= since)
        if after is not None:
            query = query.where(newer(runs, after))
        query = query.order_by(runs.c.created_at, runs.c.id).limit(limit)
        with self._transactions.read() as c:
            return [run_of(row) for row in c.execute(query).mappings()]

    def deleted_jobs(self, *, job_id: UUID | None = None, limit: int = 100) -> Sequence[Job]:
        """See `MetadataDue.deleted_jobs`."""
        query = sa.select(*JOB_VALUES).where(sa.text("jobs.metadata_due"))
        if job_id is not None:
            query = query.where(jobs.c.id == job_id)
        query = query.order_by(jobs.c.created_at, jobs.c.id).limit(limit)
        with self._transactions.read() as c:
            return [job_of(row) for row in c.execute(query).mappings()]

    def job_told(self, job_id: UUID) -> None:
        """See `MetadataDue.job_told`."""
        change = jobs.update().where(jobs.c.id == job_id).values(metadata_due=False)
        with self._transactions.write() as c:
            if c.execute(change).rowcount == 0:
                raise no_job(job_id)


class MemoryMetadataDue:
    """Implements `MetadataDue` beside `airberg.jobs.memory.MemoryJobStore`, on its values.

    Args:
        jobs: All jobs.
        runs: All runs.
        untold: Deleted jobs of whose end no server was told.
        lock: The store's.
    """

    def __init__(
        self,
        jobs: Mapping[UUID, Job],
        runs: Mapping[UUID, Run],
        untold: set[UUID],
        lock: AbstractContextManager[object],
    ) -> None:
        self._jobs, self._runs, self._untold, self._lock = jobs, runs, untold, lock

    def runs(
        self,
        *,
        job_id: UUID | None = None,
        since: datetime | None = None,
        after: Place | None = None,
        limit: int = 100,
    ) -> Sequence[Run]:
        """See `MetadataDue.runs`."""
        with self._lock:
            found = [run for run in self._runs.values() if run.metadata_due and job_id in (None, run.job_id)]
        found = [run for run in found if since is None or run.created_at >= since]
        if after is not None:
            found = [run for run in found if _place(run) > _place(after)]
        return sorted(found, key=_place)[:limit]

    def deleted_jobs(self, *, job_id: UUID | None = None, limit: int = 100) -> Sequence[Job]:
        """See `MetadataDue.deleted_jobs`."""
        with self._lock:
            found: Collection[Job] = [self._jobs[i] for i in self._untold if job_id in (None, i)]
        return sorted(found, key=_place)[:limit]

    def job_told(self, job_id: UUID) -> None:
        """See `MetadataDue.job_told`."""
        with self._lock:
            if job_id not in self._jobs:
                raise no_job(job_id)
            self._untold.discard(job_id)


def _place(item: Job | Run | Place) -> tuple[datetime, str]:
    return item.created_at, item.id.hex
