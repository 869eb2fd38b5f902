"""Data files: Arrow batches in, Parquet files with field ids and statistics out.

Memory is bounded by one row group: rows are buffered until a row group is full, written, and a file is
closed when it has reached its target size. Nothing here commits; a file that no snapshot names is garbage.
Tables with partitions or a sort order are written by `airberg.lake.fanout`, on the same `ParquetFiles`.
"""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import asdict, dataclass
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import Table, TableProperties
from pyiceberg.typedef import Record
from pyiceberg.utils.properties import property_as_int

from airberg.columns.encryption import random_columns
from airberg.lake.arrow import Projection, arrow_schema, file_schema, table_projection
from airberg.lake.dictionaries import dictionary_columns
from airberg.lake.manifests import new_data_file
from airberg.lake.statistics import file_statistics

LITTLE_EFFORT = -5
"""zstd's level for random ciphertexts, which do not compress: 0.6 of the time, 3 % more bytes."""


@dataclass(frozen=True, slots=True)
class FileSizes:
    """How large files and row groups become.

    Attributes:
        target_file_bytes: A file is closed at the first row group that takes it there, in Parquet bytes.
        row_group_bytes: A row group is written when the rows that wait reach this, in Arrow bytes.
        row_group_rows: The same, in rows.
        arrange_bytes: Rows that wait until they are divided among partitions and sorted, in Arrow bytes;
            about twice as much is in memory while that is done.
        open_files: Files of different partitions that are open at once.
    """

    target_file_bytes: int = 128 * 1024 * 1024
    row_group_bytes: int = 24 * 1024 * 1024
    row_group_rows: int = 1_000_000
    arrange_bytes: int = 32 * 1024 * 1024
    open_files: int = 32


