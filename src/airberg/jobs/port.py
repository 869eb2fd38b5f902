"""The port to the job store. `airberg.jobs.sql` and `airberg.jobs.memory` pass the same behaviour suite."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from airberg.identity.service_keys import ServiceKeys
from airberg.jobs.audit import Act, AuditLog
from airberg.jobs.changes import JobChange
from airberg.jobs.finding import JobFilter, ListedJob, Place
from airberg.jobs.metadata_due import MetadataDue
from airberg.jobs.model import (
    DueFlow,
    FlowJob,
    Job,
    JobStatus,
    Lease,
    Run,
    RunReport,
    RunRequest,
    RunStatus,
    StoredAnswer,
)
from airberg.jobs.run_logs import RunLogs
from airberg.jobs.run_parts import RunParts
from airberg.jobs.totals import TotalsReader
from airberg.plan.model import JobPlan
from airberg.sources.entry import ConnectorEntry


class JobStore(Protocol):
    """Keeps jobs, runs, secrets, leases. Every method is one transaction, safe across processes.

    Methods that people cause take their `act`, and record it in that transaction.
    """

    @property
    def audit(self) -> AuditLog:
        """Where acts are recorded."""
        ...

    @property
    def totals(self) -> TotalsReader:
        """Numbers over all jobs."""
        ...

    @property
    def service_keys(self) -> ServiceKeys:
        """Where service keys are kept."""
        ...

    @property
    def run_logs(self) -> RunLogs:
        """Keeps the logs of the runs."""
        ...

    @property
    def run_parts(self) -> RunParts:
        """Keeps the parts of runs whose streams are synced side by side."""
        ...

    @property
    def metadata_due(self) -> MetadataDue:
        """What no server of metadata was told of."""
        ...

    def add_job(
        self,
        job: Job,
        source_config: dict[str, object],
        run: Run | None = None,
        *,
        act: Act | None = None,
        answer: StoredAnswer | None = None,
    ) -> Job:
        """Store a new job, its secret configuration (encrypted) and, if given, its first queued run.

        Returns the job with its `shard` assigned (20 jobs a shard; holes of deleted jobs are filled).

        `answer` is what the request is answered with, under its `Idempotency-Key`: stored together with the
        job, so that whoever loses the answer and asks again is not told that the name is taken.

        Raises:
            Conflict: The owner has a job of that name (code `name-taken`, the message has its id), or an
                answer is stored under that caller and key already (code `answered-already`).
        """
        ...

    def job(self, job_id: UUID) -> Job:
        """The job, deleted or not. Raises NotFound."""
        ...

    def find_job(self, owner_id: str, name: str) -> Job | None:
        """The owner's job of that name that is not deleted."""
        ...

    def jobs(
        self, *, created_by: str | None = None, include_deleted: bool = False, limit: int | None = None
    ) -> Sequence[Job]:
        """Jobs, newest first."""
        ...

    def page(self, wanted: JobFilter, *, after: Place | None = None, limit: int = 100) -> Sequence[ListedJob]:
        """A page of the jobs that are looked for, newest first.

        Args:
            wanted: Which ones.
            after: The place of the last job of the page before.
            limit: At most so many.
        """
        ...

    def jobs_filling(self, tables: Collection[str]) -> Sequence[Job]:
        """Jobs that are not deleted and whose plan fills one of these tables, oldest first.

        Args:
            tables: Names as in `JobPlan.table_names`.
        """
        ...

    def source_config(self, job_id: UUID) -> dict[str, object]:
        """The decrypted configuration. Raises NotFound."""
        ...

    def replace_source_config(
        self,
        job_id: UUID,
        source_config: dict[str, object],
        public: dict[str, object],
        *,
        instead_of: dict[str, object] | None = None,
    ) -> bool:
        """Store a new configuration atomically (a rotated token).

        Args:
            job_id: The job.
            source_config: The configuration.
            public: What people see of it.
            instead_of: Only if this is the stored one: somebody may have changed it meanwhile.

        Returns:
            Whether it was stored.
        """
        ...

    def update(self, job_id: UUID, change: JobChange, *, act: Act | None = None) -> Job:
        """Change a job, all at once.

        Raises:
            NotFound: There is no such job, or it is deleted.
            PreconditionFailed: The job, or its configuration, is not what the change was made from.
            Conflict: The owner has a job of the new name.
        """
        ...

    def set_schedule(
        self, job_id: UUID, schedule: str | None, timezone: str, *, act: Act | None = None
    ) -> Job:
        """Change when the job runs."""
        ...

    def set_paused(self, job_id: UUID, paused: bool, *, act: Act | None = None) -> Job:
        """Pause or resume the job."""
        ...

    def set_plan(self, job_id: UUID, plan: JobPlan, *, version: int | None = None) -> bool:
        """Store a newer plan; with `version` only if the job has that version still. Tells whether it was."""
        ...

    def set_connector(
        self, job_id: UUID, connector: ConnectorEntry, plan: JobPlan | None, *, version: int | None = None
    ) -> Job:
        """Move the job to another version of its connector, with the plan that was made with it, if any.

        Raises:
            PreconditionFailed: The job has another version than the one that is given.
        """
        ...

    def flow_jobs(self, *, to_withdraw: bool = False) -> Sequence[FlowJob]:
        """All jobs that are not deleted, as far as flows are made of them; oldest first.

        No plan is read: of ten thousand jobs that took seconds, and most of a gigabyte.

        Args:
            to_withdraw: Deleted ones, too, whose flow the orchestrator was not told to remove yet.
        """
        ...

    def flow_beside(self, job_id: UUID) -> UUID | None:
        """Another job whose flow the orchestrator has, in the same flow file; None when there is none."""
        ...

    def flows_due(self) -> Sequence[DueFlow]:
        """Jobs, deleted ones too, whose flow has changed and was not followed since; oldest jobs first."""
        ...

    def flow_followed(self, due: DueFlow) -> None:
        """The orchestrator has the flow as it was due; does nothing when it has changed again meanwhile."""
        ...

    def set_flow_hash(self, job_id: UUID, flow_hash: str | None) -> None:
        """Note which spec the orchestrator has; None = unknown."""
        ...

    def delete_job(
        self, job_id: UUID, at: datetime, *, version: int | None = None, act: Act | None = None
    ) -> Job:
        """Mark the job deleted and forget its secret configuration.

        Raises:
            PreconditionFailed: The job has another version than the one that is given.
        """
        ...

    def add_run(self, run: Run, *, act: Act | None = None) -> Run:
        """Store a queued run; returns the stored one if that `flow_run_id` is known already."""
        ...

    def run(self, run_id: UUID) -> Run:
        """The run. Raises NotFound."""
        ...

    def find_run(self, job_id: UUID, flow_run_id: str) -> Run | None:
        """The run of that flow run."""
        ...

    def runs(
        self, job_id: UUID, *, limit: int = 50, before: Place | None = None, status: RunStatus | None = None
    ) -> Sequence[Run]:
        """Runs of a job, newest first.

        Args:
            limit: At most so many.
            before: Only those that are older than the run at that place.
            status: Only those of this status.
        """
        ...

    def open_runs(self) -> Sequence[Run]:
        """Runs that have not ended, of all jobs that are not deleted."""
        ...

    def start_run(
        self,
        job_id: UUID,
        flow_run_id: str,
        attempt: int,
        at: datetime,
        *,
        asked: RunRequest | None = None,
    ) -> Run:
        """Set a run (made if unknown) and its job to running; clears an earlier attempt's error.

        Args:
            job_id: The job.
            flow_run_id: The orchestrator's id of the run.
            attempt: Number of the attempt, from 1.
            at: When it began.
            asked: What is asked of the run, if it is made now; a known one keeps what was asked of it.
        """
        ...

    def report_run(self, run_id: UUID, report: RunReport) -> None:
        """Store progress."""
        ...

    def end_run(
        self,
        run_id: UUID,
        status: RunStatus,
        at: datetime,
        *,
        error: str | None = None,
        error_code: str | None = None,
        report: RunReport | None = None,
    ) -> Run:
        """End a run and give its job the matching status, times and message."""
        ...

    def set_job_status(self, job_id: UUID, status: JobStatus, message: str | None) -> None:
        """Set a job's status without a run (for example: its flow could not be registered)."""
        ...

    def acquire_lease(
        self, job_id: UUID, holder: str, seconds: float, *, tables: Collection[str] = ()
    ) -> Lease:
        """Take the job's lease if it is free, expired, or already held by `holder`.

        Args:
            job_id: The job.
            holder: Who asks.
            seconds: How long it lives without renewal.
            tables: Only these tables of the job; others may be held by others. Empty: all of the job.

        Raises:
            LeaseHeld: Somebody else holds it, or some of it.
        """
        ...

    def renew_lease(self, lease: Lease, seconds: float) -> Lease:
        """Extend a lease. Raises LeaseHeld when it was lost (other token)."""
        ...

    def release_lease(self, lease: Lease) -> None:
        """Give a lease back; does nothing when it was lost."""
        ...

    def lease(self, job_id: UUID, *, tables: Collection[str] = ()) -> Lease | None:
        """A lease that is held and not expired: of the job, or of some of its tables.

        Args:
            job_id: The job.
            tables: Only one that covers any of these; empty: any.
        """
        ...

    def stored_answer(self, caller: str, key: str) -> StoredAnswer | None:
        """The answer stored under that caller and key."""
        ...

    def flows_version(self) -> str:
        """A short text that changes whenever anything that flows are made from changes (an ETag)."""
        ...

    def close(self) -> None:
        """Release connections."""
        ...
