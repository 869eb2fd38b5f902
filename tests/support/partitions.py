"""Partitioned tables for tests: terms in few words, and a judge of files that is not our own code."""

from __future__ import annotations

import datetime
import math
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.types import StructType

from airberg.columns.types import (
    BINARY,
    BOOLEAN,
    DATE,
    DOUBLE,
    INT,
    LONG,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    Field,
    Struct,
)
from airberg.columns.types import Decimal as DecimalType
from airberg.lake.arrange import Arrangement
from airberg.plan.model import PartitionTerm, SortTerm

EVENTS = (
    Field("id", LONG),
    Field("name", STRING),
    Field("small", INT),
    Field("flag", BOOLEAN),
    Field("amount", DecimalType(9, 2)),
    Field("share", DOUBLE),
    Field("born", DATE),
    Field("at", TIMESTAMPTZ),
    Field("local", TIMESTAMP),
    Field("clock", TIME),
    Field("raw", BINARY),
    Field("address", Struct((Field("city", STRING), Field("zip", LONG)))),
)
ARROW = pa.schema(
    [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("small", pa.int32()),
        ("flag", pa.bool_()),
        ("amount", pa.decimal128(9, 2)),
        ("share", pa.float64()),
        ("born", pa.date32()),
        ("at", pa.timestamp("us", "UTC")),
        ("local", pa.timestamp("us")),
        ("clock", pa.time64("us")),
        ("raw", pa.binary()),
        ("address", pa.struct([("city", pa.string()), ("zip", pa.int64())])),
    ]
)


def by(transform: str, column: str, argument: int | None = None) -> PartitionTerm:
    """A partition field."""
    path = tuple(column.split("."))
    return PartitionTerm(transform=transform, argument=argument, source=path, column=path)  # type: ignore[arg-type]


def sorted_by(
    column: str,
    transform: str = "identity",
    argument: int | None = None,
    *,
    descending: bool = False,
    nulls_last: bool = False,
) -> SortTerm:
    """A sort key."""
    path = tuple(column.split("."))
    return SortTerm(
        transform=transform,  # type: ignore[arg-type]
        argument=argument,
        source=path,
        column=path,
        descending=descending,
        nulls_last=nulls_last,
    )


def data_files(table: Table) -> list[DataFile]:
    """Data files of the current snapshot."""
    return [task.file for task in table.refresh().scan().plan_files()]


def rows_of(file: DataFile) -> list[dict[str, Any]]:
    """The rows of a data file, read as plain Parquet."""
    return pq.read_table(unquote(urlsplit(file.file_path).path), partitioning=None).to_pylist()


def raw_rows(file: DataFile) -> pa.Table:
    """The same as Arrow."""
    return pq.read_table(unquote(urlsplit(file.file_path).path), partitioning=None)


def physical_values(table: Table, file: DataFile, source_id: int) -> list[Any]:
    """The values of a column in a file in Iceberg's physical form (days, microseconds)."""
    name = table.schema().find_column_name(source_id)
    assert name is not None
    path = name.split(".")
    column = raw_rows(file).column(path[0]).combine_chunks()
    type_ = table.schema().as_struct()
    for member in path[1:]:
        assert isinstance(type_, StructType)
        column = pa.compute.struct_field(column, [column.type.get_field_index(member)])
    if pa.types.is_date32(column.type):
        column = column.view(pa.int32())
    elif pa.types.is_temporal(column.type):
        column = column.view(pa.int64())
    return column.to_pylist()


def same(left: Any, right: Any) -> bool:
    """Equality in which NaN is NaN, and the zeros are two."""
    if isinstance(left, float) and isinstance(right, float):
        if math.isnan(left) or math.isnan(right):
            return math.isnan(left) and math.isnan(right)
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return bool(left == right)


def assert_partitions_hold(table: Table) -> None:
    """Every file's partition is what pyiceberg's own transform makes of each of its rows."""
    table.refresh()
    schema, spec = table.schema(), table.spec()
    for file in data_files(table):
        assert file.spec_id == spec.spec_id
        assert file.record_count > 0
        for position, field in enumerate(spec.fields):
            one = field.transform.transform(schema.find_type(field.source_id))
            for value in physical_values(table, file, field.source_id):
                assert same(one(value), file.partition[position]), (field, value, file.partition)


def all_rows(table: Table) -> list[dict[str, Any]]:
    """All rows, as pyiceberg reads them."""
    found: list[dict[str, Any]] = table.refresh().scan().to_arrow().to_pylist()
    return found


def as_seen(rows_: list[dict[str, Any]]) -> list[str]:
    """Rows that compare, NaN too, and instants in whatever zone an engine shows them."""

    def shown(value: Any) -> Any:
        aware = isinstance(value, datetime.datetime) and value.tzinfo is not None
        return value.astimezone(datetime.UTC).isoformat() if aware else value

    return sorted(repr({name: shown(value) for name, value in row.items()}) for row in rows_)


def assert_order_holds(table: Table) -> None:
    """A file that claims the sort order is in it, by a comparison of our own making."""
    if table.sort_order().is_unsorted:
        assert all(file.sort_order_id is None for file in data_files(table))
        return
    arrangement = Arrangement(table)
    for file in data_files(table):
        assert file.sort_order_id in (None, table.sort_order().order_id)
        if file.sort_order_id is not None:
            assert arrangement.in_order(raw_rows(file).combine_chunks().to_batches()[0])
