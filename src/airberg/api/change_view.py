"""What a change of a job would do, as the API shows it."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from airberg.api.changing import Planned
from airberg.api.plan_views import PlanView, SkippedPlan, plan_view
from airberg.jobs.model import Job
from airberg.plan.plan_changes import column_changes
from airberg.plan.stream_changes import stream_changes
from airberg.settings import Settings


class PlannedChange(BaseModel):
    """Answer to a change with `?dry_run=true`: what would be done."""

    model_config = ConfigDict(extra="forbid")

    changed: list[str] = Field(description="Members of the request that would be others; `paused` too.")
    streams: list[str] = Field(description="What changes in the streams, one line each.")
    columns: list[str] = Field(description="What changes in the columns as they are written.")
    tables: list[str] = Field(description="What would change in tables that are there, or be made.")
    plan: PlanView | SkippedPlan | None = Field(
        description="The new plan; null when nothing that is read or written changes."
    )


def planned_change(job: Job, planned: Planned, settings: Settings) -> PlannedChange:
    """What a change would do."""
    prepared = planned.prepared
    new = prepared.plan if prepared is not None else None
    both = job.plan is not None and new is not None
    tables = prepared.tables if prepared is not None else ()
    return PlannedChange(
        changed=list(planned.fields),
        streams=stream_changes(job.plan, new) if both and job.plan and new else [],
        columns=column_changes(job.plan, new) if both and job.plan and new else [],
        tables=[
            *(f"{d.table}: {change}" for d in tables for change in d.changes),
            *(f"{d.table}: is made" for d in tables if not d.exists),
        ],
        plan=None if prepared is None else plan_view(prepared, planned.request, settings, datetime.now(UTC)),
    )
