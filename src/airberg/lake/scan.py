"""Reading data files row by row in their own order, in bounded memory.

pyiceberg's scan gives rows without their positions and holds a whole file in memory; merges and rewrites
need the positions, and must not hold a file.
"""

from __future__ import annotations

from collections.abc import Iterator

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


def file_batches(
    table: Table, data_file: DataFile, schema: Schema, batch_rows: int = BATCH_ROWS
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """All rows of a data file, delete files not applied, with the position of each batch's first row.

    Args:
        table: The table that the file belongs to.
        data_file: The file.
        schema: Columns wanted: top-level columns of the table's schema. Columns that the file lacks are
            null, narrower types are widened (specification, Column Projection).
        batch_rows: Rows per batch at most.

    Raises:
        ConfigurationFailed: It is not a Parquet file.
        OSError: The storage failed.
    """
    if data_file.file_format != FileFormat.PARQUET:
        raise ConfigurationFailed(
            f"The table {'.'.join(table.name())} has {data_file.file_format.value} files, not Parquet.",
            guidance="Rewrite the table's files as Parquet, or write to a new table.",
            code="unsupported-file-format",
        )
    with (
        table.io.new_input(data_file.file_path).open() as source,
        pq.ParquetFile(source, buffer_size=_READ_AHEAD_BYTES, pre_buffer=False) as parquet,
    ):
        described = _described(table, parquet.schema_arrow)
        find = by_id(list(described))
        indexes = [i for field in schema.fields if (i := find(field)) is not None]
        names = [described.field(i).name for i in sorted(set(indexes))]
        if not names:
            yield from _null_batches(arrow_schema(schema), parquet.metadata.num_rows, batch_rows)
            return
        shape = pa.schema([described.field(name) for name in names])
        projection: Projection | None = None
        start = 0
        for batch in parquet.iter_batches(batch_size=batch_rows, columns=names):
            picked = batch.select(names)
            if projection is None:
                projection = Projection(schema, arrow_schema(schema), picked.schema, by_id, shape)
            yield start, projection(picked)
            start += batch.num_rows


def _described(table: Table, physical: pa.Schema) -> pa.Schema:
    """The file's schema with field ids, from the table's name mapping where the file has none."""
    version = table.metadata.format_version
    return arrow_schema(
        pyarrow_to_schema(
            physical, table.name_mapping(), downcast_ns_timestamp_to_us=True, format_version=version
        )
    )


def _null_batches(schema: pa.Schema, rows: int, batch_rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    for start in range(0, rows, batch_rows):
        count = min(batch_rows, rows - start)
        yield start, pa.RecordBatch.from_arrays([pa.nulls(count, f.type) for f in schema], schema=schema)


def live_batches(
    table: Table, live: LiveFile, schema: Schema, batch_rows: int = BATCH_ROWS
) -> Iterator[tuple[pa.Array, pa.RecordBatch]]:
    """The rows of a data file that are not deleted, with their positions."""
    deleted = DeletedRows(deleted_positions(table.io, live))
    for start, batch in file_batches(table, live.file, schema, batch_rows):
        positions, rows = without(batch, start, [deleted.between(start, start + batch.num_rows)])
        if len(positions):
            yield positions, rows
