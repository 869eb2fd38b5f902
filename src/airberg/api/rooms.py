"""What the routes about jobs share: the parts of the application, and who may see what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Request, Security

from airberg.api.auth import INGEST_READ, INGEST_WRITE, principal
from airberg.api.views import JobView, job_view
from airberg.errors import Conflict, NotFound, Unavailable
from airberg.flows.port import Orchestrator
from airberg.flows.reconciler import FlowReconciler
from airberg.identity.principal import Principal
from airberg.jobs.audit import AuditLog
from airberg.jobs.finding import ListedJob, Viewer
from airberg.jobs.lifecycle import no_run
from airberg.jobs.model import Job, Run, RunStatus
from airberg.jobs.port import JobStore

Reads = Annotated[Principal, Security(principal, scopes=[INGEST_READ])]
Writes = Annotated[Principal, Security(principal, scopes=[INGEST_WRITE])]


def is_visible(job: Job, caller: Principal) -> bool:
    """Whether the caller made the job, it is shared with the caller, or the caller may see all.

    `owner_id` does not count: it is often an e-mail address, which can come to name somebody else.
    """
    shared = not caller.groups.isdisjoint(job.request.share_with)
    return caller.is_admin or caller.key == job.created_by or shared


def viewer_of(caller: Principal) -> Viewer | None:
    """Whose jobs a list shows, by the rule of `is_visible`; None for all."""
    return None if caller.is_admin else Viewer(caller.key, caller.groups)


class Rooms:
    """The parts of the application that these routes need."""

    def __init__(self, request: Request) -> None:
        self.store: JobStore = request.app.state.store
        self.audit: AuditLog = request.app.state.audit
        self.orchestrator: Orchestrator = request.app.state.orchestrator
        self.reconciler: FlowReconciler = request.app.state.reconciler

    def job(self, job_id: UUID, caller: Principal) -> Job:
        """The job, if the caller may see it. A foreign job is not found: its existence is not told."""
        job = self.store.job(job_id)
        if is_visible(job, caller):
            return job
        raise NotFound(f"There is no job {job_id}.", guidance="Check the id.")

    def own_living(self, job_id: UUID, caller: Principal) -> Job:
        """The job, if the caller may change it and it is not deleted."""
        job = self.job(job_id, caller)
        if job.deleted_at is not None:
            raise Conflict("The job is deleted.", guidance="Create a new job.", code="job-deleted")
        return job

    def view(self, job: Job) -> JobView:
        """The job as shown."""
        runs = list(self.store.runs(job.id, limit=10))
        registered = self.reconciler.registered(job)
        return job_view(job, runs, self.orchestrator, datetime.now(UTC), registered=registered)

    def listed(self, listed: ListedJob) -> JobView:
        """The job as shown in a list."""
        runs = [] if listed.newest_run is None else [listed.newest_run]
        now, registered = datetime.now(UTC), self.reconciler.registered(listed.job)
        return job_view(listed.job, runs, self.orchestrator, now, listed.tables, registered=registered)

    def run(self, run_id: UUID, caller: Principal) -> tuple[Run, Job]:
        """The run with its job, if the caller may see the job; see `job`."""
        run = self.store.run(run_id)
        job = self.store.job(run.job_id)
        if is_visible(job, caller):
            return run, job
        raise no_run(run_id)  # nor is told which job it is of

    def follow(self, job: Job) -> None:
        """Let the flow follow at once; where it cannot, the reconciler does it later."""
        try:
            self.reconciler.follow(job, wait_s=5.0)
        except Unavailable:
            return

    def stop(self, job: Job, run: Run) -> None:
        """Have the orchestrator stop a run that has not ended.

        Raises:
            Unavailable: The orchestrator does not answer.
        """
        if self.orchestrator.run_state(job.flow_id, run.flow_run_id) is not None:
            self.orchestrator.cancel(job.flow_id, run.flow_run_id)
        between = bool(run.report.parts) and self.store.lease(job.id) is None
        if run.status is RunStatus.QUEUED or between:  # nothing of ours is at work that could report it
            begun = "its next part" if between else "it"
            error = f"The run was cancelled before {begun} began."
            now = datetime.now(UTC)
            self.store.end_run(run.id, RunStatus.CANCELLED, now, error=error, error_code="cancelled")
