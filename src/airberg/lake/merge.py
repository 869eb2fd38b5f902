"""Merge: the newest version of each key, in one snapshot per checkpoint, by rewriting the files it touches.

Rows are staged in data files as they arrive, their keys in a `KeyIndex`. At a commit the winners among them
are matched with the key columns of those files of the table that may hold them; files that lose rows are
written anew without these, and so are staged files with rows that did not win. In a table with partitions
every row is written into the partition of its new version, so a row moves by being replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.conversions import from_bytes
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import IcebergType, NestedField, PrimitiveType, StructType

from airberg.errors import ConfigurationFailed, TransientFailed
from airberg.lake.arranged import ArrangedStaging
from airberg.lake.catalog import catalog_errors
from airberg.lake.commit import Committer
from airberg.lake.deletes import deleted_positions
from airberg.lake.fanout import ArrangedFileWriter, open_file_writer
from airberg.lake.files import DataFileWriter
from airberg.lake.keyindex import KeyBounds, KeyIndex, KeyRows
from airberg.lake.live import LiveFile, live_files
from airberg.lake.note import Note
from airberg.lake.scan import file_batches, live_batches
from airberg.lake.snapshots import FileChanges
from airberg.lake.staging import StagedFile
from airberg.lake.writers import CommitReport, MergeKey, StagingWriter, WriterSettings, report

_Writer: TypeAlias = DataFileWriter | ArrangedFileWriter


class MergeWriter(StagingWriter):
    """Replaces the rows whose keys arrive, adds the new ones, deletes the deleted ones.

    Args:
        committer: Of the table.
        key: What to merge by.
        settings: `spill_dir` is needed.

    Raises:
        ConfigurationFailed: The key, the cursor or the deleted column is not a column of the table with a
            type that can be compared.
    """

    def __init__(self, committer: Committer, key: MergeKey, settings: WriterSettings) -> None:
        super().__init__(committer, settings)
        if settings.spill_dir is None:
            raise ValueError("a merge needs a folder to spill to")
        if not key.columns:
            raise ValueError("a merge needs a key")
        schema = committer.table.schema()
        self._keys = tuple(_locate(schema, path, "merge key") for path in key.columns)
        self._cursor = None if key.cursor is None else _locate(schema, key.cursor, "cursor")
        self._deleted = (
            None if key.deleted_at is None else _locate_any(schema, key.deleted_at, "deletion mark")
        )
        self._scanned = _scan_schema(schema, [*self._keys, *([self._cursor] if self._cursor else [])])
        self._index = KeyIndex(
            tuple(found.arrow_type for found in self._keys),
            self._cursor.arrow_type if self._cursor else None,
            spill_dir=settings.spill_dir,
            memory_mb=settings.merge_memory_mb,
            threads=settings.threads,
        )
        self._outputs: list[DataFile] = []

    def write(self, batch: pa.RecordBatch) -> None:
        """See `TableWriter.write`."""
        first = self._staging.end
        with catalog_errors("staging rows"):
            stored = self._staging.write(batch)
        rows = _key_rows(stored, self._staging.schema, self._keys, self._cursor)
        if self._deleted is None:
            deleted = pa.repeat(pa.scalar(False), stored.num_rows)
        else:
            deleted = pc.is_valid(self._deleted.of(stored, self._staging.schema))
        self._index.add(rows, deleted, first)

    def commit(self, note: Note) -> CommitReport:
        """See `TableWriter.commit`."""
        staged = self._marked_files()
        if not staged:
            return report(self._committer.commit(note, lambda _: FileChanges()))
        self._index.settle(self._staging.marked)
        if isinstance(self._staging, ArrangedStaging):
            self._index.place(self._staging.placement())
        done = self._committer.commit(note, lambda table: self._plan(table, staged))
        gone = [file.data_file for file in self._staging.forget_marked()]
        self._index.forget(self._staging.marked)
        self._delete([*gone, *self._outputs], keep=done.changes.added)
        self._outputs = []
        return report(done)

    def finish(self, note: Note) -> CommitReport:
        """See `TableWriter.finish`."""
        self.mark()
        return self.commit(note)

    def discard(self) -> None:
        """See `TableWriter.discard`; the writer cannot be used afterwards."""
        self._delete(self._outputs, keep=())
        super().discard()
        self._index.close()

    # ---- one attempt -------------------------------------------------------------------------------------

    def _plan(self, table: Table, staged: list[StagedFile]) -> FileChanges:
        self._check_types(table)
        tasks = live_files(table)
        bounds = [tuple(_bounds(task.file, found) for found in self._keys) for task in tasks]
        candidates = {index: tasks[index] for index in self._index.candidates(bounds)}
        replaced = self._index.match(self._rows(table, candidates))
        touched = self._index.removed_counts()
        writer = open_file_writer(table, self._settings.sizes)
        try:
            untouched, written = self._rewrite_staged(table, staged, writer)
            writer.roll()
            for index in sorted(touched):
                self._rewrite(table, index, candidates[index], writer, touched[index])
            rewritten = writer.close()
        except BaseException:
            writer.abandon()
            raise
        self._outputs += rewritten
        return FileChanges(
            added=(*untouched, *rewritten),
            removed=tuple(candidates[index].file for index in sorted(touched)),
            rows_written=written,
            rows_deleted=replaced,
        )

    def _rows(self, table: Table, candidates: dict[int, LiveFile]) -> Iterator[tuple[int, pa.Array, KeyRows]]:
        for index, task in candidates.items():
            for positions, batch in live_batches(table, task, self._scanned):
                yield index, positions, _key_rows(batch, self._scanned, self._keys, self._cursor)

    def _rewrite_staged(
        self, table: Table, staged: list[StagedFile], writer: _Writer
    ) -> tuple[list[DataFile], int]:
        """Write the winners of files with losers; the other files, and the number of all winners."""
        untouched, written = [], 0
        for file in staged:
            kept = self._index.open_kept(file.first, file.end)
            written += kept
            if kept == file.data_file.record_count:
                untouched.append(file.data_file)
            elif kept:
                for start, batch in file_batches(table, file.data_file, table.schema()):
                    first = file.first + start
                    rows = self._index.kept(first, first + batch.num_rows)
                    writer.write(batch.take(pc.subtract(rows, first)))
        return untouched, written

    def _rewrite(self, table: Table, index: int, task: LiveFile, writer: _Writer, removed: int) -> None:
        """Write the rows of a file that stay."""
        if removed == task.file.record_count:
            return
        deleted = deleted_positions(table.io, task)
        self._index.open_removed(index)
        for start, batch in file_batches(table, task.file, table.schema()):
            gone = self._index.removed(start, start + batch.num_rows)
            if deleted is not None:
                gone = pa.concat_arrays([gone, deleted])
            if len(gone):
                positions = pa.arange(start, start + batch.num_rows)
                batch = batch.filter(pc.invert(pc.is_in(positions, value_set=gone)))
            writer.write(batch)
        # Rows of small files share one; those of large files keep to themselves, and so their key bounds.
        if writer.open_bytes * 2 >= self._settings.sizes.target_file_bytes:
            writer.roll()

    def _check_types(self, table: Table) -> None:
        schema = table.schema()
        for found in (*self._keys, *([self._cursor] if self._cursor else [])):
            if schema.find_type(found.field_id) != found.type:
                raise TransientFailed(
                    f"The type of {'.'.join(found.path)!r} was changed by somebody else during the run.",
                    guidance="Run again: the next run works with the new type.",
                    code="schema-changed",
                )


@dataclass(frozen=True, slots=True)
class _Located:
    """A column or nested field of a table's schema."""

    path: tuple[str, ...]
    field_id: int
    type: IcebergType

    @property
    def arrow_type(self) -> pa.DataType:
        return schema_to_pyarrow(self.type, include_field_ids=False)

    def of(self, batch: pa.RecordBatch, schema: Schema) -> pa.Array:
        """Its values in a batch with the columns of `schema`, in that order, under any names."""
        indexes, type_ = [], schema.as_struct()
        for name in self.path:
            at = next(i for i, member in enumerate(type_.fields) if member.name == name)
            indexes.append(at)
            inner = type_.fields[at].field_type
            type_ = inner if isinstance(inner, StructType) else StructType()
        column = batch.column(indexes[0])
        return pc.struct_field(column, indexes[1:]) if indexes[1:] else column


