"""Row deletes: position-delete files (format version 2) and deletion vectors (version 3), written and read.

Both say which positions of one data file are gone. Here every new delete file is for a single data file, so
that readers of one file read no deletes of others, and a later delete of the same file can replace it.
"""

from __future__ import annotations

import array
import uuid
import zlib
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any, Protocol, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.conversions import to_bytes
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.table.puffin import MAGIC_BYTES, Footer, PuffinBlobMetadata
from pyiceberg.types import LongType, StringType
from pyroaring import BitMap64

from airberg.errors import ConfigurationFailed
from airberg.lake.files import delete_quietly
from airberg.lake.live import PATH_FIELD_ID, LiveFile, is_vector
from airberg.lake.manifests import NEWEST, blob_range, new_data_file

_POSITION_FIELD_ID = 2147483545
_SCHEMA = pa.schema(
    [
        # Of a dictionary only the one path is held and written; the file has plain strings all the same.
        pa.field(
            "file_path",
            pa.dictionary(pa.int32(), pa.string()),
            False,
            {"PARQUET:field_id": str(PATH_FIELD_ID)},
        ),
        pa.field("pos", pa.int64(), False, {"PARQUET:field_id": str(_POSITION_FIELD_ID)}),
    ]
)
_VECTOR_MAGIC = bytes([0xD1, 0xD3, 0x39, 0x64])
_VECTOR_TYPE = "deletion-vector-v1"
_LARGEST_VECTOR = 1 << 31


# ---- writing -----------------------------------------------------------------------------------------------


class DeleteWriter(Protocol):
    """Writes the deletes of some data files."""

    def add(self, target: DataFile, positions: pa.Array) -> None:
        """Say which rows of a data file are gone.

        Args:
            target: The data file; once only.
            positions: All of them: 64-bit integers, ascending, each once, at least one.

        Raises:
            OSError: The storage failed.
        """
        ...

    def close(self) -> list[DataFile]:
        """The delete files, for the manifests."""
        ...

    def abandon(self) -> list[str]:
        """Stop, and delete what was written."""
        ...


def open_delete_writer(table: Table) -> DeleteWriter:
    """The writer of the kind of deletes that a table's version has.

    A table of version 3 takes no new position-delete files (specification, Position Delete Files).
    """
    return _VectorWriter(table) if table.metadata.format_version >= NEWEST else _PositionWriter(table)


