"""Reading data files row by row in their own order, in bounded memory.

pyiceberg's scan gives rows without their positions and holds a whole file in memory; merges and rewrites
need the positions, and must not hold a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import pyarrow_to_schema
from pyiceberg.manifest import DataFile, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from airberg.errors import ConfigurationFailed
from airberg.lake.arrow import Projection, arrow_schema, by_id
from airberg.lake.deletes import DeletedRows, deleted_positions, without
from airberg.lake.live import LiveFile

BATCH_ROWS = 65_536
_READ_AHEAD_BYTES = 1024 * 1024


class OpenDataFile:
    """A Parquet data file, open for reading some columns of the table.

    Args:
        table: The table that the file belongs to.
        data_file: The file.
        schema: Columns wanted: top-level columns of the table's schema. Columns that the file lacks are
            null, narrower types are widened (specification, Column Projection).
        footer: The file's footer, if it was read before.

    Raises:
        ConfigurationFailed: It is not a Parquet file.
        OSError: The storage failed.
    """

    def __init__(
        self, table: Table, data_file: DataFile, schema: Schema, footer: pq.FileMetaData | None = None
    ) -> None:
        if data_file.file_format != FileFormat.PARQUET:
            raise ConfigurationFailed(
                f"The table {'.'.join(table.name())} has {data_file.file_format.value} files, not Parquet.",
                guidance="Rewrite the table's files as Parquet, or write to a new table.",
                code="unsupported-file-format",
            )
        self._schema = schema
        with ExitStack() as stack:
            source = stack.enter_context(table.io.new_input(data_file.file_path).open())
            self._parquet = stack.enter_context(
                pq.ParquetFile(source, metadata=footer, buffer_size=_READ_AHEAD_BYTES, pre_buffer=False)
            )
            described = _described(table, self._parquet.schema_arrow)
            self._resources = stack.pop_all()
        find = by_id(list(described))
        indexes = {i for field in schema.fields if (i := find(field)) is not None}
        self._names = [described.field(i).name for i in sorted(indexes)]
        self._shape = pa.schema([described.field(name) for name in self._names])
        self._projection: Projection | None = None

    @property
    def footer(self) -> pq.FileMetaData:
        """What the file says of itself."""
        return self._parquet.metadata

    def __enter__(self) -> OpenDataFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def batches(
        self, batch_rows: int = BATCH_ROWS, row_groups: Sequence[int] | None = None
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Rows, delete files not applied, with the position of each batch's first row.

        Args:
            batch_rows: Rows per batch at most.
            row_groups: Only these, which follow each other; None for all.
        """
        groups = range(self.footer.num_row_groups) if row_groups is None else row_groups
        start = sum(self.footer.row_group(i).num_rows for i in range(groups[0])) if groups else 0
        if not self._names:
            rows = sum(self.footer.row_group(i).num_rows for i in groups)
            yield from _null_batches(arrow_schema(self._schema), start, rows, batch_rows)
            return
        for batch in self._parquet.iter_batches(batch_rows, row_groups=list(groups), columns=self._names):
            picked = batch.select(self._names)
            if self._projection is None:
                target = arrow_schema(self._schema)
                self._projection = Projection(self._schema, target, picked.schema, by_id, self._shape)
            yield start, self._projection(picked)
            start += batch.num_rows


def file_batches(
    table: Table, data_file: DataFile, schema: Schema, batch_rows: int = BATCH_ROWS
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """All rows of a data file, delete files not applied, with the position of each batch's first row.

    Arguments and errors are those of `OpenDataFile`.
    """
    with OpenDataFile(table, data_file, schema) as opened:
        yield from opened.batches(batch_rows)


def _described(table: Table, physical: pa.Schema) -> pa.Schema:
    """The file's schema with field ids, from the table's name mapping where the file has none."""
    version = table.metadata.format_version
    return arrow_schema(
        pyarrow_to_schema(
            physical, table.name_mapping(), downcast_ns_timestamp_to_us=True, format_version=version
        )
    )


def _null_batches(
    schema: pa.Schema, first: int, rows: int, batch_rows: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    for start in range(0, rows, batch_rows):
        count = min(batch_rows, rows - start)
        yield (
            first + start,
            pa.RecordBatch.from_arrays([pa.nulls(count, f.type) for f in schema], schema=schema),
        )


def live_batches(
    table: Table, live: LiveFile, schema: Schema, batch_rows: int = BATCH_ROWS
) -> Iterator[tuple[pa.Array, pa.RecordBatch]]:
    """The rows of a data file that are not deleted, with their positions."""
    deleted = DeletedRows(deleted_positions(table.io, live))
    for start, batch in file_batches(table, live.file, schema, batch_rows):
        positions, rows = without(batch, start, [deleted.between(start, start + batch.num_rows)])
        if len(positions):
            yield positions, rows
