"""Small reads, for the command line and for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from airberg.columns.arrow import python_values
from airberg.lake.live import has_delete_files, live_files, live_files_one_by_one
from airberg.lake.scan import live_batches


def first_rows(table: Table, n: int, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Up to `n` rows of the current snapshot, as dictionaries; in no particular order.

    No more files are opened than it takes. Dates and times that Python has not (before year 1, after 9999)
    come as text.
    """
    rows: list[dict[str, Any]] = []
    schema = table.schema() if columns is None else _top_level(table, set(columns))
    if n <= 0:
        return rows
    for task in live_files_one_by_one(table):
        for _, batch in live_batches(table, task, schema, batch_rows=max(1, min(n, 8192))):
            rows += dictionaries(batch.slice(0, n - len(rows)))
            if len(rows) >= n:
                return rows
    return rows


def _top_level(table: Table, names: set[str]) -> Schema:
    """Columns by their names as they are: `Schema.select` takes a dot for a path."""
    return Schema(*(field for field in table.schema().fields if field.name in names))


def dictionaries(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows of a batch; dates and times that Python has not come as text."""
    columns = {
        name: python_values(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }
    return [{name: values[i] for name, values in columns.items()} for i in range(batch.num_rows)]


def row_count(table: Table) -> int:
    """Rows of the current snapshot, deleted ones not counted."""
    if not has_delete_files(table):
        return sum(task.file.record_count for task in live_files(table))
    schema = table.schema().select(table.schema().fields[0].name)
    return sum(
        len(positions) for task in live_files(table) for positions, _ in live_batches(table, task, schema)
    )
