"""Writers: how the rows of a run get into a table, by mode.

Rows are staged in data files as they arrive. `mark` says that what was staged until now is covered by the
next state; `commit` commits up to the mark, with the note that holds this state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from airberg.lake.arranged import open_staging
from airberg.lake.catalog import catalog_errors
from airberg.lake.commit import Committed, Committer
from airberg.lake.files import FileSizes
from airberg.lake.identifier import RequiredColumns, refuse_nulls
from airberg.lake.note import Note, Sealer
from airberg.lake.promise import Promise, PromisedFile, keep_aside
from airberg.lake.snapshots import FileChanges, current_files
from airberg.lake.staging import StagedFile
from airberg.plan.model import DeleteFormat, Mode

if TYPE_CHECKING:  # it needs DuckDB, which appends do not
    from airberg.lake.keymemory import KeyMemory


@dataclass(frozen=True, slots=True)
class WriterSettings:
    """How writers use disk and memory.

    Attributes:
        target_file_bytes: Size at which a data file is closed.
        row_group_bytes: Rows that wait in memory for their row group, in Arrow bytes.
        row_group_rows: The same, in rows.
        arrange_bytes: Rows that wait to be divided among partitions and sorted, in Arrow bytes; only for
            tables that ask for it.
        open_files: Files of different partitions that are open at once.
        spill_dir: Folder for temporary files: row numbers of partitioned tables, keys of merges.
        key_memory: Where merges keep the keys of a checkpoint; one for all the tables of a run. None: each
            merge has one of its own, in `spill_dir`.
        threads: Threads of a merge that reads the keys of a table.
    """

    target_file_bytes: int = 128 * 1024 * 1024
    row_group_bytes: int = 24 * 1024 * 1024
    row_group_rows: int = 1_000_000
    arrange_bytes: int = 32 * 1024 * 1024
    open_files: int = 32
    spill_dir: Path | None = None
    key_memory: KeyMemory | None = None
    threads: int = 2

    @property
    def sizes(self) -> FileSizes:
        """Sizes of files and row groups."""
        return FileSizes(
            self.target_file_bytes,
            self.row_group_bytes,
            self.row_group_rows,
            self.arrange_bytes,
            self.open_files,
        )


@dataclass(frozen=True, slots=True)
class MergeKey:
    """What rows are merged by, as paths of names in the table.

    Attributes:
        columns: The key.
        cursor: Orders the versions of a key; None for order of arrival.
        deleted_at: A row in which it is not null deletes its key; None where such rows stay.
        delete_format: How rows of the table go. A table's version decides between position-delete files
            (version 2) and deletion vectors (version 3).
        skip_unchanged: A version of a row with no new value, metadata columns aside, is not written.
    """

    columns: tuple[tuple[str, ...], ...]
    cursor: tuple[str, ...] | None = None
    deleted_at: tuple[str, ...] | None = None
    delete_format: DeleteFormat = "position"
    skip_unchanged: bool = False


@dataclass(frozen=True, slots=True)
class CommitReport:
    """What a commit did.

    Attributes:
        rows_written: Rows of the source that came into the table.
        rows_deleted: Rows that left it: replaced, deleted, or overwritten.
        snapshot_id: The snapshot, None when only the state was noted.
        bytes_written: Size of the new data files.
        files: Number of the new data files.
    """

    rows_written: int = 0
    rows_deleted: int = 0
    snapshot_id: int | None = None
    bytes_written: int = 0
    files: int = 0


class TableWriter(Protocol):
    """Brings rows into one table, for one run. Not for use by several threads at once."""

    @property
    def table(self) -> Table:
        """The table as of the last look at it."""
        ...

    @property
    def in_doubt(self) -> bool:
        """A commit was sent and its outcome is not known."""
        ...

    @property
    def staged_rows(self) -> int:
        """Rows that are staged and not committed."""
        ...

    @property
    def staged_bytes(self) -> int:
        """Bytes that are staged and not committed."""
        ...

    @property
    def waiting_bytes(self) -> int:
        """Memory of staged rows that are in no file yet."""
        ...

    @property
    def rows_since_mark(self) -> int:
        """Staged rows that the next state does not cover."""
        ...

    def relieve(self) -> None:
        """Write rows that wait in memory, though there are few of them: others need the memory.

        Raises:
            TransientFailed, ConfigurationFailed: The storage failed or refused.
        """
        ...

    def write(self, batch: pa.RecordBatch) -> None:
        """Stage rows: any of the table's columns, in any order; a missing column is null.

        Raises:
            TypeError: A column does not fit the table.
            TransientFailed, ConfigurationFailed: The storage failed or refused, or a row has no value in a
                required column; none of the batch is staged then.
        """
        ...

    def mark(self, until: int | None = None) -> None:
        """The next state covers the first `until` rows of this writer; without it, all that are staged."""
        ...

    def commit(self, note: Note) -> CommitReport:
        """Commit what is staged up to the mark, with the state that covers it.

        What came after the mark stays staged. Without rows to commit only the note is set. After an error
        the rows are still staged. Raises what `Committer.commit` raises.
        """
        ...

    def finish(self, note: Note) -> CommitReport:
        """Commit everything staged, marked or not: the stream was read to its end."""
        ...

    def promise(self, note: Note) -> Promise:
        """What `commit(note)` is going to do, for the note of another table's commit that decides it.

        Closes the files up to the mark. From now on `discard` leaves them, until `withdraw`.
        """
        ...

    def withdraw(self) -> None:
        """The promise is kept, or nobody heard it: its files are like all others again."""
        ...

    def discard(self) -> None:
        """Delete what is staged, as far as possible, and free memory. Safe to call at any time."""
        ...


class StagingWriter:
    """What the writers have in common; the methods are those of `TableWriter`."""

    def __init__(self, committer: Committer, settings: WriterSettings | None = None) -> None:
        self._committer = committer
        self._settings = settings or WriterSettings()
        self._staging = open_staging(committer.table, self._settings.sizes, self._settings.spill_dir)
        self._required = RequiredColumns(committer.table)
        self._promised = False

    @property
    def table(self) -> Table:
        """See `TableWriter.table`."""
        return self._committer.table

    @property
    def in_doubt(self) -> bool:
        """See `TableWriter.in_doubt`."""
        return self._committer.in_doubt

    @property
    def staged_rows(self) -> int:
        """See `TableWriter.staged_rows`."""
        return self._staging.rows

    @property
    def staged_bytes(self) -> int:
        """See `TableWriter.staged_bytes`."""
        return self._staging.bytes

    @property
    def waiting_bytes(self) -> int:
        """See `TableWriter.waiting_bytes`."""
        return self._staging.waiting_bytes

    def relieve(self) -> None:
        """See `TableWriter.relieve`."""
        with catalog_errors("staging rows"):
            self._staging.relieve()

    @property
    def rows_since_mark(self) -> int:
        """See `TableWriter.rows_since_mark`."""
        return self._staging.end - self._staging.marked

    def write(self, batch: pa.RecordBatch) -> None:
        """See `TableWriter.write`."""
        self._stage(batch)

    def _stage(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Stage rows, none of which lacks a value that the table requires; returns them as stored."""
        if missing := self._required.without_value(batch):
            refuse_nulls(self._committer.catalog, self._committer.table, missing)
        with catalog_errors("staging rows"):
            return self._staging.write(batch)

    def mark(self, until: int | None = None) -> None:
        """See `TableWriter.mark`."""
        self._staging.mark(until)

    def promise(self, note: Note) -> Promise:
        """See `TableWriter.promise`."""
        files = [staged.data_file for staged in self._marked_files()]
        self._promised = True
        table = self._committer.table
        promise = Promise(
            table=tuple(table.name()),
            table_uuid=str(table.metadata.table_uuid),
            before=self._committer.noted,
            number=note.number,
            generation_id=note.generation_id,
            complete=note.complete,
            rows=note.rows,
            destination_records=note.destination_records,
            files=tuple(PromisedFile(f.file_path, f.record_count, f.file_size_in_bytes) for f in files),
        )
        return keep_aside(table, promise)

    def withdraw(self) -> None:
        """See `TableWriter.withdraw`."""
        self._promised = False

    def discard(self) -> None:
        """See `TableWriter.discard`."""
        # A commit whose outcome is unknown may have brought these files into the table.
        if self._committer.in_doubt:
            return
        if self._promised:
            self._staging.forget_marked()
        self._staging.discard()

    def _marked_files(self) -> list[StagedFile]:
        with catalog_errors("closing staged files"):
            return self._staging.marked_files()


