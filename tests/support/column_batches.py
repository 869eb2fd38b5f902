"""Batches of records, at once and value by value, for the tests of columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from airberg.columns.arrow import arrow_schema, python_values
from airberg.columns.convert import Change, converter
from airberg.columns.json_text import parse_exact
from airberg.plan.model import ColumnPlan, StreamPlan
from support.column_values import cipher_for
from support.record_builders import make_builder


def builder(columns: Sequence[ColumnPlan], *, add_metadata: bool = False) -> Any:
    """A builder for these columns, of the kind that the test is about."""
    stream = StreamPlan(
        name="s",
        table="s",
        sync_mode="full_refresh",
        mode="append",
        columns=tuple(columns),
        catalog_stream={},
    )
    return make_builder(stream, add_metadata=add_metadata, sync_id=5, generation_id=2, cipher_for=cipher_for)


def rows_of(made: Any, records: Sequence[bytes]) -> list[dict[str, Any]]:
    """The rows that records become."""
    for record in records:
        made.add(record, 0)
    batch = made.flush()
    batch.validate(full=True)
    assert batch.schema == made.schema
    return dictionaries(batch)


def dictionaries(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows of a batch; dates that Python has not are texts."""
    columns = [python_values(c) for c in batch.columns]
    return [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]


def by_value(
    columns: Sequence[ColumnPlan], data: Sequence[bytes]
) -> tuple[list[dict[str, Any]], list[list[Change]]]:
    """The rows of records by the converter of each value, and their changes."""
    converters = [(c, converter(c, cipher_for)) for c in columns]
    rows, logs = [], []
    for record in data:
        value, changes = parse_exact(record), []
        made = {c.name: convert(value.get(c.source), changes) for c, convert in converters}
        schema = arrow_schema(columns, False)
        rows.append(dictionaries(pa.RecordBatch.from_pylist([made], schema=schema))[0])
        logs.append(changes)
    return rows, logs