def _key_rows(
    batch: pa.RecordBatch, schema: Schema, keys: tuple[_Located, ...], cursor: _Located | None
) -> KeyRows:
    return KeyRows(
        tuple(key.of(batch, schema) for key in keys), None if cursor is None else cursor.of(batch, schema)
    )


def _locate(schema: Schema, path: tuple[str, ...], what: str) -> _Located:
    found = _locate_any(schema, path, what)
    if not isinstance(found.type, PrimitiveType):
        raise ConfigurationFailed(
            f"The {what} {'.'.join(path)!r} is a {found.type}.",
            guidance="Choose a column with a simple type, or cast this one to json or string.",
            code="merge-key-type",
        )
    return found


def _locate_any(schema: Schema, path: tuple[str, ...], what: str) -> _Located:
    type_: IcebergType = schema.as_struct()
    member: NestedField | None = None
    for name in path:
        members = type_.fields if isinstance(type_, StructType) else ()
        member = next((candidate for candidate in members if candidate.name == name), None)
        if member is None:
            break
        type_ = member.field_type
    if member is None:
        raise ConfigurationFailed(
            f"The {what} {'.'.join(path)!r} is not a column of the table.",
            guidance="Check the merge key and the renames of the job.",
            code="merge-key-missing",
        )
    return _Located(path, member.field_id, type_)


def _scan_schema(schema: Schema, wanted: list[_Located]) -> Schema:
    """The columns of `schema` that hold what is wanted."""
    names = {found.path[0] for found in wanted}
    return Schema(*(field for field in schema.fields if field.name in names))


def _bounds(file: DataFile, found: _Located) -> KeyBounds:
    """What the file's statistics say about a column."""
    id_, type_ = found.field_id, found.type
    lower, upper = (file.lower_bounds or {}).get(id_), (file.upper_bounds or {}).get(id_)
    values, nulls = (file.value_counts or {}).get(id_), (file.null_value_counts or {}).get(id_)
    if not isinstance(type_, PrimitiveType):
        return KeyBounds()
    return KeyBounds(
        low=None if lower is None else from_bytes(type_, lower),
        high=None if upper is None else from_bytes(type_, upper),
        nulls=nulls is None or nulls > 0,
        values=values is None or nulls is None or values > nulls,
    )