class _PositionWriter:
    """Position-delete files in Parquet, one for each data file."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._name = uuid.uuid4()
        self._files: list[DataFile] = []
        self._paths: list[str] = []

    def add(self, target: DataFile, positions: pa.Array) -> None:
        """See `DeleteWriter.add`."""
        name = f"{len(self._paths):05}-{self._name}-deletes.parquet"
        path = self._table.location_provider().new_data_location(name)
        self._paths.append(path)
        of = pa.DictionaryArray.from_arrays(
            pa.repeat(pa.scalar(0, pa.int32()), len(positions)), pa.array([target.file_path])
        )
        rows = pa.Table.from_arrays([of, positions], schema=_SCHEMA)
        output = self._table.io.new_output(path)
        with output.create(overwrite=True) as sink:
            pq.write_table(rows, sink, compression="zstd", use_dictionary=["file_path"], store_schema=False)
            size = cast(Any, sink).tell()
        self._files.append(_delete_file(target, path, FileFormat.PARQUET, positions, size))

    def close(self) -> list[DataFile]:
        """See `DeleteWriter.close`."""
        return self._files

    def abandon(self) -> list[str]:
        """See `DeleteWriter.abandon`."""
        for path in self._paths:
            delete_quietly(self._table.io, path)
        return self._paths


class _VectorWriter:
    """Deletion vectors, all in one Puffin file (specification, Deletion Vectors; Puffin specification)."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._path = table.location_provider().new_data_location(f"{uuid.uuid4()}-deletes.puffin")
        self._sink: Any = None
        self._blobs: list[PuffinBlobMetadata] = []
        self._targets: list[tuple[DataFile, pa.Array]] = []

    def add(self, target: DataFile, positions: pa.Array) -> None:
        """See `DeleteWriter.add`."""
        blob = vector_blob(positions)
        if self._sink is None:
            self._sink = self._table.io.new_output(self._path).create(overwrite=True)
            self._sink.write(MAGIC_BYTES)
        offset = self._sink.tell()
        self._sink.write(blob)
        self._blobs.append(
            PuffinBlobMetadata(
                type=_VECTOR_TYPE,
                fields=[_POSITION_FIELD_ID],
                snapshot_id=-1,
                sequence_number=-1,
                offset=offset,
                length=len(blob),
                properties={
                    "referenced-data-file": target.file_path,
                    "cardinality": str(len(positions)),
                },
            )
        )
        self._targets.append((target, positions))

    def close(self) -> list[DataFile]:
        """See `DeleteWriter.close`."""
        if self._sink is None:
            return []
        payload = Footer(blobs=self._blobs).model_dump_json().encode()
        self._sink.write(MAGIC_BYTES + payload + len(payload).to_bytes(4, "little") + bytes(4) + MAGIC_BYTES)
        size = self._sink.tell()
        self._sink.close()
        return [
            _delete_file(target, self._path, FileFormat.PUFFIN, positions, size, blob)
            for (target, positions), blob in zip(self._targets, self._blobs, strict=True)
        ]

    def abandon(self) -> list[str]:
        """See `DeleteWriter.abandon`."""
        if self._sink is None:
            return []
        self._sink.close()
        delete_quietly(self._table.io, self._path)
        return [self._path]


def _delete_file(
    target: DataFile,
    path: str,
    format_: FileFormat,
    positions: pa.Array,
    size: int,
    blob: PuffinBlobMetadata | None = None,
) -> DataFile:
    """What a manifest says of deletes for one data file; both bounds are its path, whole."""
    where = to_bytes(StringType(), target.file_path)
    low, high = (to_bytes(LongType(), positions[i].as_py()) for i in (0, -1))
    return new_data_file(
        target.spec_id,
        content=DataFileContent.POSITION_DELETES,
        file_path=path,
        file_format=format_,
        partition=target.partition,
        record_count=len(positions),
        file_size_in_bytes=size,
        lower_bounds={PATH_FIELD_ID: where, _POSITION_FIELD_ID: low},
        upper_bounds={PATH_FIELD_ID: where, _POSITION_FIELD_ID: high},
        referenced_data_file=target.file_path,
        content_offset=None if blob is None else blob.offset,
        content_size_in_bytes=None if blob is None else blob.length,
    )


def vector_blob(positions: pa.Array) -> bytes:
    """Positions as a `deletion-vector-v1` blob: length, magic, 64-bit Roaring bitmap, CRC-32."""
    plain = positions.take(pa.arange(0, len(positions))) if positions.offset else positions
    values = array.array("Q")
    values.frombytes(memoryview(plain.buffers()[1])[: 8 * len(positions)])
    bitmap = BitMap64(values)
    bitmap.run_optimize()
    content = _VECTOR_MAGIC + bitmap.serialize()
    return len(content).to_bytes(4, "big") + content + zlib.crc32(content).to_bytes(4, "big")


# ---- reading -----------------------------------------------------------------------------------------------


def deleted_positions(io: FileIO, live: LiveFile) -> pa.Array | None:
    """Positions of the rows of a data file that are deleted: ascending, each once; None when there are none.

    Raises:
        ConfigurationFailed: The deletes are in files of a kind that is not read.
        OSError: The storage failed.
    """
    found = [
        _from_vector(io, file) if is_vector(file) else _from_parquet(io, file, live.file.file_path)
        for file in live.delete_files
    ]
    if not found:
        return None
    if len(found) == 1 and is_vector(live.delete_files[0]):
        return found[0]
    positions = pc.unique(pa.concat_arrays(found))
    return positions.take(pc.array_sort_indices(positions))


