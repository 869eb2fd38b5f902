"""Jobs over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from airberg.api.acting import acting
from airberg.api.etags import IfMatch, require_match, show_version
from airberg.api.json_route import JsonRoute
from airberg.api.paging import Cursor, cursor_of, link_next, place_of
from airberg.api.problems import PROBLEM_RESPONSES
from airberg.api.rooms import Reads, Rooms, Writes, viewer_of
from airberg.api.views import JobView, RunView, run_view
from airberg.errors import InvalidRequest
from airberg.flows.schedule import check_schedule, check_timezone
from airberg.identity.principal import Principal
from airberg.jobs.finding import JobFilter, Place
from airberg.jobs.model import JobStatus, Run

router = APIRouter(tags=["jobs"], responses=PROBLEM_RESPONSES, route_class=JsonRoute)


class JobPatch(BaseModel):
    """What can be changed of a job. Fields that are left out stay as they are."""

    model_config = ConfigDict(extra="forbid", strict=True)

    schedule: str | None = Field(None, description="Five-field cron or preset; null: no schedule.")
    timezone: str | None = Field(None, description="IANA time zone of the schedule.")
    paused: bool | None = Field(None, description="Whether the schedule rests.")


Owner = Annotated[str | None, Query(max_length=2_000, description="Only jobs of this owner.")]
Status = Annotated[JobStatus | None, Query(description="Only jobs of this status.")]
Source = Annotated[
    str | None, Query(max_length=200, description="Only jobs of this connector, such as source-github.")
]
Tag = Annotated[str | None, Query(max_length=2_000, description="Only jobs whose tables get this tag.")]
Deleted = Annotated[bool, Query(description="Deleted jobs, too.")]


@router.get("/api/jobs", response_model=list[JobView])
def list_jobs(
    request: Request,
    response: Response,
    caller: Reads,
    owner_id: Owner = None,
    status: Status = None,
    source: Source = None,
    tag: Tag = None,
    include_deleted: Deleted = False,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> list[JobView]:
    """Jobs that the caller made or that are shared with the caller, newest first; an administrator sees all.

    The header Link leads to the next page, if there is one.
    """
    rooms = Rooms(request)
    wanted = JobFilter(
        viewer=viewer_of(caller),
        owner_id=owner_id,
        status=status,
        source=source,
        tag=tag,
        include_deleted=include_deleted,
    )
    found = rooms.store.page(wanted, after=place_of(cursor), limit=limit + 1)
    page = found[:limit]
    if len(found) > limit:
        link_next(request, response, cursor=cursor_of(Place.of(page[-1].job)))
    return [rooms.listed(job) for job in page]


@router.get("/api/jobs/{job_id}", response_model=JobView)
def get_job(request: Request, response: Response, job_id: UUID, caller: Reads) -> JobView:
    """A job with its newest runs. The header ETag has its version, for `If-Match` of a change."""
    rooms = Rooms(request)
    job = rooms.job(job_id, caller)
    show_version(response, job)
    return rooms.view(job)


@router.patch("/api/jobs/{job_id}", response_model=JobView)
def change_job(request: Request, job_id: UUID, change: JobPatch, caller: Writes) -> JobView:
    """Change when a job runs. Its flow follows within seconds."""
    rooms = Rooms(request)
    job = rooms.own_living(job_id, caller)
    act = acting(request, caller, "job.change", "job", job_id, **change.model_dump(exclude_unset=True))
    if change.model_fields_set & {"schedule", "timezone"}:
        asked = job.request.schedule if "schedule" not in change.model_fields_set else change.schedule
        zone = change.timezone or job.request.timezone
        if asked is not None and (problem := check_schedule(asked)):
            raise InvalidRequest.one("/schedule", "bad-schedule", problem, "Use five cron fields.")
        if problem := check_timezone(zone):
            raise InvalidRequest.one("/timezone", "bad-timezone", problem, "Use an IANA name.")
        job = rooms.store.set_schedule(job_id, asked, zone, act=act)
    if change.paused is not None:
        job = rooms.store.set_paused(job_id, change.paused, act=act)
    rooms.follow(job)
    return rooms.view(rooms.store.job(job_id))


@router.delete("/api/jobs/{job_id}", status_code=204)
def delete_job(request: Request, job_id: UUID, caller: Writes, if_match: IfMatch = None) -> Response:
    """Delete a job: its flow goes, its configuration is forgotten; its tables stay."""
    rooms = Rooms(request)
    version = require_match(rooms.own_living(job_id, caller), if_match)
    act = acting(request, caller, "job.delete", "job", job_id)
    rooms.follow(rooms.store.delete_job(job_id, datetime.now(UTC), version=version, act=act))
    return Response(status_code=204)


@router.post("/api/jobs/{job_id}/pause", response_model=JobView)
def pause_job(request: Request, job_id: UUID, caller: Writes) -> JobView:
    """Let the schedule rest."""
    return _set_paused(request, job_id, caller, "job.pause", paused=True)


@router.post("/api/jobs/{job_id}/resume", response_model=JobView)
def resume_job(request: Request, job_id: UUID, caller: Writes) -> JobView:
    """Take the schedule up again."""
    return _set_paused(request, job_id, caller, "job.resume", paused=False)


def _set_paused(request: Request, job_id: UUID, caller: Principal, action: str, *, paused: bool) -> JobView:
    rooms = Rooms(request)
    rooms.own_living(job_id, caller)
    act = acting(request, caller, action, "job", job_id)
    rooms.follow(rooms.store.set_paused(job_id, paused, act=act))
    return rooms.view(rooms.store.job(job_id))


@router.post("/api/jobs/{job_id}/trigger", status_code=202, response_model=RunView)
def trigger_job(request: Request, job_id: UUID, caller: Writes) -> RunView:
    """Start a run now. It waits while another run of the job is at work."""
    rooms = Rooms(request)
    job = rooms.own_living(job_id, caller)
    run_id = uuid4()
    run = rooms.store.add_run(
        Run(id=run_id, job_id=job_id, flow_run_id=f"airberg__{run_id}", created_at=datetime.now(UTC)),
        act=acting(request, caller, "job.trigger", "job", job_id, run=str(run_id)),
    )
    rooms.follow(job)
    return run_view(run, rooms.orchestrator.flow_url(job.flow_id))
