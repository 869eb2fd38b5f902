"""Arrow types of columns, and the fields of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from airberg.columns.convert import ELEMENT
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
