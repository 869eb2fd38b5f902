"""Runs over HTTP."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from airberg.api.acting import acting
from airberg.api.paging import Cursor, cursor_of, link_next, place_of
from airberg.api.problems import PROBLEM_RESPONSES
from airberg.api.rooms import Reads, Rooms, Writes
from airberg.api.run_views import RunView, run_view
from airberg.errors import Conflict
from airberg.jobs.finding import Place
from airberg.jobs.model import RunStatus

router = APIRouter(tags=["runs"], responses=PROBLEM_RESPONSES)

Status = Annotated[RunStatus | None, Query(description="Only runs of this status.")]


@router.get("/api/jobs/{job_id}/runs", response_model=list[RunView])
def list_runs(
    request: Request,
    response: Response,
    job_id: UUID,
    caller: Reads,
    status: Status = None,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> list[RunView]:
    """Runs of a job, newest first, without the states of their streams."""
    rooms = Rooms(request)
    job = rooms.job(job_id, caller)
    url = rooms.orchestrator.flow_url(job.flow_id)
    found = rooms.store.runs(job_id, limit=limit + 1, before=place_of(cursor), status=status)
    page = found[:limit]
    if len(found) > limit:
        link_next(request, response, cursor=cursor_of(Place.of(page[-1])))
    return [run_view(run, url, states=False) for run in page]


@router.get("/api/runs/{run_id}", response_model=RunView)
def get_run(request: Request, run_id: UUID, caller: Reads) -> RunView:
    """A run: what it did to each table, from which state to which, its attempts, why it failed."""
    rooms = Rooms(request)
    run, job = rooms.run(run_id, caller)
    return run_view(run, rooms.orchestrator.flow_url(job.flow_id))


@router.post("/api/runs/{run_id}/cancel", status_code=202, response_model=RunView)
def cancel_run(request: Request, run_id: UUID, caller: Writes) -> RunView:
    """Stop a run. What it has committed stays; the next run goes on from there."""
    rooms = Rooms(request)
    run, job = rooms.run(run_id, caller)
    if run.status.ended:
        raise Conflict("The run has ended already.", code="run-ended")
    rooms.audit.add(acting(request, caller, "run.cancel", "run", run_id, job=str(job.id)))
    rooms.stop(job, run)
    return run_view(rooms.store.run(run_id), rooms.orchestrator.flow_url(job.flow_id))
