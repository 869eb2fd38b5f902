"""Manifests of all format versions: read with every field, written for data and for delete files.

pyiceberg 0.12 reads manifests as version 2 and writes data manifests of versions 1 and 2. What is built here
on its Avro reader and its manifest classes adds delete manifests, and version 3 with the fields it needs:
where a deletion vector lies in its file, which data file it is for, the first row id of data files.

What is relied on beyond pyiceberg's public classes, all of it here: a `Record` keeps its values in the order
of its struct, and the structs of versions 2 and 3 begin alike, so that a record of version 3 serves both;
an `AvroFile` sets decoder, header and reader when it is entered, an `AvroOutputFile` takes its writer from
an attribute, and neither a reader nor a writer keeps anything of what goes through it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Self, TypeVar, cast

from pyiceberg.avro.codecs import AVRO_CODEC_KEY, CODEC_MAPPING_ICEBERG_TO_AVRO, AvroCompressionCodec
from pyiceberg.avro.decoder import new_decoder
from pyiceberg.avro.file import (
    MAGIC,
    META_SCHEMA,
    SYNC_SIZE,
    AvroFile,
    AvroFileHeader,
    AvroOutputFile,
)
from pyiceberg.avro.reader import Reader
from pyiceberg.avro.resolver import construct_reader, construct_writer, resolve_reader, resolve_writer
from pyiceberg.avro.writer import Writer
from pyiceberg.io import FileIO, OutputFile
from pyiceberg.manifest import (
    MANIFEST_ENTRY_SCHEMAS,
    MANIFEST_LIST_FILE_SCHEMAS,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    ManifestListWriter,
    ManifestListWriterV2,
    ManifestWriter,
    ManifestWriterV2,
    PartitionFieldSummary,
    data_file_with_partition,
    manifest_entry_schema_with_data_file,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.typedef import StructProtocol, TableVersion
from pyiceberg.types import StructType
from pyiceberg.utils.schema_conversion import AvroSchemaConversion

NEWEST: TableVersion = 3
"""Records are held with the fields of this version, whatever the version of their table."""

_FIRST_ROW_ID, _REFERENCED, _OFFSET, _LENGTH = 16, 17, 18, 19
_MANIFEST_FIRST_ROW_ID = 15


# ---- fields of version 3 that pyiceberg's classes have no names for ----------------------------------------


def new_data_file(spec_id: int, **values: object) -> DataFile:
    """A member of a manifest, data or deletes, with the fields of version 3; absent ones are null."""
    file = DataFile.from_args(_table_format_version=NEWEST, **values)
    file.spec_id = spec_id  # no member of the record: its manifest says it
    return file


def first_row_id(file: DataFile) -> int | None:
    """Row id of a data file's first row; None before version 3."""
    return cast("int | None", file[_FIRST_ROW_ID])


def referenced_data_file(file: DataFile) -> str | None:
    """The data file that all deletes of a delete file are for, if it says so (field 143)."""
    return cast("str | None", file[_REFERENCED])


def blob_range(file: DataFile) -> tuple[int, int] | None:
    """Offset and length of a deletion vector in its Puffin file; None for other files."""
    offset, length = file[_OFFSET], file[_LENGTH]
    return None if offset is None or length is None else (offset, length)


def identity(file: DataFile) -> tuple[str, int | None]:
    """What tells two members of a table apart: many deletion vectors may lie in one file."""
    return file.file_path, file[_OFFSET]


def content_bytes(file: DataFile) -> int:
    """Size of a file, or of a deletion vector's part of its file."""
    found = blob_range(file)
    return file.file_size_in_bytes if found is None else found[1]


# ---- reading -----------------------------------------------------------------------------------------------


Row = TypeVar("Row", bound=StructProtocol)

_READ_HEADER = construct_reader(META_SCHEMA, {-1: AvroFileHeader})


class _KnownAvroFile(AvroFile[Row]):
    """A file whose reader is made once for each schema: that takes longer than to read a few entries."""

    def __enter__(self) -> Self:
        with self.input_file.open() as file:
            self.decoder = new_decoder(file.read())
        self.header = _READ_HEADER.read(self.decoder)
        self.reader = self._reader_of(self.header.meta.get("avro.schema", ""))
        return self

    @staticmethod
    def _reader_of(schema: str) -> Reader:
        raise NotImplementedError


class _ManifestListFile(_KnownAvroFile[ManifestFile]):
    @staticmethod
    @lru_cache(maxsize=16)
    def _reader_of(schema: str) -> Reader:
        return resolve_reader(
            _iceberg_schema(schema),
            MANIFEST_LIST_FILE_SCHEMAS[NEWEST],
            read_types={-1: ManifestFile, 508: PartitionFieldSummary},
            read_enums={517: ManifestContent},
        )


class _EntriesFile(_KnownAvroFile[ManifestEntry]):
    @staticmethod
    @lru_cache(maxsize=64)
    def _reader_of(schema: str) -> Reader:
        """The schema has the partition's type, so there is one for each partition spec."""
        return resolve_reader(
            _iceberg_schema(schema),
            MANIFEST_ENTRY_SCHEMAS[NEWEST],
            read_types={-1: ManifestEntry, 2: DataFile},
            read_enums={0: ManifestEntryStatus, 101: FileFormat, 134: DataFileContent},
        )


