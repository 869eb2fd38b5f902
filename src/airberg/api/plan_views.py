"""Plans as the API shows them: what a dry run answers. Nothing here has a secret to show."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from airberg.api.views import IngestAnswer
from airberg.flows.model import FlowOptions, flow_options
from airberg.flows.schedule import next_times
from airberg.plan.flow_request import Notification, NotificationType
from airberg.plan.model import DeleteFormat, EncryptionMode, IngestRequest, Mode, StreamPlan, SyncMode
from airberg.plan.prepared import Prepared, TableDifference
from airberg.plan.transformations import columns_as_builtins
from airberg.settings import Settings


class _Shown(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PlannedSource(_Shown):
    """The connector that was asked."""

    name: str
    version: str


class PlannedMerging(_Shown):
    """How merges work."""

    delete_format: DeleteFormat
    soft_deletes: bool = Field(description="A row that the source deleted stays, with its deletion mark.")
    skip_unchanged: bool = Field(description="A version that brings no new value is not written.")


class Change(_Shown):
    """A name or a type, before and after. `from` is that of the source."""

    from_: str = Field(alias="from")
    to: str


class PlannedEncryption(_Shown):
    """How a column is encrypted."""

    key_name: str
    mode: EncryptionMode
    aad: str = Field(description="The associated data of each value.")


class PlannedHash(_Shown):
    """How a column is hashed."""

    key_name: str


class PlannedMask(_Shown):
    """How a column is masked."""

    keep_last: int
    mask_char: str


class PlannedSteps(_Shown):
    """What happens to a column on the way; what does not happen is left out."""

    rename: Change | None = None
    kept_apart: Change | None = Field(None, description="Its name is taken, or not fit for a table.")
    cast: Change | None = None
    encrypt: PlannedEncryption | None = None
    hash: PlannedHash | None = None
    mask: PlannedMask | None = None


class PlannedColumn(_Shown):
    """A column of the table, or a field of a struct."""

    column: str = Field(description="Dotted path in the table.")
    type: str = Field(description="Its Iceberg type.")
    transformations: PlannedSteps


class PlannedTable(_Shown):
    """The table of a stream, against what exists."""

    name: str = Field(description="With its namespace, dotted.")
    exists: bool
    columns: dict[str, str] = Field(description="Type by name of each column that the job needs.")
    changes: list[str] = Field(description="What would change in the table that exists, one sentence each.")
    partition_by: list[str]
    sort_by: list[str]
    identifier: list[str]
    format_version: int | None = Field(description="That of Iceberg.")


class PlannedStream(_Shown):
    """What becomes of a stream."""

    stream: str
    namespace: str | None
    sync_mode: SyncMode
    cursor: str | None = Field(description="Dotted path of the column that shows what is new.")
    primary_key: list[str] = Field(description="That of the source, dotted paths.")
    merge_key: list[str] = Field(description="What rows are merged by, dotted paths in the source.")
    columns: list[PlannedColumn]
    dropped: list[str] = Field(description="Columns that the table does not get.")
    table: PlannedTable


class PlannedGovernance(_Shown):
    """Where the tables belong."""

    domain: str | None = Field(description="Its urn.")
    tags: list[str]
    owner: str


class PlannedNotification(_Shown):
    """Who would be told of a run that failed."""

    type: NotificationType
    connection: str | None = Field(description="Id of Airflow's connection; null: `smtp_default`.")
    channel: str | None
    to: list[str] | None


class PlannedOptions(_Shown):
    """How it would run: as the request asks, else as the deployment has it."""

    parallelism: int
    pool: str | None = Field(description="Null: Airflow's `default_pool`.")
    queue: str | None = Field(description="Null: that of Airflow's executor.")
    priority: int
    retries: int
    retry_delay_s: int
    timeout_s: int
    deadline_s: int | None
    on_failure: list[PlannedNotification]
    cpu: str | None = Field(description="Of a pod, where tasks run in pods.")
    memory: str | None


class PlannedFlow(_Shown):
    """When and how it would run."""

    id: str
    schedule: str | None
    timezone: str
    run_now: bool
    next_runs: list[datetime]
    options: PlannedOptions


class PlanView(_Shown):
    """What the job would do."""

    source: PlannedSource
    source_config: dict[str, Any] = Field(description="The configuration, secrets masked.")
    mode: Mode
    merging: PlannedMerging | None = Field(description="In merge mode.")
    streams: list[PlannedStream]
    governance: PlannedGovernance
    flow: PlannedFlow
    warnings: list[str] = Field(description="One sentence each.")


class SkippedPlan(_Shown):
    """There is no plan: `preflight=skip` asked not to ask the source."""

    preflight: Literal["skipped"]
    note: str


class PlanAnswer(IngestAnswer):
    """Answer to `?dry_run=true`: what would be done."""

    plan: PlanView | SkippedPlan


def plan_view(
    prepared: Prepared, request: IngestRequest, settings: Settings, now: datetime
) -> dict[str, Any]:
    """A plan for people: what a dry run answers."""
    plan = prepared.plan
    if plan is None:
        return {"preflight": "skipped", "note": "The first run discovers the streams and plans."}
    differences = {d.table: d for d in prepared.tables}
    return {
        "source": {"name": plan.source_name, "version": plan.connector_version},
        "source_config": prepared.public_config,
        "mode": plan.mode,
        "merging": msgspec.to_builtins(plan.merging) if plan.mode == "merge" else None,
        "streams": [_stream_view(s, ".".join((*plan.namespace, s.table)), differences) for s in plan.streams],
        "governance": msgspec.to_builtins(plan.governance),
        "flow": {
            "id": "airberg_<job id, given at creation>",
            "schedule": request.schedule,
            "timezone": request.timezone,
            "run_now": request.run_now or request.schedule is None,
            "next_runs": [
                t.isoformat()
                for t in (next_times(request.schedule, request.timezone, now, 3) if request.schedule else [])
            ],
            "options": _options_view(flow_options(request, settings)),
        },
        "warnings": list(plan.warnings),
    }


def _options_view(options: FlowOptions) -> dict[str, Any]:
    told = [{n: getattr(one, n) for n in Notification.__struct_fields__} for one in options.on_failure]
    return msgspec.to_builtins(options) | {"on_failure": told}  # type: ignore[no-any-return]  # of a struct


def _stream_view(stream: StreamPlan, table: str, differences: dict[str, TableDifference]) -> dict[str, Any]:
    difference = differences.get(table)
    return {
        "stream": stream.name,
        "namespace": stream.namespace,
        "sync_mode": stream.sync_mode,
        "cursor": ".".join(stream.cursor) or None,
        "primary_key": [".".join(p) for p in stream.primary_key],
        "merge_key": [".".join(p) for p in stream.merge_key],
        "columns": columns_as_builtins(stream.columns),
        "dropped": list(stream.removed),
        "table": {
            "name": table,
            "exists": bool(difference and difference.exists),
            "columns": difference.columns if difference else {},
            "changes": list(difference.changes) if difference else [],
            "partition_by": list(difference.partition_by) if difference else [],
            "sort_by": list(difference.sort_by) if difference else [],
            "identifier": list(difference.identifier) if difference else [],
            "format_version": difference.format_version if difference else None,
        },
    }
