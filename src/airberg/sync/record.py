"""How a run is kept in the job store while it works: as a whole, or as one of its parts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from airberg.errors import ConfigurationFailed
from airberg.jobs.lifecycle import Ending
from airberg.jobs.model import Run, RunReport, RunRequest
from airberg.jobs.parts import part_of
from airberg.jobs.port import JobStore


class RunRecord(Protocol):
    """Keeps one attempt. Raises what the job store raises."""

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that are filled, whose lease is needed; empty: all of the job's."""
        ...

    @property
    def alone(self) -> bool:
        """Whether no other process reads streams of the job in this run."""
        ...

    def start(self) -> Run:
        """Note that the attempt has begun; the run, or the part of it as a run."""
        ...

    def report(self, run_id: UUID, report: RunReport) -> None:
        """Store what was done so far."""
        ...

    def end(self, run_id: UUID, ending: Ending) -> Run:
        """Store how it ended; the run, or the part of it as a run."""
        ...


class WholeRun:
    """A run that one task does.

    Args:
        store: The job store.
        job_id: The job.
        flow_run_id: The orchestrator's id of the run.
        attempt: Number of the attempt, from 1.
        asked: What is asked of the run, if nobody has announced it.
    """

    tables: tuple[str, ...] = ()
    alone = True

    def __init__(
        self,
        store: JobStore,
        job_id: UUID,
        flow_run_id: str,
        attempt: int,
        asked: RunRequest | None = None,
    ) -> None:
        self._store = store
        self._job_id, self._flow_run_id, self._attempt = job_id, flow_run_id, attempt
        self._asked = asked

    def start(self) -> Run:
        """See `RunRecord.start`."""
        return self._store.start_run(
            self._job_id, self._flow_run_id, self._attempt, datetime.now(UTC), asked=self._asked
        )

    def report(self, run_id: UUID, report: RunReport) -> None:
        """See `RunRecord.report`."""
        self._store.report_run(run_id, report)

    def end(self, run_id: UUID, ending: Ending) -> Run:
        """See `RunRecord.end`."""
        return self._store.end_run(
            run_id,
            ending.status,
            ending.at,
            error=ending.error,
            error_code=ending.error_code,
            report=ending.report,
        )


class PartOfRun:
    """A part of a run, which a task of its own does.

    Args:
        store: The job store.
        job_id: The job.
        flow_run_id: The orchestrator's id of the run.
        number: Of the part.
        attempt: Number of the attempt of this part, from 1.

    Raises:
        ConfigurationFailed: The run is not known, or has no such part.
    """

    def __init__(self, store: JobStore, job_id: UUID, flow_run_id: str, number: int, attempt: int) -> None:
        run = store.find_run(job_id, flow_run_id)
        if run is None:
            raise ConfigurationFailed(
                f"The job {job_id} has no run {flow_run_id} that could have parts.",
                guidance="Let the task `plan` of the flow's run come first.",
                code="no-part",
            )
        part_of(run, number)
        self._store = store
        self._run_id, self._number, self._attempt = run.id, number, attempt
        self.tables = run.report.parts[number].tables
        self.alone = len(run.report.parts) == 1

    def start(self) -> Run:
        """See `RunRecord.start`."""
        return self._store.run_parts.start(self._run_id, self._number, self._attempt, datetime.now(UTC))

    def report(self, run_id: UUID, report: RunReport) -> None:
        """See `RunRecord.report`."""
        self._store.run_parts.report(run_id, self._number, report)

    def end(self, run_id: UUID, ending: Ending) -> Run:
        """See `RunRecord.end`."""
        return self._store.run_parts.end(run_id, self._number, ending)