class AppendWriter(StagingWriter):
    """Adds rows. A commit of somebody else does not matter to it: the same files are committed again."""

    def commit(self, note: Note) -> CommitReport:
        """See `TableWriter.commit`."""
        files = tuple(staged.data_file for staged in self._marked_files())
        rows = sum(file.record_count for file in files)
        changes = FileChanges(added=files, rows_written=rows)
        done = self._committer.commit(note, lambda _: changes)
        self._staging.forget_marked()
        return report(done)

    def finish(self, note: Note) -> CommitReport:
        """See `TableWriter.finish`."""
        self.mark()
        return self.commit(note)


class OverwriteWriter(StagingWriter):
    """Replaces all rows of a table by those of the run, in one snapshot at its end.

    Args:
        committer: Makes the commit.
        settings: Use of disk and memory.
        at_swap: Table properties that are true of the new rows and not of the old ones; None removes one.
    """

    def __init__(
        self,
        committer: Committer,
        settings: WriterSettings | None = None,
        at_swap: Mapping[str, str | None] = MappingProxyType({}),
    ) -> None:
        super().__init__(committer, settings)
        self._at_swap = at_swap

    def commit(self, note: Note) -> CommitReport:
        """Not possible before the end.

        Raises:
            RuntimeError: Always; a programming error.
        """
        raise RuntimeError(f"an overwrite commits once, by finish(); not at checkpoint {note.number}")

    def finish(self, note: Note) -> CommitReport:
        """Swap the table: its rows are exactly the staged ones afterwards, also when there are none.

        Rows that somebody else added meanwhile go as well: the table is what the source has.
        """
        self.mark()
        added = tuple(staged.data_file for staged in self._marked_files())

        def plan(table: Table) -> FileChanges:
            removed, has_deletes = current_files(table)
            return FileChanges(
                added=added,
                removed=tuple(removed),
                drop_deletes=has_deletes,
                rows_written=sum(file.record_count for file in added),
                rows_deleted=sum(file.record_count for file in removed),
            )

        done = self._committer.commit(note, plan, self._at_swap)
        self._staging.forget_marked()
        return report(done)


