"""Arrow types of columns, and the fields of a table."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from airberg.columns.convert import ELEMENT
from airberg.columns.far_dates import Day, Moment, day_at, moment_in_utc, without_zone
from airberg.columns.metadata import METADATA_FIELDS
from airberg.columns.types import ColumnType, Decimal, Field, Json, List, Struct
from airberg.plan.model import ColumnPlan

_PRIMITIVES: Final = {
    "boolean": pa.bool_(),
    "byte": pa.int32(),
    "short": pa.int32(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "string": pa.string(),
    "binary": pa.binary(),
}


def arrow_type(column: ColumnType) -> pa.DataType:
    """The Arrow type of a column. Offsets are 32 bits wide: batches are far below 2 GB."""
    if isinstance(column, Json):
        return pa.string()
    if isinstance(column, Decimal):
        return pa.decimal128(column.precision, column.scale)
    if isinstance(column, List):
        return pa.list_(pa.field(ELEMENT, arrow_type(column.element)))
    if isinstance(column, Struct):
        return pa.struct([pa.field(f.name, arrow_type(f.type)) for f in column.fields])
    return _PRIMITIVES[column.name]


def table_fields(columns: Sequence[ColumnPlan], add_metadata: bool) -> tuple[Field, ...]:
    """The fields of a stream's table: the metadata columns, if wanted, then the stream's own."""
    own = tuple(Field(c.name, c.type, c.doc) for c in columns)
    return METADATA_FIELDS + own if add_metadata else own


def arrow_schema(columns: Sequence[ColumnPlan], add_metadata: bool) -> pa.Schema:
    """The schema of a stream's batches; everything is nullable."""
    return pa.schema([pa.field(f.name, arrow_type(f.type)) for f in table_fields(columns, add_metadata)])


def python_values(column: pa.Array) -> list[Any]:
    """The values of an array as Python objects; dates and moments that Python has not as text."""
    kind = column.type
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):
        if not (pa.types.is_temporal(kind) or pa.types.is_nested(kind)):
            raise
    if pa.types.is_struct(kind):
        members = {f.name: python_values(column.field(i)) for i, f in enumerate(kind)}
        rows = [{name: values[i] for name, values in members.items()} for i in range(len(column))]
        return [
            row if there else None for row, there in zip(rows, column.is_valid().to_pylist(), strict=True)
        ]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [python_values(found.values) if found.is_valid else None for found in column]
    if pa.types.is_date32(kind):
        return [n if n is None else _known(day_at(n)) for n in column.view(pa.int32()).to_pylist()]
    if not pa.types.is_timestamp(kind):
        return list(column.cast(pa.string()).to_pylist())
    micros = column.cast(pa.timestamp("us", kind.tz)).view(pa.int64()).to_pylist()
    moments = [n if n is None else moment_in_utc(n) for n in micros]
    return [m if m is None else _known(m if kind.tz else without_zone(m)) for m in moments]


def _known(found: Day | Moment) -> dt.date | str:
    return str(found) if isinstance(found, int) else found