class ParquetFiles:
    """The Parquet files of one table: their columns, names and options, and what manifests say of them.

    Args:
        table: Whose schema, location, storage and properties apply, as they are now.
        schema: Columns of the files, where they have more than the table.
    """

    def __init__(self, table: Table, schema: Schema | None = None) -> None:
        self._table = table
        self._schema = schema or table.schema()
        self.target = arrow_schema(file_schema(self._schema))
        self._options = _parquet_options(table.properties)
        self._projection: tuple[pa.Schema, Projection] | None = None
        self._name = uuid.uuid4()
        self._number = 0

    def project(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with all columns of the table, in the table's order and types, under file names.

        Raises:
            TypeError: It has a column that the table lacks, or one that does not fit.
        """
        if self._projection is None or not self._projection[0].equals(batch.schema):
            self._projection = (batch.schema, table_projection(self._schema, batch.schema))
        return self._projection[1](batch)

    def start(self, rows: pa.Table) -> OpenFile:
        """Begin a file.

        Args:
            rows: The first rows that it will have, which say what suits its columns; they are not written.
        """
        name = f"{self._number:05}-{self._name}.parquet"
        self._number += 1
        # The name never has the partition's values in it, which come from records (decision 0006).
        path = self._table.location_provider().new_data_location(name)
        # The name is unique: asking the storage first whether it exists would cost a request per file.
        sink = cast(Any, self._table.io.new_output(path).create(overwrite=True))
        try:
            writer = pq.ParquetWriter(
                sink,
                self.target,
                store_decimal_as_integer=True,
                use_dictionary=dictionary_columns(rows),
                **self._options,
            )
        except BaseException:
            sink.close()
            raise
        return OpenFile(path, sink, writer)

    def end(
        self, opened: OpenFile, partition: Record | None = None, sort_order_id: int | None = None
    ) -> DataFile:
        """Close a file.

        Args:
            opened: The file.
            partition: Values of the partition that all its rows are of.
            sort_order_id: Of the table's sort order, only if the file as a whole is in it.
        """
        footer, size = opened.close()
        return new_data_file(
            self._table.metadata.default_spec_id,
            content=DataFileContent.DATA,
            file_path=opened.path,
            file_format=FileFormat.PARQUET,
            partition=Record() if partition is None else partition,
            file_size_in_bytes=size,
            sort_order_id=sort_order_id,
            equality_ids=None,
            key_metadata=None,
            nan_value_counts={},
            **asdict(file_statistics(footer, self._schema, self._table.properties)),
        )

    def drop(self, opened: OpenFile) -> None:
        """Give an open file up and delete it."""
        with contextlib.suppress(OSError, pa.ArrowException):
            opened.close()
        delete_quietly(self._table.io, opened.path)

    def delete(self, file: DataFile) -> None:
        """Delete a file, as far as the storage lets us."""
        delete_quietly(self._table.io, file.file_path)


class DataFileWriter:
    """Writes rows into data files of one table, in the order of their arrival.

    Args:
        table: Whose schema, location, storage and properties apply, as they are now.
        sizes: When to end a row group and a file.
    """

    def __init__(self, table: Table, sizes: FileSizes | None = None) -> None:
        self.files: list[DataFile] = []
        self._parquet = ParquetFiles(table)
        self._sizes = sizes or FileSizes()
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._waiting_bytes = 0
        self._closed_bytes = 0
        self._open: OpenFile | None = None

    @property
    def rows(self) -> int:
        """Rows taken so far."""
        return sum(file.record_count for file in self.files) + self.open_rows

    @property
    def open_rows(self) -> int:
        """Rows that are not yet in a closed file."""
        return self._waiting_rows + (self._open.rows if self._open else 0)

    @property
    def open_bytes(self) -> int:
        """Bytes of the file that is open."""
        return self._open.size if self._open else 0

    @property
    def bytes(self) -> int:
        """Bytes written so far, and the Arrow bytes of rows that still wait for their row group."""
        return self._closed_bytes + self.open_bytes + self._waiting_bytes

    def write(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Take rows: any subset of the table's columns, in any order; returns them as they are stored.

        Raises:
            TypeError: A column does not fit the table.
            OSError: The storage failed.
        """
        stored = self._parquet.project(batch)
        self.write_stored(stored)
        return stored

    def write_stored(self, batch: pa.RecordBatch) -> None:
        """Take rows that are as the table's files store them."""
        if batch.num_rows == 0:
            return
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        self._waiting_bytes += batch.nbytes
        if (
            self._waiting_bytes >= self._sizes.row_group_bytes
            or self._waiting_rows >= self._sizes.row_group_rows
        ):
            self.relieve()

    @property
    def waiting_bytes(self) -> int:
        """Arrow bytes of rows that wait for their row group."""
        return self._waiting_bytes

    def relieve(self) -> None:
        """Write the rows that wait, however few they are."""
        self._write_row_groups()
        if self.open_bytes >= self._sizes.target_file_bytes:
            self.roll()

    def roll(self) -> None:
        """End the open file; the next row starts another one."""
        self._write_row_groups()
        if self._open is None:
            return
        opened, self._open = self._open, None
        data_file = self._parquet.end(opened)
        self._closed_bytes += data_file.file_size_in_bytes
        self.files.append(data_file)
        # Arrow's allocator keeps what a row group took (some 100 MB) unless it is asked for it.
        pa.default_memory_pool().release_unused()

    def close(self) -> tuple[DataFile, ...]:
        """End the open file and return all files, in the order of their rows."""
        self.roll()
        return tuple(self.files)

    def abandon(self) -> None:
        """Stop, and delete every file written, as far as the storage lets us."""
        self._waiting.clear()
        self._waiting_rows = self._waiting_bytes = 0
        opened, self._open = self._open, None
        if opened is not None:
            self._parquet.drop(opened)
        for file in self.files:
            self._parquet.delete(file)
        self.files = []

    def _write_row_groups(self) -> None:
        if not self._waiting:
            return
        rows = pa.Table.from_batches(self._waiting, schema=self._parquet.target)
        if self._open is None:
            self._open = self._parquet.start(rows)
        self._open.write(rows, self._waiting_bytes, self._sizes)
        self._waiting = []
        self._waiting_rows = self._waiting_bytes = 0


@dataclass(slots=True)
class OpenFile:
    """A Parquet file that is being written."""

    path: str
    sink: Any
    writer: Any
    rows: int = 0

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return int(self.sink.tell())

    def write(self, rows: pa.Table, nbytes: int, sizes: FileSizes) -> None:
        """Write rows, which take `nbytes` in Arrow, as row groups of equal size."""
        groups = max(1, -(-nbytes // sizes.row_group_bytes))
        group_rows = min(-(-rows.num_rows // groups), sizes.row_group_rows)
        self.writer.write_table(rows, row_group_size=group_rows)
        self.rows += rows.num_rows

    def close(self) -> tuple[pq.FileMetaData, int]:
        """End it; its footer and size."""
        try:
            self.writer.close()
            size = self.size
        finally:
            self.sink.close()
        return self.writer.writer.metadata, size


def _parquet_options(properties: dict[str, str]) -> dict[str, Any]:
    """What the table's `write.parquet.*` properties mean to pyarrow."""

    def number(name: str, default: int | None) -> int | None:
        return property_as_int(properties, name, default)

    names = TableProperties
    codec = properties.get(names.PARQUET_COMPRESSION, names.PARQUET_COMPRESSION_DEFAULT)
    level: int | dict[str, int] | None = number(names.PARQUET_COMPRESSION_LEVEL, None)
    if codec == "zstd" and level is None:
        level = dict.fromkeys(random_columns(properties), LITTLE_EFFORT) or None
    return {
        "compression": "none" if codec == "uncompressed" else codec,
        "compression_level": level,
        "data_page_size": number(names.PARQUET_PAGE_SIZE_BYTES, names.PARQUET_PAGE_SIZE_BYTES_DEFAULT),
        "dictionary_pagesize_limit": number(
            names.PARQUET_DICT_SIZE_BYTES, names.PARQUET_DICT_SIZE_BYTES_DEFAULT
        ),
        "write_batch_size": number(names.PARQUET_PAGE_ROW_LIMIT, names.PARQUET_PAGE_ROW_LIMIT_DEFAULT),
    }


def delete_quietly(io: FileIO, path: str) -> None:
    """Delete a file that no snapshot names; what cannot be deleted is left for upkeep to find."""
    with contextlib.suppress(OSError):
        io.delete(path)