def _iceberg_schema(avro: str) -> Schema:
    if not avro:
        raise ValueError("No schema found in Avro file headers")
    return AvroSchemaConversion().avro_to_iceberg(json.loads(avro))


def read_manifest_list(io: FileIO, snapshot: Snapshot | None) -> list[ManifestFile]:
    """The manifests of a snapshot; none of no snapshot."""
    if snapshot is None:
        return []
    with _ManifestListFile(io.new_input(snapshot.manifest_list)) as reader:
        return list(reader)


def is_live(manifest: ManifestFile) -> bool:
    """Whether a manifest may have entries that are not deleted."""
    return manifest.has_added_files() or manifest.has_existing_files()


def read_entries(io: FileIO, manifest: ManifestFile, *, deleted: bool = False) -> list[ManifestEntry]:
    """The entries of a manifest with what they inherit from it.

    Args:
        io: Storage of the table.
        manifest: From `read_manifest_list`.
        deleted: Also those that the manifest's snapshot removed.
    """
    with _EntriesFile(io.new_input(manifest.manifest_path)) as reader:
        entries = [_inherit(entry, manifest) for entry in reader]
    if manifest.content == ManifestContent.DATA:
        _inherit_row_ids(entries, manifest[_MANIFEST_FIRST_ROW_ID])
    return [entry for entry in entries if deleted or entry.status != ManifestEntryStatus.DELETED]


def _inherit(entry: ManifestEntry, manifest: ManifestFile) -> ManifestEntry:
    """Sequence numbers and snapshot that an added file has from its manifest (specification, Manifests)."""
    if entry.snapshot_id is None and manifest.added_snapshot_id is not None:
        entry.snapshot_id = manifest.added_snapshot_id
    inherits = entry.status == ManifestEntryStatus.ADDED or manifest.sequence_number == 0
    if entry.sequence_number is None and inherits:
        entry.sequence_number = manifest.sequence_number
    if entry.file_sequence_number is None and inherits:
        entry.file_sequence_number = manifest.sequence_number
    entry.data_file.spec_id = manifest.partition_spec_id
    return entry


def _inherit_row_ids(entries: Iterable[ManifestEntry], first: int | None) -> None:
    """Number the rows of files that have no row id yet (specification, First Row ID Inheritance)."""
    if first is None:
        return
    for entry in entries:
        if entry.status != ManifestEntryStatus.DELETED and entry.data_file[_FIRST_ROW_ID] is None:
            entry.data_file[_FIRST_ROW_ID] = first
            first += entry.data_file.record_count


# ---- writing -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Form:
    """How records are written in a file: the same for all files of a schema.

    Attributes:
        schema: Of the file.
        avro: The same, in Avro's JSON.
        writer: Writes a record with the fields of the newest version.
    """

    schema: Schema
    avro: str
    writer: Writer


def _form(schema: Schema, newest: Schema, name: str) -> _Form:
    avro = AvroSchemaConversion().iceberg_to_avro(schema, schema_name=name)
    return _Form(schema, json.dumps(avro), resolve_writer(record_schema=newest, file_schema=schema))


@lru_cache(maxsize=64)
def _entries_form(version: TableVersion, partition: StructType) -> _Form:
    schema, newest = (
        manifest_entry_schema_with_data_file(v, data_file_with_partition(partition, v))
        for v in (version, NEWEST)
    )
    return _form(schema, newest, "manifest_entry")


@lru_cache(maxsize=4)
def _list_form(version: TableVersion) -> _Form:
    return _form(MANIFEST_LIST_FILE_SCHEMAS[version], MANIFEST_LIST_FILE_SCHEMAS[NEWEST], "manifest_file")


_WRITE_HEADER = construct_writer(META_SCHEMA)


class _KnownAvroOutput(AvroOutputFile[Row]):
    """A file whose writer is made once for each schema: that takes longer than to write a few entries.

    Args:
        output: Where to.
        form: How its records are written.
        metadata: Of the file; the codec is in it.
    """

    def __init__(self, output: OutputFile, form: _Form, metadata: dict[str, str]) -> None:
        self.output_file = output
        self.file_schema = form.schema
        self.sync_bytes = os.urandom(SYNC_SIZE)
        self.writer = form.writer
        self.metadata = metadata
        self._avro = form.avro

    def _write_header(self) -> None:
        codec = self.metadata[AVRO_CODEC_KEY]
        named = {"avro.schema": self._avro, AVRO_CODEC_KEY: CODEC_MAPPING_ICEBERG_TO_AVRO.get(codec, codec)}
        header = AvroFileHeader(MAGIC, {**self.metadata, **named}, self.sync_bytes)
        _WRITE_HEADER.write(self.encoder, header)