def _from_parquet(io: FileIO, file: DataFile, path: str) -> pa.Array:
    if file.file_format != FileFormat.PARQUET:
        raise ConfigurationFailed(
            f"The table has deletes in a {file.file_format.value} file; only Parquet and Puffin are read.",
            guidance="Compact the table with the engine that wrote them, then run again.",
            code="unsupported-delete-file",
        )
    found: list[pa.Array] = []
    with io.new_input(file.file_path).open() as source, pq.ParquetFile(source) as parquet:
        for batch in parquet.iter_batches(columns=["file_path", "pos"]):
            ours = pc.equal(batch.column("file_path").cast(pa.string()), path)
            found.append(batch.column("pos").cast(pa.int64()).filter(ours))
    return pa.concat_arrays(found) if found else pa.array([], pa.int64())


def _from_vector(io: FileIO, file: DataFile) -> pa.Array:
    where = blob_range(file)
    if where is None or not 0 < where[1] < _LARGEST_VECTOR:
        raise _broken(file, "its place in the file is not given")
    with io.new_input(file.file_path).open() as source:
        source.seek(where[0])
        blob = source.read(where[1])
    return vector_positions(blob, file)


def vector_positions(blob: bytes, file: DataFile) -> pa.Array:
    """The positions in a `deletion-vector-v1` blob.

    Args:
        blob: The whole blob.
        file: The deletion vector in its manifest, for messages.

    Raises:
        ConfigurationFailed: It is not whole.
    """
    length, content = int.from_bytes(blob[:4], "big"), blob[4:-4]
    if length != len(content) or content[:4] != _VECTOR_MAGIC:
        raise _broken(file, "it is no deletion vector")
    if zlib.crc32(content) != int.from_bytes(blob[-4:], "big"):
        raise _broken(file, "its checksum does not fit")
    values = BitMap64.deserialize(content[4:]).to_array()
    if len(values) != file.record_count:
        raise _broken(file, f"it has {len(values)} positions instead of {file.record_count}")
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])


def _broken(file: DataFile, problem: str) -> ConfigurationFailed:
    return ConfigurationFailed(
        f"A deletion vector in {file.file_path.rsplit('/', 1)[-1]} cannot be read: {problem}.",
        guidance="Roll the table back to a snapshot before it, or restore the file.",
        code="broken-delete-file",
    )


class DeletedRows:
    """The deleted rows of one data file, asked for a stretch of positions at a time.

    Args:
        positions: From `deleted_positions`.
    """

    def __init__(self, positions: pa.Array | None) -> None:
        self._positions = positions
        self._sorted: Any = ()
        if positions is not None and len(positions):
            plain = positions.take(pa.arange(0, len(positions))) if positions.offset else positions
            self._positions = plain
            self._sorted = memoryview(plain.buffers()[1])[: 8 * len(plain)].cast("q")

    def between(self, first: int, end: int) -> pa.Array | None:
        """Those from `first` up to, not including, `end`; None when there are none."""
        low, high = bisect_left(self._sorted, first), bisect_left(self._sorted, end)
        if low == high or self._positions is None:
            return None
        return self._positions.slice(low, high - low)


def without(batch: pa.RecordBatch, first: int, gone: Iterable[pa.Array | None]) -> tuple[pa.Array, Any]:
    """The rows of a batch that stay, and their positions.

    Args:
        batch: Rows of a data file in its order.
        first: Position of the first one.
        gone: Positions within the batch that go, ascending or not.
    """
    positions = pa.arange(first, first + batch.num_rows)
    lost = [array_ for array_ in gone if array_ is not None and len(array_)]
    if not lost:
        return positions, batch
    alive = pc.invert(pc.is_in(positions, value_set=pa.concat_arrays(lost)))
    return positions.filter(alive), batch.filter(alive)
