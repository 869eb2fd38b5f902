"""Merge: the newest version of each key, in one snapshot per checkpoint, at the cost of the change.

Rows are staged in data files as they arrive, their keys in a `KeyIndex`. At a commit the winners among them
are matched with the keys of those data files that may hold them, by partition and key bounds. The rows that
they replace are deleted by position, or by writing files anew (`airberg.lake.rewrite`); rows that did not win
do not come into the table. In a table with partitions every row is written into the partition of its new
version, so a row moves by being replaced.

When somebody else commits meanwhile, the attempt is made again on what is there then: files that have not
changed keep what was found in them, files that came or lost rows are looked at again. So row deletes never
point into a file that is gone (specification, Scan Planning and Commit Conflict Resolution).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from airberg.errors import TransientFailed
from airberg.lake.arranged import ArrangedStaging
from airberg.lake.commit import Committer
from airberg.lake.files import delete_quietly
from airberg.lake.keyfilter import MOST_KEYS, KeyFilter, can_filter
from airberg.lake.keyindex import KeyIndex
from airberg.lake.keymemory import KeyMemory
from airberg.lake.keyscan import Found, scan_keys
from airberg.lake.live import LiveFile, live_files
from airberg.lake.mergekeys import Candidates, key_rows, locate, locate_any, top_columns
from airberg.lake.note import Note
from airberg.lake.rewrite import Outcome, Rewrites, RowDeletes, Strategy
from airberg.lake.scan import file_batches
from airberg.lake.snapshots import FileChanges, current_files
from airberg.lake.staging import StagedFile
from airberg.lake.writers import CommitReport, MergeKey, StagingWriter, WriterSettings, report
from airberg.plan.names import METADATA_COLUMNS


class MergeWriter(StagingWriter):
    """Replaces the rows whose keys arrive, adds the new ones, deletes the deleted ones.

    Args:
        committer: Of the table.
        key: What to merge by, and how.
        settings: `key_memory` or `spill_dir` is needed.
        replaces: What is staged takes the place of all rows of the table, in one commit by `finish`.

    Raises:
        ConfigurationFailed: The key, the cursor or the deleted column is not a column of the table with a
            type that can be compared.
    """

    def __init__(
        self, committer: Committer, key: MergeKey, settings: WriterSettings, *, replaces: bool = False
    ) -> None:
        super().__init__(committer, settings)
        self._replaces = replaces
        if not key.columns:
            raise ValueError("a merge needs a key")
        schema = committer.table.schema()
        self._keys = tuple(locate(schema, path, "merge key") for path in key.columns)
        self._cursor = None if key.cursor is None else locate(schema, key.cursor, "cursor")
        self._deleted = (
            None if key.deleted_at is None else locate_any(schema, key.deleted_at, "deletion mark")
        )
        self._scanned = top_columns(schema, [*self._keys, *([self._cursor] if self._cursor else [])])
        self._delete_format = key.delete_format
        self._skip_unchanged = key.skip_unchanged
        memory, self._own_memory = settings.key_memory, None
        if memory is None:
            if settings.spill_dir is None:
                raise ValueError("a merge needs memory for its keys, or a folder to spill to")
            memory = self._own_memory = KeyMemory(settings.spill_dir, threads=settings.threads)
        cursor_type = self._cursor.arrow_type if self._cursor else None
        self._index = KeyIndex(tuple(found.arrow_type for found in self._keys), cursor_type, memory)
        self._filter = self._new_filter()
        self._looked_at: dict[Hashable, int] = {}
        self._written: list[str] = []

    def write(self, batch: pa.RecordBatch) -> None:
        """See `TableWriter.write`."""
        first = self._staging.end
        stored = self._stage(batch)
        rows = key_rows(stored, self._staging.schema, self._keys, self._cursor)
        if self._deleted is None:
            deleted = pa.repeat(pa.scalar(False), stored.num_rows)
        else:
            deleted = pc.is_valid(self._deleted.of(stored, self._staging.schema))
        self._index.add(rows, deleted, first)
        self._filter_by(rows.keys)

    def commit(self, note: Note) -> CommitReport:
        """See `TableWriter.commit`."""
        if self._staging.rows == self.rows_since_mark and not self._replaces:
            return report(self._committer.commit(note, lambda _: FileChanges()))
        # Files are closed, which is mostly compressing, while the table is looked through for their keys.
        with ThreadPoolExecutor(1, "close-files") as beside:
            closing = beside.submit(self._marked_files)
            self._index.settle(
                self._staging.marked, distinct=self._filter is not None and self._filter.distinct
            )
            if isinstance(self._staging, ArrangedStaging):
                closing.result()
                self._index.place(self._staging.placement())
            self._looked_at = {}
            candidates = Candidates(self._index, self._keys)
            done = self._committer.commit(note, lambda table: self._plan(table, closing, candidates))
        gone = [file.data_file.file_path for file in self._staging.forget_marked()]
        self._index.forget(self._staging.marked)
        if not self.rows_since_mark:
            self._filter = self._new_filter()
        self._delete_paths([*gone, *self._written], done.changes)
        self._written = []
        return report(done)

    def finish(self, note: Note) -> CommitReport:
        """See `TableWriter.finish`."""
        self.mark()
        return self.commit(note)

    def discard(self) -> None:
        """See `TableWriter.discard`; the writer cannot be used afterwards."""
        self._delete_paths(self._written, FileChanges())
        super().discard()
        self._index.close()
        if self._own_memory is not None:
            self._own_memory.close()

    # ---- one attempt -------------------------------------------------------------------------------------

    def _plan(self, table: Table, closing: Future[list[StagedFile]], candidates: Candidates) -> FileChanges:
        self._check_types(table)
        there = [] if self._replaces else live_files(table)
        files = self._look(table, candidates.of(table, there))
        staged = closing.result()
        if self._skip_unchanged:
            self._compare(table, files, staged)
        outcome = self._strategy(table).apply(table, self._index, staged, files)
        self._written += outcome.written
        if self._replaces:
            return self._instead_of_all(table, outcome)
        return FileChanges(
            added=tuple(outcome.added),
            removed=tuple(outcome.removed),
            deletes_added=tuple(outcome.deletes_added),
            deletes_removed=tuple(outcome.deletes_removed),
            rows_written=outcome.rows,
            rows_deleted=outcome.rows_gone,
        )

    def _instead_of_all(self, table: Table, outcome: Outcome) -> FileChanges:
        removed, has_deletes = current_files(table)
        return FileChanges(
            added=tuple(outcome.added),
            removed=tuple(removed),
            deletes_added=tuple(outcome.deletes_added),
            drop_deletes=has_deletes,
            rows_written=outcome.rows,
            rows_deleted=sum(file.record_count for file in removed),
        )

    def _strategy(self, table: Table) -> Strategy:
        """Tables of version 1 have no row deletes; which kind others have follows from their version."""
        if self._delete_format == "copy-on-write" or table.metadata.format_version < 2:
            return Rewrites(self._settings.sizes)
        return RowDeletes(self._settings.sizes)

    def _look(self, table: Table, candidates: list[LiveFile]) -> dict[int, LiveFile]:
        """Match the keys of the files that were not looked at in this state; all candidates by number."""
        now = {live.version: live for live in candidates}
        self._index.forget_files([number for seen, number in self._looked_at.items() if seen not in now])
        next_number = max(self._looked_at.values(), default=-1) + 1
        known = {seen: number for seen, number in self._looked_at.items() if seen in now}
        new: dict[int, LiveFile] = {}
        for version, live in now.items():
            if version not in known:
                new[next_number] = live
                known[version] = next_number
                next_number += 1
        self._looked_at = {}  # of an attempt that fails in the middle nothing is known
        self._index.match(scan_keys(table, new, self._scanned, self._pick, self._settings.threads))
        self._looked_at = known
        return {number: now[version] for version, number in known.items()}

    def _new_filter(self) -> KeyFilter | None:
        return KeyFilter() if can_filter([key.arrow_type for key in self._keys]) else None

    def _filter_by(self, keys: Sequence[pa.Array]) -> None:
        """Keys of staged rows, also of those behind the mark: rows of the table that have one may pass."""
        if self._filter is not None:
            self._filter.add(keys)
            if self._filter.rows > MOST_KEYS:
                self._filter = None

    def _pick(self, number: int, positions: pa.Array, batch: pa.RecordBatch) -> Found | None:
        rows = key_rows(batch, self._scanned, self._keys, self._cursor)
        if self._filter is None:
            return number, positions, rows
        chosen = self._filter.pick(rows.keys)
        return (number, positions.take(chosen), rows.take(chosen)) if len(chosen) else None

    def _compare(self, table: Table, files: dict[int, LiveFile], staged: list[StagedFile]) -> None:
        """Find the versions that bring nothing new; what Airberg itself says of a row does not count."""
        schema = table.schema()
        compared = Schema(*(field for field in schema.fields if field.name not in METADATA_COLUMNS))
        self._index.compare(self._present(table, files, compared), _staged_rows(table, staged, compared))

    def _present(
        self, table: Table, files: dict[int, LiveFile], schema: Schema
    ) -> Iterator[tuple[int, pa.Array, pa.RecordBatch]]:
        for number, positions in self._index.updated():
            for start, batch in file_batches(table, files[number].file, schema):
                inside = pc.and_(
                    pc.greater_equal(positions, start), pc.less(positions, start + batch.num_rows)
                )
                here = positions.filter(inside)
                if len(here):
                    yield number, here, batch.take(pc.subtract(here, start))

    def _check_types(self, table: Table) -> None:
        schema = table.schema()
        for found in (*self._keys, *([self._cursor] if self._cursor else [])):
            if schema.find_type(found.field_id) != found.type:
                raise TransientFailed(
                    f"The type of {'.'.join(found.path)!r} was changed by somebody else during the run.",
                    guidance="Run again: the next run works with the new type.",
                    code="schema-changed",
                )

    def _delete_paths(self, paths: list[str], landed: FileChanges) -> None:
        if self._committer.in_doubt:
            return
        kept = {file.file_path for file in (*landed.added, *landed.deletes_added)}
        for path in {*paths} - kept:
            delete_quietly(self._committer.table.io, path)


def _staged_rows(
    table: Table, staged: list[StagedFile], schema: Schema
) -> Iterator[tuple[int, pa.RecordBatch]]:
    for file in staged:
        for start, batch in file_batches(table, file.data_file, schema):
            yield file.first + start, batch