def entry_of(
    file: DataFile, status: ManifestEntryStatus, snapshot_id: int, known: ManifestEntry | None = None
) -> ManifestEntry:
    """An entry of a manifest that is going to be written.

    Args:
        file: The data or delete file.
        status: What the manifest says of it.
        snapshot_id: The snapshot that is being made.
        known: The entry as it was, of a file that is not added: it keeps its sequence numbers, and a file
            that stays keeps the snapshot that added it.
    """
    kept = known is not None and status == ManifestEntryStatus.EXISTING
    return ManifestEntry.from_args(
        _table_format_version=NEWEST,
        status=status,
        snapshot_id=known.snapshot_id if known is not None and kept else snapshot_id,
        sequence_number=None if known is None else known.sequence_number,
        file_sequence_number=None if known is None else known.file_sequence_number,
        data_file=file,
    )


def manifest_writer(
    version: TableVersion,
    content: ManifestContent,
    spec: PartitionSpec,
    schema: Schema,
    output: OutputFile,
    snapshot_id: int,
    codec: AvroCompressionCodec,
) -> ManifestWriter:
    """A writer of one manifest; a context manager with `add_entry`.

    Raises:
        ValueError: Delete files in a table of version 1.
    """
    if version == 1:
        if content == ManifestContent.DELETES:
            raise ValueError("a table of version 1 has no delete files")
        return write_manifest(version, spec, schema, output, snapshot_id, codec)
    return _ManifestWriter(version, content, spec, schema, output, snapshot_id, codec)


def written(writer: ManifestWriter) -> ManifestFile:
    """The manifest that was written, with the fields of version 3."""
    made = writer.to_manifest_file()
    fields = MANIFEST_LIST_FILE_SCHEMAS[NEWEST].fields
    return ManifestFile(*(made[i] if i < len(made) else None for i in range(len(fields))))


class _ManifestWriter(ManifestWriterV2):
    """Manifests of versions 2 and 3, of data or of deletes."""

    def __init__(
        self,
        version: TableVersion,
        content: ManifestContent,
        spec: PartitionSpec,
        schema: Schema,
        output: OutputFile,
        snapshot_id: int,
        codec: AvroCompressionCodec,
    ) -> None:
        super().__init__(spec, schema, output, snapshot_id, codec)
        self._version = version
        self._content = content

    def content(self) -> ManifestContent:
        return self._content

    @property
    def version(self) -> TableVersion:
        return self._version

    @property
    def _meta(self) -> dict[str, str]:
        kind = "deletes" if self._content == ManifestContent.DELETES else "data"
        return {**super()._meta, "content": kind}

    def new_writer(self) -> AvroOutputFile[ManifestEntry]:
        form = _entries_form(self._version, self._spec.partition_type(self._schema))
        return _KnownAvroOutput[ManifestEntry](self._output_file, form, self._meta)


def write_list(
    version: TableVersion,
    output: OutputFile,
    manifests: list[ManifestFile],
    *,
    snapshot_id: int,
    parent_id: int | None,
    sequence_number: int,
    next_row_id: int,
    codec: AvroCompressionCodec,
) -> int:
    """Write a snapshot's manifest list; returns how many row ids it gives away (0 before version 3).

    Args:
        version: Of the table.
        output: Where to.
        manifests: New ones and those that stay.
        snapshot_id: The snapshot that is being made.
        parent_id: The one before it.
        sequence_number: Of the snapshot.
        next_row_id: The first row id that is free.
        codec: Compression.
    """
    given = 0
    if version >= NEWEST:
        given = _assign_row_ids(manifests, next_row_id)
    writer: ManifestListWriter
    if version == 1:
        writer = write_manifest_list(version, output, snapshot_id, parent_id, sequence_number, codec)
    else:
        writer = _ListWriter(version, output, snapshot_id, parent_id, sequence_number, codec)
    with writer:
        writer.add_manifests(manifests)
    return given


def _assign_row_ids(manifests: Iterable[ManifestFile], first: int) -> int:
    """Give row ids to the data manifests without (specification, First Row ID Assignment); how many."""
    next_id = first
    for manifest in manifests:
        if manifest.content == ManifestContent.DATA and manifest[_MANIFEST_FIRST_ROW_ID] is None:
            manifest[_MANIFEST_FIRST_ROW_ID] = next_id
            next_id += (manifest.added_rows_count or 0) + (manifest.existing_rows_count or 0)
    return next_id - first


class _ListWriter(ManifestListWriterV2):
    """Manifest lists of versions 2 and 3."""

    def __init__(
        self,
        version: TableVersion,
        output: OutputFile,
        snapshot_id: int,
        parent_id: int | None,
        sequence_number: int,
        codec: AvroCompressionCodec,
    ) -> None:
        super().__init__(output, snapshot_id, parent_id, sequence_number, codec)
        self._format_version = version
        self._meta["format-version"] = str(version)

    def __enter__(self) -> ManifestListWriter:
        form = _list_form(self._format_version)
        self._writer = _KnownAvroOutput[ManifestFile](self._output_file, form, self._meta)
        self._writer.__enter__()
        return self