def report(done: Committed) -> CommitReport:
    """The report of a commit that landed."""
    changes = done.changes
    return CommitReport(
        rows_written=changes.rows_written,
        rows_deleted=changes.rows_deleted,
        snapshot_id=done.snapshot_id,
        bytes_written=sum(file.file_size_in_bytes for file in changes.added),
        files=len(changes.added),
    )


def open_writer(
    mode: Mode,
    catalog: Catalog,
    table: Table,
    *,
    job_id: UUID | str,
    started_from: Note | None,
    settings: WriterSettings | None = None,
    guard: Callable[[], None] | None = None,
    sealer: Sealer | None = None,
    key: MergeKey | None = None,
    at_swap: Mapping[str, str | None] = MappingProxyType({}),
    replaces: bool = False,
) -> TableWriter:
    """A writer for one run of a job into one table.

    Args:
        mode: How rows get into the table.
        catalog: The table's catalog.
        table: The table, as it was when its note was read; its schema takes all columns to be written.
        job_id: The job, whose note the commits set.
        started_from: The note that the run starts from.
        settings: Use of disk and memory.
        guard: Called right before each commit; raises when the run may not write any more.
        sealer: Encrypts the state in the note; for streams whose state holds values of encrypted columns.
        key: For mode merge.
        at_swap: For mode overwrite: table properties to set together with the new rows; None removes one.
        replaces: In the other modes: the rows take the place of all that are there, in one commit at the end.

    Raises:
        LeaseHeld: Another run has written since the note was read.
        ConfigurationFailed: The merge key does not fit the table.
    """
    committer = Committer(
        catalog, table, job_id, started_from=started_from, sealer=sealer, guard=guard or (lambda: None)
    )
    if mode == "append" and not replaces:
        return AppendWriter(committer, settings)
    if mode in ("append", "overwrite"):
        return OverwriteWriter(committer, settings, at_swap)
    if key is None:
        raise ValueError("a merge needs a key")
    # Here, not above: it needs DuckDB, which the other modes do not, and it builds on this module.
    from airberg.lake.merge import MergeWriter

    return MergeWriter(committer, key, settings or WriterSettings(), replaces=replaces)
