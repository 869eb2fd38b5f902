"""Runs over HTTP."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request

from airberg.api.acting import acting
from airberg.api.problems import PROBLEM_RESPONSES
from airberg.api.rooms import Reads, Rooms, Writes
from airberg.api.run_views import RunView, run_view
from airberg.errors import Conflict

router = APIRouter(tags=["runs"], responses=PROBLEM_RESPONSES)


@router.get("/api/jobs/{job_id}/runs", response_model=list[RunView])
def list_runs(
    request: Request, job_id: UUID, caller: Reads, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> list[RunView]:
    """Runs of a job, newest first."""
    rooms = Rooms(request)
    job = rooms.job(job_id, caller)
    url = rooms.orchestrator.flow_url(job.flow_id)
    return [run_view(r, url) for r in rooms.store.runs(job_id, limit=limit)]


@router.get("/api/runs/{run_id}", response_model=RunView)
def get_run(request: Request, run_id: UUID, caller: Reads) -> RunView:
    """A run: status, rows per table, error."""
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
