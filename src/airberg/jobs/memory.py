"""The job store in memory: for tests and trials. Gone with the process, otherwise the same behaviour."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from airberg.identity.service_keys import MemoryServiceKeys
from airberg.jobs.audit import Act, MemoryAuditLog
from airberg.jobs.changes import JobChange, changed, changed_meanwhile, require_version
from airberg.jobs.encoding import decode_free, encode_free, storable_text
from airberg.jobs.finding import JobFilter, ListedJob, Place
from airberg.jobs.lifecycle import (
    Ending,
    answered_already,
    ended,
    free_shard,
    is_newer,
    name_taken,
    new_run,
    no_job,
    no_run,
    require_living,
    started,
    with_connector,
    with_schedule,
)
from airberg.jobs.memory_leases import MemoryLeases
from airberg.jobs.metadata_due import MemoryMetadataDue, MetadataDue
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
from airberg.jobs.run_logs import MemoryRunLogs, RunLogs
from airberg.jobs.run_parts import MemoryRunParts, RunParts
from airberg.jobs.totals import MemoryTotals
from airberg.plan.model import JobPlan
from airberg.sources.entry import ConnectorEntry


class MemoryJobStore:
    """Implements `airberg.jobs.port.JobStore`; one lock makes each method a transaction."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._jobs: dict[UUID, Job] = {}
        self._configs: dict[UUID, str] = {}
        self._runs: dict[UUID, Run] = {}
        self._leases = MemoryLeases()
        self._answers: dict[tuple[str, str], StoredAnswer] = {}
        self._flows_version = 0
        self._flows_due: dict[UUID, str] = {}
        self.audit = MemoryAuditLog()
        """See `JobStore.audit`."""
        self.totals = MemoryTotals(self._jobs, self._runs, self._lock)
        """See `JobStore.totals`."""
        self.service_keys = MemoryServiceKeys(self.audit)
        """See `JobStore.service_keys`."""
        self.run_logs: RunLogs = MemoryRunLogs(self._runs.__contains__)
        """See `JobStore.run_logs`."""
        self._untold: set[UUID] = set()
        self.metadata_due: MetadataDue = MemoryMetadataDue(self._jobs, self._runs, self._untold, self._lock)
        """See `JobStore.metadata_due`."""
        self.run_parts: RunParts = MemoryRunParts(self._jobs, self._runs, self._lock)
        """See `JobStore.run_parts`."""

    # ---- jobs --------------------------------------------------------------------------------------------

    def add_job(
        self,
        job: Job,
        source_config: dict[str, object],
        run: Run | None = None,
        *,
        act: Act | None = None,
        answer: StoredAnswer | None = None,
    ) -> Job:
        """See `JobStore.add_job`."""
        config = encode_free(source_config)
        with self._lock:
            if answer is not None and (answer.caller, answer.key) in self._answers:
                raise answered_already()
            taken = self.find_job(job.owner_id, job.request.name)
            if taken is not None:
                raise name_taken(job.request.name, taken.id)
            if answer is not None:
                self._answers[answer.caller, answer.key] = answer
            living = Counter(j.shard for j in self._jobs.values() if j.deleted_at is None)
            job = replace(job, shard=free_shard(living))
            self._jobs[job.id] = job
            self._configs[job.id] = config
            if run is not None:
                self._runs[run.id] = run
            self._flow_changed(job.id)
            self.audit.add(act)
            return job

    def job(self, job_id: UUID) -> Job:
        """See `JobStore.job`."""
        with self._lock:
            try:
                return self._jobs[job_id]
            except KeyError:
                raise no_job(job_id) from None

    def find_job(self, owner_id: str, name: str) -> Job | None:
        """See `JobStore.find_job`."""
        with self._lock:
            for job in self._jobs.values():
                if (job.owner_id, job.request.name, job.deleted_at) == (owner_id, name, None):
                    return job
            return None

    def jobs(
        self, *, created_by: str | None = None, include_deleted: bool = False, limit: int | None = None
    ) -> Sequence[Job]:
        """See `JobStore.jobs`."""
        with self._lock:
            found = [
                job
                for job in self._jobs.values()
                if (created_by is None or job.created_by == created_by)
                and (include_deleted or job.deleted_at is None)
            ]
        return sorted(found, key=lambda j: (j.created_at, j.id.hex), reverse=True)[:limit]

    def page(self, wanted: JobFilter, *, after: Place | None = None, limit: int = 100) -> Sequence[ListedJob]:
        """See `JobStore.page`."""
        found = [job for job in self.jobs(include_deleted=True) if wanted.takes(job)]
        page = [job for job in found if after is None or after.before(job)][:limit]
        return [self._listed(job) for job in page]

    def _listed(self, job: Job) -> ListedJob:
        tables = [".".join((*job.plan.namespace, s.table)) for s in job.plan.streams] if job.plan else []
        return ListedJob(replace(job, plan=None), tuple(tables), next(iter(self.runs(job.id, limit=1)), None))

    def jobs_filling(self, tables: Collection[str]) -> Sequence[Job]:
        """See `JobStore.jobs_filling`."""
        wanted = set(tables)
        return [
            job
            for job in reversed(self.jobs())
            if job.plan is not None and wanted & set(job.plan.table_names)
        ]

    def source_config(self, job_id: UUID) -> dict[str, object]:
        """See `JobStore.source_config`."""
        with self._lock:
            if job_id not in self._configs:
                raise no_job(job_id)
            return decode_free(self._configs[job_id])

    def replace_source_config(
        self,
        job_id: UUID,
        source_config: dict[str, object],
        public: dict[str, object],
        *,
        instead_of: dict[str, object] | None = None,
    ) -> bool:
        """See `JobStore.replace_source_config`. Raises NotFound for a deleted job."""
        config = encode_free(source_config)
        with self._lock:
            job = require_living(self.job(job_id))
            if instead_of is not None and self.source_config(job_id) != instead_of:
                return False
            self._jobs[job_id] = replace(job, public_config=decode_free(encode_free(public)))
            self._configs[job_id] = config
            return True

    def update(self, job_id: UUID, change: JobChange, *, act: Act | None = None) -> Job:
        """See `JobStore.update`."""
        with self._lock:
            job = changed(self.job(job_id), change)
            if change.config and self.source_config(job_id) != change.config.instead_of:
                raise changed_meanwhile(job_id)
            taken = self.find_job(job.owner_id, job.request.name)
            if taken is not None and taken.id != job_id:
                raise name_taken(job.request.name, taken.id)
            if change.config:
                self._configs[job_id] = encode_free(change.config.config)
            self._jobs[job_id] = job
            self._flow_changed(job_id)
            self.audit.add(act)
            return job

    def set_schedule(
        self, job_id: UUID, schedule: str | None, timezone: str, *, act: Act | None = None
    ) -> Job:
        """See `JobStore.set_schedule`. Raises NotFound for a deleted job."""
        with self._lock:
            job = with_schedule(require_living(self.job(job_id)), schedule, timezone)
            self._flow_changed(job_id)
            self.audit.add(act)
            self._jobs[job_id] = job
            return job

    def set_paused(self, job_id: UUID, paused: bool, *, act: Act | None = None) -> Job:
        """See `JobStore.set_paused`. Raises NotFound for a deleted job."""
        with self._lock:
            job = require_living(self.job(job_id))
            job = replace(job, paused=paused, version=job.version + 1)
            self._flow_changed(job_id)
            self.audit.add(act)
            self._jobs[job_id] = job
            return job

    def set_plan(self, job_id: UUID, plan: JobPlan, *, version: int | None = None) -> bool:
        """See `JobStore.set_plan`. Raises NotFound."""
        with self._lock:
            job = self.job(job_id)
            if version not in (None, job.version):
                return False
            self._jobs[job_id] = replace(job, plan=plan)
            return True

    def set_connector(
        self, job_id: UUID, connector: ConnectorEntry, plan: JobPlan | None, *, version: int | None = None
    ) -> Job:
        """See `JobStore.set_connector`. Raises NotFound for a deleted job."""
        with self._lock:
            job = require_version(require_living(self.job(job_id)), version)
            job = with_connector(job, connector, plan)
            self._jobs[job_id] = job
            return job

    def _flow_changed(self, job_id: UUID) -> None:
        self._flows_version += 1
        self._flows_due[job_id] = str(self._flows_version)

    def flow_jobs(self, *, to_withdraw: bool = False) -> Sequence[FlowJob]:
        """See `JobStore.flow_jobs`."""
        found = reversed(self.jobs(include_deleted=to_withdraw))
        return [job.as_flow_job() for job in found if job.deleted_at is None or job.flow_hash is not None]

    def flow_beside(self, job_id: UUID) -> UUID | None:
        """See `JobStore.flow_beside`."""
        shard = self.job(job_id).shard
        registered = (job for job in self.jobs() if job.flow_hash is not None and job.id != job_id)
        return next((job.id for job in registered if job.shard == shard), None)

    def flows_due(self) -> Sequence[DueFlow]:
        """See `JobStore.flows_due`."""
        with self._lock:
            due = [
                DueFlow(job=self.job(job_id).as_flow_job(), mark=mark)
                for job_id, mark in self._flows_due.items()
            ]
        return sorted(due, key=lambda d: (d.job.created_at, d.job.id.hex))

    def flow_followed(self, due: DueFlow) -> None:
        """See `JobStore.flow_followed`."""
        with self._lock:
            if self._flows_due.get(due.job.id) == due.mark:
                del self._flows_due[due.job.id]

    def set_flow_hash(self, job_id: UUID, flow_hash: str | None) -> None:
        """See `JobStore.set_flow_hash`. Raises NotFound."""
        with self._lock:
            self._jobs[job_id] = replace(self.job(job_id), flow_hash=flow_hash)

    def set_job_status(self, job_id: UUID, status: JobStatus, message: str | None) -> None:
        """See `JobStore.set_job_status`. Raises NotFound."""
        with self._lock:
            self._jobs[job_id] = replace(
                self.job(job_id), status=status, status_message=storable_text(message)
            )

    def delete_job(
        self, job_id: UUID, at: datetime, *, version: int | None = None, act: Act | None = None
    ) -> Job:
        """See `JobStore.delete_job`. Deleting twice changes nothing. Raises NotFound."""
        with self._lock:
            job = self.job(job_id)
            if job.deleted_at is None:
                job = replace(require_version(job, version), deleted_at=at, version=job.version + 1)
                self._jobs[job_id] = job
                self._flow_changed(job_id)
                self._untold.add(job_id)
                del self._configs[job_id]
                self.audit.add(act)
            return job

    # ---- runs --------------------------------------------------------------------------------------------

    def add_run(self, run: Run, *, act: Act | None = None) -> Run:
        """See `JobStore.add_run`. Raises NotFound for a job that is unknown or deleted."""
        with self._lock:
            require_living(self.job(run.job_id))
            known = self.find_run(run.job_id, run.flow_run_id)
            if known is None:
                self._runs[run.id] = run
                self.audit.add(act)
            return known or run

    def run(self, run_id: UUID) -> Run:
        """See `JobStore.run`."""
        with self._lock:
            try:
                return self._runs[run_id]
            except KeyError:
                raise no_run(run_id) from None

    def find_run(self, job_id: UUID, flow_run_id: str) -> Run | None:
        """See `JobStore.find_run`."""
        with self._lock:
            for run in self._runs.values():
                if (run.job_id, run.flow_run_id) == (job_id, flow_run_id):
                    return run
            return None

    def runs(
        self, job_id: UUID, *, limit: int = 50, before: Place | None = None, status: RunStatus | None = None
    ) -> Sequence[Run]:
        """See `JobStore.runs`."""
        with self._lock:
            found = [run for run in self._runs.values() if run.job_id == job_id]
        found = [run for run in found if before is None or before.before(run)]
        found = [run for run in found if status in (None, run.status)]
        return sorted(found, key=lambda r: (r.created_at, r.id.hex), reverse=True)[:limit]

    def open_runs(self) -> Sequence[Run]:
        """See `JobStore.open_runs`. Oldest first."""
        with self._lock:
            found = [
                run
                for run in self._runs.values()
                if not run.status.ended and self._jobs[run.job_id].deleted_at is None
            ]
        return sorted(found, key=lambda r: (r.created_at, r.id.hex))

    def start_run(
        self,
        job_id: UUID,
        flow_run_id: str,
        attempt: int,
        at: datetime,
        *,
        asked: RunRequest | None = None,
    ) -> Run:
        """See `JobStore.start_run`. Raises NotFound for a job that is unknown or deleted."""
        with self._lock:
            known = self.find_run(job_id, flow_run_id)
            job, run = started(
                self.job(job_id), known or new_run(job_id, flow_run_id, at, asked), attempt, at
            )
            self._jobs[job_id], self._runs[run.id] = job, run
            return run

    def report_run(self, run_id: UUID, report: RunReport) -> None:
        """See `JobStore.report_run`. Raises NotFound."""
        with self._lock:
            self._runs[run_id] = replace(self.run(run_id), report=report)

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
        """See `JobStore.end_run`. Raises NotFound."""
        ending = Ending(status=status, at=at, error=error, error_code=error_code, report=report)
        with self._lock:
            run = self.run(run_id)
            newer = any(is_newer(r, run) for r in self._runs.values() if r.job_id == run.job_id)
            job, run = ended(self.job(run.job_id), run, ending, newest=not newer)
            self._jobs[job.id], self._runs[run_id] = job, run
            return run

    # ---- leases ------------------------------------------------------------------------------------------

    def acquire_lease(
        self, job_id: UUID, holder: str, seconds: float, *, tables: Collection[str] = ()
    ) -> Lease:
        """See `JobStore.acquire_lease`. Raises NotFound for an unknown job."""
        with self._lock:
            self.job(job_id)
            return self._leases.acquire(job_id, holder, seconds, tables)

    def renew_lease(self, lease: Lease, seconds: float) -> Lease:
        """See `JobStore.renew_lease`."""
        with self._lock:
            return self._leases.renew(lease, seconds)

    def release_lease(self, lease: Lease) -> None:
        """See `JobStore.release_lease`."""
        with self._lock:
            self._leases.release(lease)

    def lease(self, job_id: UUID, *, tables: Collection[str] = ()) -> Lease | None:
        """See `JobStore.lease`."""
        with self._lock:
            return self._leases.current(job_id, tables)

    # ---- answers and flows -------------------------------------------------------------------------------

    def stored_answer(self, caller: str, key: str) -> StoredAnswer | None:
        """See `JobStore.stored_answer`."""
        with self._lock:
            return self._answers.get((caller, key))

    def flows_version(self) -> str:
        """See `JobStore.flows_version`."""
        with self._lock:
            return str(self._flows_version)

    def close(self) -> None:
        """See `JobStore.close`: nothing to release."""
