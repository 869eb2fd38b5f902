"""Iceberg tables and jobs that the governance tests describe."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal as Number
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from airberg.columns.types import BINARY, DOUBLE, LONG, STRING, Decimal, Field, List, Struct
from airberg.jobs.model import Job, Run, RunReport, RunStatus, StreamReport
from airberg.plan.model import ColumnPlan, EncryptRule, GovernancePlan, IngestRequest, JobPlan, StreamPlan

JOB_ID = UUID("0198f0a0-0000-7000-8000-00000000000a")
RUN_ID = UUID("0198f0a0-0000-7000-8000-00000000000b")
STARTED = datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC)
ENDED = datetime(2026, 11, 23, 10, 1, 5, tzinfo=UTC)


def memory_catalog(folder: Path) -> Catalog:
    """A SQLite catalog with its warehouse in `folder` and the namespace `sales`."""
    uri = f"sqlite:///{folder / 'catalog.db'}"
    catalog = SqlCatalog("lake", uri=uri, warehouse=f"file://{folder / 'warehouse'}")
    catalog.create_namespace("sales", {"team": "crm"})
    return catalog


# ---- a table with every kind of type, for parity with DataHub's own source -------------------------------


def every_type() -> Schema:
    """One column of each Iceberg type, nested ones included."""
    geo = StructType(NestedField(30, "lat", DoubleType(), required=False))
    address = StructType(
        NestedField(31, "city", StringType(), required=True, doc="Town"),
        NestedField(32, "geo", geo, required=False),
    )
    line = StructType(
        NestedField(33, "sku", StringType(), required=False),
        NestedField(34, "price", DecimalType(12, 3), required=False),
    )
    matrix = ListType(51, ListType(52, DoubleType(), element_required=False), element_required=False)
    columns: list[tuple[str, Any]] = [
        ("email", BinaryType()),
        ("amount", DecimalType(10, 2)),
        ("active", BooleanType()),
        ("day", DateType()),
        ("at", TimestamptzType()),
        ("local", TimestampType()),
        ("clock", TimeType()),
        ("score", DoubleType()),
        ("ratio", FloatType()),
        ("small", IntegerType()),
        ("uid", UUIDType()),
        ("raw", FixedType(16)),
        ("address", address),
        ("labels", ListType(53, StringType(), element_required=True)),
        ("lines", ListType(54, line, element_required=False)),
        ("attributes", MapType(55, StringType(), 56, LongType(), value_required=False)),
        ("matrix", matrix),
        ("first name", StringType()),
    ]
    optional = [NestedField(i, name, kind, required=False) for i, (name, kind) in enumerate(columns, 2)]
    return Schema(NestedField(1, "id", LongType(), required=True, doc="Primary key"), *optional)


def make_every_type(catalog: Catalog) -> Table:
    """`sales.Everything`, partitioned by day, with properties, one row and one snapshot."""
    spec = PartitionSpec(
        PartitionField(source_id=5, field_id=1000, transform=IdentityTransform(), name="day")
    )
    facts = {"owner": "alice@example.com", "comment": "All there is", "airberg.job": str(JOB_ID)}
    table = catalog.create_table("sales.Everything", every_type(), partition_spec=spec, properties=facts)
    row = {
        "id": 1,
        "email": b"\x01",
        "amount": Number("1.50"),
        "active": True,
        "day": date(2026, 1, 2),
        "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "local": datetime(2026, 1, 2, 3, 4, 5),
        "clock": time(3, 4, 5),
        "score": 1.0,
        "ratio": 0.5,
        "small": 7,
        "uid": UUID(int=7).bytes,
        "raw": b"0123456789abcdef",
        "address": {"city": "Ulm", "geo": {"lat": 48.4}},
        "labels": ["a"],
        "lines": [{"sku": "x", "price": Number("9.000")}],
        "attributes": [("k", 1)],
        "matrix": [[1.0]],
        "first name": "Ann",
    }
    table.append(pa.Table.from_pylist([row], schema=table.schema().as_arrow()))
    return table


# ---- a job with nested, renamed, cast and encrypted columns ----------------------------------------------

_EMAIL = EncryptRule(key_name="crm-pii", mode="deterministic", aad="crm-pii")
_PHONE = EncryptRule(key_name="crm-pii", mode="random", aad="sales.customers.contact.phone")

CUSTOMERS = StreamPlan(
    name="customers",
    namespace="public",
    table="customers",
    sync_mode="incremental",
    mode="merge",
    primary_key=(("id",),),
    merge_key=(("id",),),
    columns=(
        ColumnPlan(source="id", name="id", source_type=LONG, type=LONG),
        ColumnPlan(source="e_mail", name="email", source_type=STRING, type=BINARY, encrypt=_EMAIL),
        ColumnPlan(
            source="amount", name="amount", source_type=DOUBLE, type=Decimal(10, 2), cast_to=Decimal(10, 2)
        ),
        ColumnPlan(
            source="contact",
            name="contact_info",
            source_type=Struct((Field("phone", LONG), Field("city", STRING))),
            type=Struct((Field("phone", BINARY), Field("town", STRING))),
            children=(
                ColumnPlan(
                    source="phone",
                    name="phone",
                    source_type=LONG,
                    type=BINARY,
                    cast_to=STRING,
                    encrypt=_PHONE,
                ),
                ColumnPlan(source="city", name="town", source_type=STRING, type=STRING),
            ),
        ),
        ColumnPlan(source="labels", name="labels", source_type=List(STRING), type=List(STRING)),
    ),
    catalog_stream={"name": "customers", "json_schema": {"type": "object", "description": "People who buy."}},
)
ORDERS = StreamPlan(
    name="orders",
    namespace="public",
    table="orders",
    sync_mode="full_refresh",
    mode="append",
    columns=(ColumnPlan(source="id", name="id", source_type=LONG, type=LONG),),
    catalog_stream={"name": "orders", "json_schema": {"type": "object"}},
)
PLAN = JobPlan(
    source_name="source-postgres",
    connector_version="3.7.0",
    namespace=("sales",),
    mode="merge",
    streams=(CUSTOMERS, ORDERS),
    governance=GovernancePlan(
        domain="urn:li:domain:marketing-ops", tags=("pii", "crm data"), owner="alice@example.com"
    ),
)
_REQUEST = IngestRequest(
    name="CRM nightly",
    source_name="source-postgres",
    schema_name="sales",
    mode="merge",
    schedule="0 3 * * *",
    domain="Marketing Ops",
    tags=("pii", "crm data"),
    owner_id="alice@example.com",
)


def make_job(plan: JobPlan | None = PLAN, **request: Any) -> Job:
    """The job that loads `customers` and `orders`."""
    return Job(
        id=JOB_ID,
        owner_id="alice@example.com",
        created_by="https://issuer|alice",
        request=msgspec.structs.replace(_REQUEST, **request),
        plan=plan,
        public_config={"host": "db", "database": "crm", "password": "******"},
        created_at=STARTED,
    )


def make_run(*tables: str, status: RunStatus = RunStatus.COMPLETED) -> Run:
    """An ended run that wrote two rows into each of these tables and hid one."""
    reports = tuple(
        StreamReport(stream=t, table=t, rows_read=2, rows_written=2, rows_deleted=1, complete=True)
        for t in tables
    )
    return Run(
        id=RUN_ID,
        job_id=JOB_ID,
        flow_run_id="manual__2026-11-23T10:00:00+00:00",
        status=status,
        attempt=2,
        report=RunReport(streams=reports),
        created_at=STARTED,
        started_at=STARTED,
        ended_at=ENDED if status.ended else None,
    )


def make_customers(catalog: Catalog, properties: dict[str, str] | None = None) -> Table:
    """`sales.customers` as the plan makes it, with two rows; values of columns hold the word `plaintext`."""
    contact = StructType(
        NestedField(10, "phone", BinaryType(), required=False),
        NestedField(11, "town", StringType(), required=False),
    )
    schema = Schema(
        NestedField(1, "id", LongType(), required=False),
        NestedField(2, "email", BinaryType(), required=False),
        NestedField(3, "amount", DecimalType(10, 2), required=False),
        NestedField(4, "contact_info", contact, required=False),
        NestedField(5, "labels", ListType(12, StringType(), element_required=False), required=False),
        NestedField(6, "_airbyte_extracted_at", TimestamptzType(), required=False),
    )
    table = catalog.create_table("sales.customers", schema, properties=properties or {})
    rows = [{"id": i, "email": b"\x01", "labels": ["plaintext"]} for i in (1, 2)]
    table.append(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()))
    return table


def make_orders(catalog: Catalog) -> Table:
    """`sales.orders`, without any row or snapshot."""
    return catalog.create_table("sales.orders", Schema(NestedField(1, "id", LongType(), required=False)))
