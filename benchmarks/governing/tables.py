"""A job with many tables of a common kind, and a run that has loaded all of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pyiceberg.schema import Schema
from pyiceberg.types import BinaryType, DecimalType, IcebergType, LongType, NestedField, StringType

from airberg.columns.types import BINARY, LONG, STRING, ColumnType, Decimal
from airberg.jobs.model import Job, Run, RunReport, RunStatus, StreamReport
from airberg.plan.model import ColumnPlan, EncryptRule, GovernancePlan, IngestRequest, JobPlan, StreamPlan

NAMESPACE = "shop"
BEGAN = datetime(2026, 3, 29, 12, tzinfo=UTC)
_PRICE = Decimal(10, 2)
_EMAIL = EncryptRule(key_name="shop-pii", mode="deterministic", aad="shop-pii")
_ICEBERG: dict[ColumnType, IcebergType] = {
    LONG: LongType(),
    STRING: StringType(),
    BINARY: BinaryType(),
    _PRICE: DecimalType(10, 2),
}


def table_names(count: int) -> list[str]:
    """Names of the tables, which are those of the streams."""
    return [f"table_{number:04d}" for number in range(count)]


def columns(count: int) -> tuple[ColumnPlan, ...]:
    """Of each table: a key, one that is encrypted, one that is cast and renamed, and plain ones."""
    first = (
        ColumnPlan(source="id", name="id", source_type=LONG, type=LONG),
        ColumnPlan(source="email", name="email", source_type=STRING, type=BINARY, encrypt=_EMAIL),
        ColumnPlan(source="cost", name="price", source_type=STRING, type=_PRICE, cast_to=_PRICE),
    )
    rest = (f"column_{number:03d}" for number in range(len(first), count))
    return (*first, *(ColumnPlan(source=n, name=n, source_type=STRING, type=STRING) for n in rest))


def iceberg_schema(count: int) -> Schema:
    """The schema of each table."""
    fields = (
        NestedField(number, column.name, _ICEBERG[column.type], required=False, doc=f"What {column.name} is")
        for number, column in enumerate(columns(count), 1)
    )
    return Schema(*fields)


def job_of(tables: int, width: int) -> Job:
    """The job: a domain, an owner, two tags."""
    shared = columns(width)
    streams = tuple(
        StreamPlan(
            name=name,
            namespace="public",
            table=name,
            sync_mode="full_refresh",
            mode="append",
            columns=shared,
            catalog_stream={"name": name, "json_schema": {"type": "object"}},
        )
        for name in table_names(tables)
    )
    plan = JobPlan(
        source_name="source-postgres",
        connector_version="3.7.0",
        namespace=(NAMESPACE,),
        mode="append",
        streams=streams,
        governance=GovernancePlan(
            domain="urn:li:domain:sales", tags=("pii", "shop"), owner="ann@example.com"
        ),
    )
    request = IngestRequest(
        name="shop nightly",
        source_name="source-postgres",
        schema_name=NAMESPACE,
        mode="append",
        domain="urn:li:domain:sales",
        tags=("pii", "shop"),
        owner_id="ann@example.com",
    )
    return Job(
        id=uuid.UUID(int=1),
        owner_id="ann@example.com",
        created_by="https://issuer|ann",
        request=request,
        plan=plan,
        public_config={"host": "db", "database": "shop"},
        created_at=BEGAN,
    )


def run_of(job: Job) -> Run:
    """A run that wrote a thousand rows into each table."""
    return Run(
        id=uuid.UUID(int=2),
        job_id=job.id,
        flow_run_id=f"scheduled__{BEGAN.isoformat()}",
        status=RunStatus.COMPLETED,
        attempt=1,
        report=RunReport(streams=tuple(_reports(job))),
        created_at=BEGAN,
        started_at=BEGAN,
        ended_at=BEGAN + timedelta(minutes=5),
    )


def _reports(job: Job) -> Iterator[StreamReport]:
    for stream in job.plan.streams if job.plan else ():
        yield StreamReport(
            stream=stream.name, table=stream.table, rows_read=1_000, rows_written=1_000, complete=True
        )
