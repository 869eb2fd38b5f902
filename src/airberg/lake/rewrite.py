"""What becomes of files when some of their rows go: row deletes beside them, or new files without those rows.

`RowDeletes` leaves files as they are (merge on read), `Rewrites` writes them anew (copy on write). Both are
for one attempt at one commit, and give the same table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from airberg.lake.deletes import (
    DeletedRows,
    DeleteWriter,
    deleted_positions,
    open_delete_writer,
    without,
)
from airberg.lake.fanout import ArrangedFileWriter, open_file_writer
from airberg.lake.files import DataFileWriter, FileSizes
from airberg.lake.keyindex import KeyIndex
from airberg.lake.live import LiveFile, only_target
from airberg.lake.manifests import NEWEST
from airberg.lake.scan import file_batches
from airberg.lake.staging import StagedFile

_Writer: TypeAlias = DataFileWriter | ArrangedFileWriter

MOST_LOST = 0.25
"""A staged file that loses more of its rows is written anew, though row deletes would do."""


@dataclass(slots=True)
class Outcome:
    """What an attempt does to files.

    Attributes:
        rows: Rows of the source that come into the table.
        rows_gone: Rows of the table that were replaced or deleted.
        written: Paths of all files that were written for the attempt.
    """

    added: list[DataFile] = field(default_factory=list)
    removed: list[DataFile] = field(default_factory=list)
    deletes_added: list[DataFile] = field(default_factory=list)
    deletes_removed: list[DataFile] = field(default_factory=list)
    rows: int = 0
    rows_gone: int = 0
    written: list[str] = field(default_factory=list)


class Strategy(Protocol):
    """Applies what a `KeyIndex` found."""

    def apply(
        self, table: Table, index: KeyIndex, staged: list[StagedFile], files: Mapping[int, LiveFile]
    ) -> Outcome:
        """Write the files that the commit needs.

        Args:
            table: As it is at this attempt.
            index: Says which rows go, and which staged ones are kept.
            staged: The staged files.
            files: The files that rows go from, by their numbers in the index.

        Raises:
            OSError: The storage failed; nothing is left behind.
        """
        ...


class Rewrites:
    """Copy on write: files that lose rows are written anew without them.

    Args:
        sizes: Bounds of files and memory.
    """

    def __init__(self, sizes: FileSizes) -> None:
        self._sizes = sizes

    def apply(
        self, table: Table, index: KeyIndex, staged: list[StagedFile], files: Mapping[int, LiveFile]
    ) -> Outcome:
        """See `Strategy.apply`."""
        touched = index.removed_counts()
        outcome = Outcome(rows_gone=sum(touched.values()))
        writer = open_file_writer(table, self._sizes)
        try:
            for file in staged:
                kept = index.open_kept(file.first, file.end)
                outcome.rows += kept
                if kept == file.data_file.record_count:
                    outcome.added.append(file.data_file)
                else:
                    write_kept(table, index, file, kept, writer)
            writer.roll()
            for number in sorted(touched):
                self._rewrite(table, index, number, files[number], writer, touched[number])
            rewritten = writer.close()
        except BaseException:
            writer.abandon()
            raise
        outcome.added += rewritten
        outcome.removed = [files[number].file for number in sorted(touched)]
        outcome.deletes_removed = _only_for(files[number] for number in sorted(touched))
        outcome.written = [file.file_path for file in rewritten]
        return outcome

    def _rewrite(
        self, table: Table, index: KeyIndex, number: int, live: LiveFile, writer: _Writer, removed: int
    ) -> None:
        """Write the rows of a file that stay."""
        if removed == live.file.record_count:
            return
        deleted = DeletedRows(deleted_positions(table.io, live))
        index.open_removed(number)
        for start, batch in file_batches(table, live.file, table.schema()):
            end = start + batch.num_rows
            writer.write(without(batch, start, [index.removed(start, end), deleted.between(start, end)])[1])
        # Rows of small files share one; those of large files keep to themselves, and so their key bounds.
        if writer.open_bytes * 2 >= self._sizes.target_file_bytes:
            writer.roll()


class RowDeletes:
    """Merge on read: the rows that go are named in delete files, one for each data file.

    What earlier delete files say of the same data file alone is taken over, so that a data file has one,
    however often its rows are changed.

    Args:
        sizes: Bounds of files and memory.
    """

    def __init__(self, sizes: FileSizes) -> None:
        self._sizes = sizes

    def apply(
        self, table: Table, index: KeyIndex, staged: list[StagedFile], files: Mapping[int, LiveFile]
    ) -> Outcome:
        """See `Strategy.apply`."""
        touched = index.removed_counts()
        outcome = Outcome(rows_gone=sum(touched.values()))
        deletes = open_delete_writer(table)
        writer: _Writer | None = None
        try:
            for file in staged:
                kept = index.open_kept(file.first, file.end)
                outcome.rows += kept
                rows = file.data_file.record_count
                if rows - kept > MOST_LOST * rows:
                    writer = writer or open_file_writer(table, self._sizes)
                    write_kept(table, index, file, kept, writer)
                    continue
                outcome.added.append(file.data_file)
                if kept < rows:
                    deletes.add(file.data_file, pc.subtract(index.lost(file.first, file.end), file.first))
            for number in sorted(touched):
                self._delete(table, files[number], index.removed_from(number), outcome, deletes)
            rewritten = writer.close() if writer else ()
            outcome.deletes_added = deletes.close()
        except BaseException:
            deletes.abandon()
            if writer:
                writer.abandon()
            raise
        outcome.added += rewritten
        outcome.written = [file.file_path for file in (*rewritten, *outcome.deletes_added)]
        return outcome

    def _delete(
        self, table: Table, live: LiveFile, gone: pa.Array, outcome: Outcome, deletes: DeleteWriter
    ) -> None:
        """Delete rows of one data file; all of a file goes by removing it."""
        before = deleted_positions(table.io, live)
        own = _only_for([live])
        together = gone if before is None else _union(gone, before)
        if len(together) >= live.file.record_count:
            outcome.removed.append(live.file)
            outcome.deletes_removed += own
            return
        # In version 3 a vector stands for all deletes of its file (specification, Deletion Vectors). Before,
        # delete files for several data files stay, and what they say need not be said again.
        if before is not None and len(own) < len(live.deletes) and table.metadata.format_version < NEWEST:
            mine = LiveFile(
                live.entry, tuple(e for e in live.deletes if only_target(e.data_file) is not None)
            )
            before = deleted_positions(table.io, mine)
            together = gone if before is None else _union(gone, before)
        deletes.add(live.file, together)
        outcome.deletes_removed += own


def write_kept(table: Table, index: KeyIndex, file: StagedFile, kept: int, writer: _Writer) -> None:
    """Write the rows of a staged file that go into the table: those of the index's open range."""
    if not kept:
        return
    for start, batch in file_batches(table, file.data_file, table.schema()):
        first = file.first + start
        rows = index.kept(first, first + batch.num_rows)
        writer.write(batch.take(pc.subtract(rows, first)))


def _union(one: pa.Array, other: pa.Array) -> pa.Array:
    both = pc.unique(pa.concat_arrays([one, other]))
    return both.take(pc.array_sort_indices(both))


def _only_for(files: Iterable[LiveFile]) -> list[DataFile]:
    """The delete files that have deletes for one of these data files and no other."""
    return [file for live in files for file in live.delete_files if only_target(file) is not None]
