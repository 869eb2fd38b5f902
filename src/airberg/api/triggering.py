"""Starting a run of a job over HTTP, and what can be asked of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from airberg.api.acting import acting
from airberg.api.json_route import JsonRoute
from airberg.api.problems import PROBLEM_RESPONSES
from airberg.api.rooms import Rooms, Writes
from airberg.api.run_views import RunView, run_view
from airberg.errors import InvalidRequest, Problem
from airberg.jobs.model import Job, Run, RunRequest
from airberg.plan.names import nearest
from airberg.quoted import quoted

MAX_STREAMS = 500
"""That one run may be asked for by name (`airberg_airflow.dags`)."""

router = APIRouter(tags=["jobs"], responses=PROBLEM_RESPONSES, route_class=JsonRoute)


class RunBody(BaseModel):
    """What is asked of one run."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    streams: list[Annotated[str, Field(min_length=1, max_length=2_000)]] | None = Field(
        None, max_length=MAX_STREAMS, description="The only streams to sync; null or empty: all of the job's."
    )
    full_refresh: bool = Field(
        False,
        description="Read them from their beginning, whatever was read before; what comes replaces the rows "
        "of their tables, in one commit at the end.",
    )

    def as_request(self) -> RunRequest:
        """The value that is stored with the run."""
        return RunRequest(streams=tuple(dict.fromkeys(self.streams or ())), full_refresh=self.full_refresh)


@router.post("/api/jobs/{job_id}/trigger", status_code=202, response_model=RunView)
def trigger_job(request: Request, job_id: UUID, caller: Writes, body: RunBody | None = None) -> RunView:
    """Start a run now. It waits while another run of the job is at work."""
    rooms = Rooms(request)
    job = rooms.own_living(job_id, caller)
    asked = (body or RunBody()).as_request()
    refuse_unknown(job, asked)
    run_id = uuid4()
    detail: dict[str, object] = {"run": str(run_id)}
    if asked.streams:
        detail["streams"] = list(asked.streams)
    if asked.full_refresh:
        detail["full_refresh"] = True
    run = rooms.store.add_run(
        Run(
            id=run_id,
            job_id=job_id,
            flow_run_id=f"airberg__{run_id}",
            created_at=datetime.now(UTC),
            asked=asked,
        ),
        act=acting(request, caller, "job.trigger", "job", job_id, **detail),
    )
    rooms.follow(job)
    return run_view(run, rooms.orchestrator.flow_url(job.flow_id))


def refuse_unknown(job: Job, asked: RunRequest) -> None:
    """Refuse streams that the job is known not to have. Without a plan only its run can tell.

    Raises:
        InvalidRequest: With all of them.
    """
    if job.plan is None:
        return
    known = [stream.name for stream in job.plan.streams]
    problems = []
    for place, name in enumerate(asked.streams):
        if name in known:
            continue
        near = nearest(name, known)
        guidance = f"Did you mean {quoted(near)}?" if near else "Leave `streams` out to sync all of them."
        message = f"The job has no stream {quoted(name)}."
        problems.append(Problem(f"/streams/{place}", "unknown-stream", message, guidance))
    if problems:
        raise InvalidRequest(problems)
