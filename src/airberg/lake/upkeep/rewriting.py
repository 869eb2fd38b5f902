"""Writing data files anew: without their deleted rows, in the table's schema, partitions and order of now.

In a table of version 3 each row takes its id and the number of its last change along (specification, Row
Lineage).
"""

from __future__ import annotations

import tempfile
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from pyiceberg.types import LongType, NestedField

from airberg.lake.arrange import Arrangement
from airberg.lake.files import FileSizes, OpenFile, ParquetFiles
from airberg.lake.live import LiveFile
from airberg.lake.manifests import NEWEST, first_row_id
from airberg.lake.scan import live_batches
from airberg.lake.upkeep.sorting import RUN_BYTES, RowSorter

_BATCH_ROWS = 16_384
_ROW_ID, _CHANGED = 2147483540, 2147483539
_LINEAGE = (
    NestedField(_ROW_ID, "_row_id", LongType(), required=False),
    NestedField(_CHANGED, "_last_updated_sequence_number", LongType(), required=False),
)


def write_anew(
    table: Table, files: Sequence[LiveFile], output_bytes: int, spill_dir: Path | None = None
) -> tuple[DataFile, ...]:
    """Write the live rows of data files of one partition into new files.

    Args:
        table: The table, as it is now.
        files: The files, in the order of their rows.
        output_bytes: A file is closed at the first row group that takes it there.
        spill_dir: Folder for rows that are being sorted; None for the system's.

    Raises:
        ConfigurationFailed: A file is not Parquet, or its deletes cannot be read.
        TypeError: A column of a file does not fit the table.
        OSError: The storage failed.
    """
    arrangement = Arrangement(table)
    schema = _schema(table)
    writer = _GroupWriter(table, schema, arrangement, replace(FileSizes(), target_file_bytes=output_bytes))
    here = files[0].file.spec_id == table.metadata.default_spec_id
    try:
        if arrangement.order_id is None and here:
            partition = files[0].file.partition
            for rows in _rows(table, files, schema):
                writer.write(writer.stored(rows), (), partition)
        else:
            _write_sorted(table, files, schema, arrangement, writer, spill_dir)
        return writer.close()
    except BaseException:
        writer.abandon()
        raise


def _write_sorted(
    table: Table,
    files: Sequence[LiveFile],
    schema: Schema,
    arrangement: Arrangement,
    writer: _GroupWriter,
    spill_dir: Path | None,
) -> None:
    if spill_dir is not None:
        spill_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="upkeep-", dir=spill_dir) as folder:
        sorter = RowSorter(arrangement, Path(folder), RUN_BYTES)
        for rows in _rows(table, files, schema):
            sorter.add(writer.stored(rows))
        for rows in sorter.sorted_batches():
            _, parts = arrangement.arrange(rows)
            for part in parts:
                writer.write(rows.slice(part.first, part.rows), part.key, part.record)


def _schema(table: Table) -> Schema:
    schema = table.schema()
    if table.metadata.format_version < NEWEST:
        return schema
    return Schema(*schema.fields, *_LINEAGE, schema_id=schema.schema_id)


def _rows(table: Table, files: Iterable[LiveFile], schema: Schema) -> Iterator[pa.RecordBatch]:
    lineage = table.metadata.format_version >= NEWEST
    for live in files:
        for positions, rows in live_batches(table, live, schema, _BATCH_ROWS):
            yield _with_lineage(rows, positions, live) if lineage else rows


def _with_lineage(rows: pa.RecordBatch, positions: pa.Array, live: LiveFile) -> pa.RecordBatch:
    """What the file has no value for follows from its place (specification, Row Lineage)."""
    *columns, ids, changed = rows.columns
    if (first := first_row_id(live.file)) is not None:
        ids = pc.coalesce(ids, pc.add(positions.cast(pa.int64()), pa.scalar(first, pa.int64())))
        changed = pc.coalesce(changed, pa.scalar(live.entry.sequence_number, pa.int64()))
    return pa.RecordBatch.from_arrays([*columns, ids, changed], schema=rows.schema)


class _GroupWriter:
    """Writes rows that come partition by partition, one open file at a time."""

    def __init__(self, table: Table, schema: Schema, arrangement: Arrangement, sizes: FileSizes) -> None:
        self._parquet = ParquetFiles(table, schema)
        self._order_id = arrangement.order_id
        self._sizes = sizes
        self._files: list[DataFile] = []
        self._open: OpenFile | None = None
        self._key: Hashable = None
        self._partition = Record()
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0

    def stored(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The rows as files store them."""
        return self._parquet.project(rows)

    def write(self, rows: pa.RecordBatch, key: Hashable, partition: Record) -> None:
        """Take stored rows of one partition."""
        if not rows.num_rows:
            return
        if key != self._key:
            self._end()
        self._key, self._partition = key, partition
        self._waiting.append(rows)
        self._waiting_bytes += rows.nbytes
        if self._waiting_bytes >= self._sizes.row_group_bytes:
            self._write_row_group()
            if self._open is not None and self._open.size >= self._sizes.target_file_bytes:
                self._end()

    def close(self) -> tuple[DataFile, ...]:
        """End the open file and return all."""
        self._end()
        return tuple(self._files)

    def abandon(self) -> None:
        """Stop, and delete every file written, as far as the storage lets us."""
        self._waiting = []
        if self._open is not None:
            self._parquet.drop(self._open)
            self._open = None
        for file in self._files:
            self._parquet.delete(file)
        self._files = []

    def _write_row_group(self) -> None:
        if not self._waiting:
            return
        rows = pa.Table.from_batches(self._waiting, schema=self._parquet.target)
        if self._open is None:
            self._open = self._parquet.start(rows)
        self._open.write(rows, self._waiting_bytes, self._sizes)
        self._waiting, self._waiting_bytes = [], 0

    def _end(self) -> None:
        self._write_row_group()
        if self._open is None:
            return
        opened, self._open = self._open, None
        self._files.append(_without_lineage(self._parquet.end(opened, self._partition, self._order_id)))
        pa.default_memory_pool().release_unused()


def _without_lineage(file: DataFile) -> DataFile:
    """A file whose manifest says nothing of the columns that are none of the table's."""
    for by_column in (
        file.column_sizes,
        file.value_counts,
        file.null_value_counts,
        file.lower_bounds,
        file.upper_bounds,
    ):
        for field_id in (_ROW_ID, _CHANGED):
            if by_column is not None:
                by_column.pop(field_id, None)
    return file
