"""Numbers over all jobs, for those who watch the service: read at once, however many jobs there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from airberg.jobs.encoding import decode_struct
from airberg.jobs.engine import Transactions
from airberg.jobs.model import Job, Run, StreamReport
from airberg.jobs.tables import jobs, runs


@dataclass(frozen=True, slots=True)
class TableTotal:
    """What a run did to a table."""

    table: str
    rows_written: int
    rows_deleted: int
    bytes_written: int


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that has ended, with what is counted of it."""

    id: UUID
    job_id: UUID
    job_name: str
    status: str
    started_at: datetime | None
    ended_at: datetime
    tables: tuple[TableTotal, ...]


@dataclass(frozen=True, slots=True)
class Totals:
    """A look at all jobs.

    Attributes:
        jobs: Status → jobs that are not deleted.
        open_runs: Status → their runs that have not ended.
        ended: Runs that have ended since the moment that was asked for, in that order.
    """

    jobs: Mapping[str, int]
    open_runs: Mapping[str, int]
    ended: Sequence[EndedRun]


class TotalsReader(Protocol):
    """Reads `Totals`. That of the job store and its in-memory twin pass one behaviour suite."""

    def totals(self, ended_since: datetime, limit: int) -> Totals:
        """Look at all jobs.

        Args:
            ended_since: Runs that have ended at this moment or later are looked at one by one, the earliest
                first.
            limit: But not more than so many.
        """
        ...


class _Stream(msgspec.Struct, frozen=True):
    """Of what a report says of a stream, what is counted."""

    table: str
    rows_written: int = 0
    rows_deleted: int = 0
    bytes_written: int = 0


class _Report(msgspec.Struct, frozen=True):
    """Of a report only what is counted: the rest is not decoded."""

    streams: tuple[_Stream, ...] = ()


class SqlTotals:
    """Implements `TotalsReader` beside the job store."""

    def __init__(self, engine: Engine) -> None:
        self._transactions = Transactions(engine)

    def totals(self, ended_since: datetime, limit: int) -> Totals:
        """See `TotalsReader.totals`."""
        of_jobs = (
            sa.select(jobs.c.status, sa.func.count())
            .where(jobs.c.deleted_at.is_(None))
            .group_by(jobs.c.status)
        )
        of_runs = (
            sa.select(runs.c.status, sa.func.count())
            .where(sa.text("runs.status IN ('queued', 'running')"))  # as the partial index has it
            .group_by(runs.c.status)
        )
        ended = (
            sa.select(
                *(runs.c.id, runs.c.job_id, jobs.c.name, runs.c.status),
                *(runs.c.started_at, runs.c.ended_at, runs.c.report),
            )
            .join(jobs, jobs.c.id == runs.c.job_id)
            .where(runs.c.ended_at >= ended_since)
            .order_by(runs.c.ended_at)
            .limit(limit)
        )
        with self._transactions.read() as c:
            return Totals(
                jobs={row[0]: row[1] for row in c.execute(of_jobs)},
                open_runs={row[0]: row[1] for row in c.execute(of_runs)},
                ended=[
                    EndedRun(*row[:6], tables=_tables(decode_struct(row.report, _Report).streams))
                    for row in c.execute(ended)
                ],
            )


class MemoryTotals:
    """Implements `TotalsReader` over jobs and runs in memory."""

    def __init__(
        self, all_jobs: Mapping[UUID, Job], all_runs: Mapping[UUID, Run], lock: AbstractContextManager[object]
    ) -> None:
        self._jobs = all_jobs
        self._runs = all_runs
        self._lock = lock

    def totals(self, ended_since: datetime, limit: int) -> Totals:
        """See `TotalsReader.totals`."""
        with self._lock:
            living = [job for job in self._jobs.values() if job.deleted_at is None]
            all_runs = list(self._runs.values())
            names = {job.id: job.request.name for job in self._jobs.values()}
        ended = [_ended(run, names[run.job_id]) for run in all_runs if run.ended_at is not None]
        late = sorted((run for run in ended if run.ended_at >= ended_since), key=lambda run: run.ended_at)
        return Totals(
            jobs=Counter(job.status.value for job in living),
            open_runs=Counter(run.status.value for run in all_runs if not run.status.ended),
            ended=late[:limit],
        )


def _ended(run: Run, job_name: str) -> EndedRun:
    assert run.ended_at is not None  # noqa: S101 - the caller has looked
    tables = _tables(run.report.streams)
    return EndedRun(run.id, run.job_id, job_name, run.status.value, run.started_at, run.ended_at, tables)


def _tables(streams: Sequence[_Stream] | Sequence[StreamReport]) -> tuple[TableTotal, ...]:
    return tuple(TableTotal(s.table, s.rows_written, s.rows_deleted, s.bytes_written) for s in streams)
