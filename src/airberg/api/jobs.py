"""Jobs over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from airberg.api.acting import acting
from airberg.api.change_view import PlannedChange, planned_change
from airberg.api.changing import Asked, JobChanger
from airberg.api.etags import IfMatch, require_match, show_version
from airberg.api.job_patch import JobPatch
from airberg.api.json_route import JsonRoute
from airberg.api.paging import Cursor, cursor_of, link_next, place_of
from airberg.api.problems import PROBLEM_RESPONSES
from airberg.api.rooms import Reads, Rooms, Writes, viewer_of
from airberg.api.run_views import RunView, run_view
from airberg.api.views import JobView
from airberg.errors import Conflict
from airberg.identity.principal import Principal
from airberg.jobs.finding import JobFilter, Place
from airberg.jobs.model import JobStatus

router = APIRouter(tags=["jobs"], responses=PROBLEM_RESPONSES, route_class=JsonRoute)


Owner = Annotated[str | None, Query(max_length=2_000, description="Only jobs of this owner.")]
Status = Annotated[JobStatus | None, Query(description="Only jobs of this status.")]
Source = Annotated[
    str | None, Query(max_length=200, description="Only jobs of this connector, such as source-github.")
]
Tag = Annotated[str | None, Query(max_length=2_000, description="Only jobs whose tables get this tag.")]
Preflight = Annotated[Literal["run", "skip"], Query(description="skip: do not ask the source.")]
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


@router.patch("/api/jobs/{job_id}", response_model=JobView | PlannedChange)
def change_job(
    request: Request,
    response: Response,
    job_id: UUID,
    patch: JobPatch,
    caller: Writes,
    dry_run: Annotated[bool, Query(description="Answer what would change, and change nothing.")] = False,
    preflight: Preflight = "run",
    if_match: IfMatch = None,
) -> JobView | PlannedChange:
    """Change a job. What is read or written otherwise is checked against the source, as for a new job.

    A run that is at work goes on as it began; the next one follows the change, and so does the flow.
    """
    rooms = Rooms(request)
    job = rooms.own_living(job_id, caller)
    changer = JobChanger(request.app.state.settings, rooms.store, request.app.state.submitter)
    asked = Asked(
        patch=patch,
        caller=caller,
        act=acting(request, caller, "job.change", "job", job_id),
        preflight=preflight == "run",
        if_match=if_match,
    )
    if dry_run:
        show_version(response, job)
        return planned_change(job, changer.plan(job, asked), request.app.state.settings)
    changed = changer.change(job, asked)
    rooms.follow(changed)
    show_version(response, changed)
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


@router.post("/api/jobs/{job_id}/cancel", status_code=202, response_model=list[RunView])
def cancel_job(request: Request, job_id: UUID, caller: Writes) -> list[RunView]:
    """Stop the runs of a job that are at work or wait. What they committed stays."""
    rooms = Rooms(request)
    job = rooms.own_living(job_id, caller)
    runs = [run for run in rooms.store.open_runs() if run.job_id == job_id]
    if not runs:
        raise Conflict("No run of the job is at work, and none waits.", code="no-open-run")
    ids = [str(run.id) for run in runs]
    rooms.audit.add(acting(request, caller, "job.cancel", "job", job_id, runs=ids))
    for run in runs:
        rooms.stop(job, run)
    url = rooms.orchestrator.flow_url(job.flow_id)
    return [run_view(rooms.store.run(run.id), url) for run in runs]
