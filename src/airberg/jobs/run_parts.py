"""The parts of runs whose streams are synced side by side: port, adapter for SQL, twin in memory.

Parts are kept in the report of their run. Several processes write to it, each its own part: every method
reads and writes the run in one transaction, under the lock of its job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Protocol
from uuid import UUID

from sqlalchemy.engine import Connection, Engine

from airberg.jobs.engine import Transactions
from airberg.jobs.lifecycle import Ending, is_newer, no_run
from airberg.jobs.model import Job, Run, RunReport
from airberg.jobs.parts import part_ended, part_of, part_reported, part_started, shared_out
from airberg.jobs.sql_finding import has_newer_run
from airberg.jobs.sql_rows import set_outcome, set_run, stored_job, stored_run


class RunParts(Protocol):
    """Keeps parts. A part is given back as a run (`Run.part` is its number).

    All methods raise NotFound when there is no such run, and ConfigurationFailed when it has no such part.
    """

    def share_out(self, run_id: UUID, tables: Sequence[Sequence[str]]) -> Run:
        """Give a run parts that fill these tables, in the place of those it has; returns the run."""
        ...

    def part(self, run_id: UUID, number: int) -> Run:
        """A part."""
        ...

    def start(self, run_id: UUID, number: int, attempt: int, at: datetime) -> Run:
        """Set a part, its run and its job to running; returns the part.

        Raises:
            NotFound: Also when the job was deleted.
        """
        ...

    def report(self, run_id: UUID, number: int, report: RunReport) -> None:
        """Store what a part has done so far."""
        ...

    def end(self, run_id: UUID, number: int, ending: Ending) -> Run:
        """End a part, and with the last one the run, whose status follows from those of its parts.

        Returns:
            The part.
        """
        ...


class SqlRunParts:
    """Implements `RunParts` beside `airberg.jobs.sql.SqlJobStore`.

    Args:
        engine: Of the job store's database.
    """

    def __init__(self, engine: Engine) -> None:
        self._transactions = Transactions(engine)

    def share_out(self, run_id: UUID, tables: Sequence[Sequence[str]]) -> Run:
        """See `RunParts.share_out`."""
        with self._locked(run_id) as (c, _, run):
            run = shared_out(run, tables)
            set_run(c, run)
            return run

    def part(self, run_id: UUID, number: int) -> Run:
        """See `RunParts.part`."""
        with self._transactions.read() as c:
            return part_of(stored_run(c, run_id), number)

    def start(self, run_id: UUID, number: int, attempt: int, at: datetime) -> Run:
        """See `RunParts.start`."""
        with self._locked(run_id) as (c, job, run):
            job, run = part_started(job, run, number, attempt, at)
            set_run(c, run)
            set_outcome(c, job)
            return part_of(run, number)

    def report(self, run_id: UUID, number: int, report: RunReport) -> None:
        """See `RunParts.report`."""
        with self._locked(run_id) as (c, _, run):
            set_run(c, part_reported(run, number, report))

    def end(self, run_id: UUID, number: int, ending: Ending) -> Run:
        """See `RunParts.end`."""
        with self._locked(run_id) as (c, job, run):
            job, run = part_ended(job, run, number, ending, newest=not has_newer_run(c, run))
            set_run(c, run)
            if run.status.ended:
                set_outcome(c, job)
            return part_of(run, number)

    @contextmanager
    def _locked(self, run_id: UUID) -> Iterator[tuple[Connection, Job, Run]]:
        with self._transactions.write() as c:
            job = stored_job(c, stored_run(c, run_id).job_id, lock=True)
            yield c, job, stored_run(c, run_id)  # again, now that nobody else can change it


class MemoryRunParts:
    """Implements `RunParts` beside `airberg.jobs.memory.MemoryJobStore`, on its values.

    Args:
        jobs: All jobs.
        runs: All runs.
        lock: The store's.
    """

    def __init__(
        self,
        jobs: MutableMapping[UUID, Job],
        runs: MutableMapping[UUID, Run],
        lock: AbstractContextManager[object],
    ) -> None:
        self._jobs, self._runs, self._lock = jobs, runs, lock

    def share_out(self, run_id: UUID, tables: Sequence[Sequence[str]]) -> Run:
        """See `RunParts.share_out`."""
        return self._change(run_id, lambda job, run: (job, shared_out(run, tables)))

    def part(self, run_id: UUID, number: int) -> Run:
        """See `RunParts.part`."""
        with self._lock:
            return part_of(self._run(run_id), number)

    def start(self, run_id: UUID, number: int, attempt: int, at: datetime) -> Run:
        """See `RunParts.start`."""
        started = self._change(run_id, lambda job, run: part_started(job, run, number, attempt, at))
        return part_of(started, number)

    def report(self, run_id: UUID, number: int, report: RunReport) -> None:
        """See `RunParts.report`."""
        self._change(run_id, lambda job, run: (job, part_reported(run, number, report)))

    def end(self, run_id: UUID, number: int, ending: Ending) -> Run:
        """See `RunParts.end`."""

        def end(job: Job, run: Run) -> tuple[Job, Run]:
            newer = any(is_newer(other, run) for other in self._runs.values() if other.job_id == job.id)
            return part_ended(job, run, number, ending, newest=not newer)

        return part_of(self._change(run_id, end), number)

    def _change(self, run_id: UUID, change: Callable[[Job, Run], tuple[Job, Run]]) -> Run:
        with self._lock:
            before = self._run(run_id)
            job, run = change(self._jobs[before.job_id], before)
            self._jobs[job.id], self._runs[run_id] = job, run
            return run

    def _run(self, run_id: UUID) -> Run:
        if run_id not in self._runs:
            raise no_run(run_id)
        return self._runs[run_id]
