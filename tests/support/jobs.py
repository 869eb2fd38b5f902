"""Jobs and runs to store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from airberg.columns.types import LONG, STRING, Struct
from airberg.columns.types import Field as StructField
from airberg.jobs.model import Job, Run
from airberg.plan.model import (
    ColumnPlan,
    EncryptRule,
    GovernancePlan,
    IngestRequest,
    JobPlan,
    StreamPlan,
    Transformation,
)

NOON = datetime(2026, 3, 29, 12, 0, 0, 123456, tzinfo=UTC)


def at(minutes: float) -> datetime:
    """A moment some minutes after NOON."""
    return NOON + timedelta(minutes=minutes)


def a_request(name: str = "orders", **changes: Any) -> IngestRequest:
    """A request that uses most fields."""
    values: dict[str, Any] = {
        "name": name,
        "source_name": "source-faker",
        "schema_name": "shop",
        "mode": "merge",
        "streams": ("users", "Käufe"),
        "merge": ("id",),
        "schedule": "0 6 * * *",
        "timezone": "Europe/Berlin",
        "tags": ("demo",),
        "owner_id": "ann@example.com",
        "column_transformations": (
            Transformation(column="email", transformation_type="encrypt", encryption_key_name="pii"),
        ),
    }
    return IngestRequest(**(values | changes))


def a_plan() -> JobPlan:
    """A plan with a nested, an encrypted and a plain column."""
    columns = (
        ColumnPlan(source="id", name="id", source_type=LONG, type=LONG),
        ColumnPlan(
            source="email",
            name="email",
            source_type=STRING,
            type=STRING,
            encrypt=EncryptRule(key_name="pii", mode="random", aad="shop.users.email"),
        ),
        ColumnPlan(
            source="address",
            name="address",
            source_type=Struct((StructField("city", STRING),)),
            type=Struct((StructField("city", STRING),)),
        ),
    )
    stream = StreamPlan(
        name="users",
        table="users",
        sync_mode="incremental",
        mode="merge",
        cursor=("updated_at",),
        merge_key=(("id",),),
        columns=columns,
        catalog_stream={"name": "users", "json_schema": {"type": "object", "x\x00": "\u20ac"}},
        protect_state=True,
    )
    return JobPlan(
        source_name="source-faker",
        connector_version="6.2.0",
        namespace=("shop",),
        mode="merge",
        streams=(stream,),
        governance=GovernancePlan(tags=("demo",), owner="ann@example.com"),
        discovered_at=1.5,
    )


def a_job(name: str = "orders", *, owner: str = "ann@example.com", **changes: Any) -> Job:
    """A new job."""
    values: dict[str, Any] = {
        "id": uuid4(),
        "owner_id": owner,
        "created_by": f"https://issuer.example|{owner}",
        "request": a_request(name, owner_id=owner),
        "plan": a_plan(),
        "public_config": {"count": 3, "token": "**********"},
        "created_at": NOON,
    }
    return Job(**(values | changes))


def a_run(job_id: UUID, flow_run_id: str = "manual__1", **changes: Any) -> Run:
    """A queued run."""
    values: dict[str, Any] = {"id": uuid4(), "job_id": job_id, "flow_run_id": flow_run_id, "created_at": NOON}
    return Run(**(values | changes))
