"""Jobs and runs over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Query, Request, Response, Security
from pydantic import BaseModel, ConfigDict, Field

from airberg.api.auth import principal
from airberg.api.problems import PROBLEM_RESPONSES
from airberg.api.views import JobView, RunView, job_view, run_view
from airberg.errors import Conflict, InvalidRequest, NotFound, Unavailable
from airberg.flows.port import Orchestrator
from airberg.flows.reconciler import FlowReconciler
from airberg.flows.schedule import check_schedule, check_timezone
from airberg.identity.principal import Principal
from airberg.jobs.model import Job, Run, RunStatus
from airberg.jobs.port import JobStore

router = APIRouter(tags=["jobs"], responses=PROBLEM_RESPONSES)

Reads = Annotated[Principal, Security(principal, scopes=["ingest:read"])]
Writes = Annotated[Principal, Security(principal, scopes=["ingest:write"])]


class JobPatch(BaseModel):
    """What can be changed of a job. Fields that are left out stay as they are."""

    model_config = ConfigDict(extra="forbid", strict=True)

    schedule: str | None = Field(None, description="Five-field cron or preset; null: no schedule.")
    timezone: str | None = Field(None, description="IANA time zone of the schedule.")
    paused: bool | None = Field(None, description="Whether the schedule rests.")


def is_visible(job: Job, caller: Principal) -> bool:
    """Whether the caller made the job, owns it, or may see all."""
    return caller.is_admin or caller.key == job.created_by or caller.owner_id == job.owner_id


class _Rooms:
    """The parts of the application that these routes need."""

    def __init__(self, request: Request) -> None:
        self.store: JobStore = request.app.state.store
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
        return job_view(job, runs, self.orchestrator, datetime.now(UTC))

    def follow(self, job: Job) -> None:
        """Let the flow follow at once; where it cannot, the reconciler does it later."""
        try:
            self.reconciler.follow(job, wait_s=5.0)
        except Unavailable:
            return


@router.get("/api/jobs", response_model=list[JobView])
def list_jobs(
    request: Request, caller: Reads, limit: Annotated[int, Query(ge=1, le=500)] = 100
) -> list[JobView]:
    """Jobs that the caller made or owns, newest first; an administrator sees all."""
    rooms = _Rooms(request)
    visible = (job for job in rooms.store.jobs() if is_visible(job, caller))
    return [rooms.view(job) for job in islice(visible, limit)]


@router.get("/api/jobs/{job_id}", response_model=JobView)
def get_job(request: Request, job_id: UUID, caller: Reads) -> JobView:
    """A job with its newest runs."""
    rooms = _Rooms(request)
    return rooms.view(rooms.job(job_id, caller))


@router.patch("/api/jobs/{job_id}", response_model=JobView)
def change_job(request: Request, job_id: UUID, change: JobPatch, caller: Writes) -> JobView:
    """Change when a job runs. Its flow follows within seconds."""
    rooms = _Rooms(request)
    job = rooms.own_living(job_id, caller)
    if change.model_fields_set & {"schedule", "timezone"}:
        asked = job.request.schedule if "schedule" not in change.model_fields_set else change.schedule
        zone = change.timezone or job.request.timezone
        if asked is not None and (problem := check_schedule(asked)):
            raise InvalidRequest.one("/schedule", "bad-schedule", problem, "Use five cron fields.")
        if problem := check_timezone(zone):
            raise InvalidRequest.one("/timezone", "bad-timezone", problem, "Use an IANA name.")
        job = rooms.store.set_schedule(job_id, asked, zone)
    if change.paused is not None:
        job = rooms.store.set_paused(job_id, change.paused)
    rooms.follow(job)
    return rooms.view(rooms.store.job(job_id))


@router.delete("/api/jobs/{job_id}", status_code=204)
def delete_job(request: Request, job_id: UUID, caller: Writes) -> Response:
    """Delete a job: its flow goes, its configuration is forgotten; its tables stay."""
    rooms = _Rooms(request)
    rooms.own_living(job_id, caller)
    rooms.follow(rooms.store.delete_job(job_id, datetime.now(UTC)))
    return Response(status_code=204)


@router.post("/api/jobs/{job_id}/pause", response_model=JobView)
def pause_job(request: Request, job_id: UUID, caller: Writes) -> JobView:
    """Let the schedule rest."""
    return change_job(request, job_id, JobPatch(paused=True), caller)


@router.post("/api/jobs/{job_id}/resume", response_model=JobView)
def resume_job(request: Request, job_id: UUID, caller: Writes) -> JobView:
    """Take the schedule up again."""
    return change_job(request, job_id, JobPatch(paused=False), caller)


@router.post("/api/jobs/{job_id}/trigger", status_code=202, response_model=RunView)
def trigger_job(request: Request, job_id: UUID, caller: Writes) -> RunView:
    """Start a run now. It waits while another run of the job is at work."""
    rooms = _Rooms(request)
    job = rooms.own_living(job_id, caller)
    run_id = uuid4()
    run = rooms.store.add_run(
        Run(id=run_id, job_id=job_id, flow_run_id=f"airberg__{run_id}", created_at=datetime.now(UTC))
    )
    rooms.follow(job)
    return run_view(run, rooms.orchestrator.flow_url(job.flow_id))


@router.get("/api/jobs/{job_id}/runs", response_model=list[RunView])
def list_runs(
    request: Request, job_id: UUID, caller: Reads, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> list[RunView]:
    """Runs of a job, newest first."""
    rooms = _Rooms(request)
    job = rooms.job(job_id, caller)
    url = rooms.orchestrator.flow_url(job.flow_id)
    return [run_view(r, url) for r in rooms.store.runs(job_id, limit=limit)]


@router.get("/api/runs/{run_id}", response_model=RunView)
def get_run(request: Request, run_id: UUID, caller: Reads) -> RunView:
    """A run: status, rows per table, error."""
    rooms = _Rooms(request)
    run = rooms.store.run(run_id)
    job = rooms.job(run.job_id, caller)
    return run_view(run, rooms.orchestrator.flow_url(job.flow_id))


@router.post("/api/runs/{run_id}/cancel", status_code=202, response_model=RunView)
def cancel_run(request: Request, run_id: UUID, caller: Writes) -> RunView:
    """Stop a run. What it has committed stays; the next run goes on from there."""
    rooms = _Rooms(request)
    run = rooms.store.run(run_id)
    job = rooms.job(run.job_id, caller)
    if run.status.ended:
        raise Conflict("The run has ended already.", code="run-ended")
    if rooms.orchestrator.run_state(job.flow_id, run.flow_run_id) is not None:
        rooms.orchestrator.cancel(job.flow_id, run.flow_run_id)
    if run.status is RunStatus.QUEUED:  # nothing of ours is at work that could report it
        error = "The run was cancelled before it began."
        rooms.store.end_run(
            run_id, RunStatus.CANCELLED, datetime.now(UTC), error=error, error_code="cancelled"
        )
    return run_view(rooms.store.run(run_id), rooms.orchestrator.flow_url(job.flow_id))
