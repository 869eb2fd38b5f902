"""Reading data files row by row in their own order, in bounded memory.

pyiceberg's scan gives rows without their positions and holds a whole file in memory; merges and rewrites
need the positions, and must not hold a file.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import pyarrow_to_schema
from pyiceberg.manifest import DataFile, FileFormat, ManifestContent
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask, Table

from airberg.errors import ConfigurationFailed
from airberg.lake.arrow import Projection, arrow_schema, by_id

BATCH_ROWS = 65_536
_READ_AHEAD_BYTES = 1024 * 1024


def live_files(table: Table) -> list[FileScanTask]:
    """The data files of the current snapshot with the delete files that apply to each.

    Raises:
        ConfigurationFailed: The table has equality deletes, which cannot be read here.
    """
    try:
        return list(table.scan().plan_files())
    except ValueError as error:
        if "equality" not in str(error):
            raise
        raise ConfigurationFailed(
            f"The table {'.'.join(table.name())} has equality deletes, written by another engine.",
            guidance="Compact it with that engine (for example Spark's rewrite_data_files), then run again.",
            code="equality-deletes",
        ) from None


def has_delete_files(table: Table) -> bool:
    """Whether the current snapshot has any delete files."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return False
    return any(m.content == ManifestContent.DELETES for m in snapshot.manifests(table.io))


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


def deleted_positions(io: FileIO, task: FileScanTask) -> pa.Array | None:
    """Positions of the rows of a data file that its position-delete files remove; None when there are none.

    Raises:
        ConfigurationFailed: The deletes are not in Parquet files.
    """
    found: list[pa.Array] = []
    for delete_file in task.delete_files:
        if delete_file.file_format != FileFormat.PARQUET:
            raise ConfigurationFailed(
                f"The table has deletes in a {delete_file.file_format.value} file; only Parquet is read.",
                guidance="Compact the table with the engine that wrote them, then run again.",
                code="unsupported-delete-file",
            )
        with io.new_input(delete_file.file_path).open() as source, pq.ParquetFile(source) as parquet:
            for batch in parquet.iter_batches(columns=["file_path", "pos"]):
                ours = pc.equal(batch.column("file_path").cast(pa.string()), task.file.file_path)
                found.append(batch.column("pos").filter(ours))
    if not found:
        return None
    return pa.concat_arrays(found)


def live_batches(
    table: Table, task: FileScanTask, schema: Schema, batch_rows: int = BATCH_ROWS
) -> Iterator[tuple[pa.Array, pa.RecordBatch]]:
    """The rows of a data file that are not deleted, with their positions."""
    deleted = deleted_positions(table.io, task)
    for start, batch in file_batches(table, task.file, schema, batch_rows):
        positions = pa.arange(start, start + batch.num_rows)
        if deleted is not None:
            alive = pc.invert(pc.is_in(positions, value_set=deleted))
            positions, batch = positions.filter(alive), batch.filter(alive)
        if len(positions):
            yield positions, batch
