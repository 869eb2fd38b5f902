"""Jobs, runs and plans as the API shows them. Nothing here has a secret to show."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from airberg.api.run_views import RunSummary, run_summary
from airberg.flows.port import Orchestrator
from airberg.flows.schedule import next_times
from airberg.jobs.encoding import encode_free
from airberg.jobs.model import Job, Run
from airberg.plan.model import IngestRequest

Address = Annotated[str, Field(json_schema_extra={"format": "uri"})]


class IngestAnswer(BaseModel):
    """Answer to a submission."""

    flow_url: str = Field(
        description="Airflow URL to access the ingestion flow.", json_schema_extra={"format": "uri-reference"}
    )
    job_id: UUID | None = Field(None, description="A unique ID of the created ingestion job.")
    error: str | None = Field(None, description="What went wrong, if something did.")


class JobView(BaseModel):
    """A job. Field names are those of the sibling API's jobs, plus what it lacks."""

    model_config = ConfigDict(extra="forbid")

    id: UUID
    job_name: str
    owner_id: str
    job_type: str = "airflow.airbyte"
    source: str
    destination: str
    schedule: str | None
    timezone: str
    paused: bool
    status: str
    status_message: str | None
    created_at: datetime
    last_started_at: datetime | None
    last_completed_at: datetime | None
    last_failed_at: datetime | None
    is_deleted: bool
    deleted_at: datetime | None
    properties_json: str = Field(description="The request as JSON, secrets masked.")
    version: int = Field(description="Grows with each change that somebody asks for; also in the ETag.")
    flow_id: str
    flow_url: Address
    flow_registered: bool
    next_runs: list[datetime]
    tables: list[str]
    runs: list[RunSummary] = Field(description="Newest first: ten, or in a list of jobs one.")


def job_view(
    job: Job,
    runs: Sequence[Run],
    orchestrator: Orchestrator,
    now: datetime,
    tables: Sequence[str] | None = None,
    *,
    registered: bool,
) -> JobView:
    """A job with its newest runs; with its tables, where it comes without its plan.

    Args:
        registered: Whether the orchestrator has its flow as it should be.
    """
    request = job.request
    if tables is None:
        tables = [".".join((*job.plan.namespace, s.table)) for s in job.plan.streams] if job.plan else []
    properties = request_as_sent(request) | {"source_config": job.public_config}
    upcoming = (
        next_times(request.schedule, request.timezone, now, 3)
        if request.schedule and not job.paused and job.deleted_at is None
        else []
    )
    return JobView(
        id=job.id,
        job_name=request.name,
        owner_id=job.owner_id,
        source=request.source_name,
        destination=request.schema_name,
        schedule=request.schedule,
        timezone=request.timezone,
        paused=job.paused,
        status=job.status.value,
        status_message=job.status_message,
        created_at=job.created_at,
        last_started_at=job.last_started_at,
        last_completed_at=job.last_completed_at,
        last_failed_at=job.last_failed_at,
        is_deleted=job.deleted_at is not None,
        deleted_at=job.deleted_at,
        properties_json=encode_free(properties),
        version=job.version,
        flow_id=job.flow_id,
        flow_url=orchestrator.flow_url(job.flow_id),
        flow_registered=registered,
        next_runs=upcoming,
        tables=list(tables),
        runs=[run_summary(r) for r in runs],
    )


def request_as_sent(request: IngestRequest) -> dict[str, Any]:
    """The request in the contract's words."""
    out: dict[str, Any] = msgspec.to_builtins(request)
    del out["connector"]  # where things are on our machines; its version is in `source_version`
    del out["governance"]  # not as sent, but as resolved
    out["merge"] = ",".join(request.merge) or None
    out["tables"] = {
        t.stream: {"partition_by": list(t.partition_by), "sort_by": list(t.sort_by)} for t in request.tables
    }
    return out
