"""Rows that are written but not committed, and the mark up to which the next state covers them.

Every row has a number: how many rows were staged before it. A staged file holds a range of numbers, so a
mark is one number, and a row is found without keeping an index of files. Where a table has partitions or a
sort order that cannot be; `airberg.lake.arranged` does the same for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from airberg.lake.files import DataFileWriter, FileSizes, delete_quietly
from airberg.lake.scan import file_batches
from airberg.lake.steps import Step, reached


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A closed data file that holds the rows `first` up to, not including, `end`.

    They are numbers of rows as they were staged or, for an arranged table, places in the files of a mark.
    """

    data_file: DataFile
    first: int

    @property
    def end(self) -> int:
        """Number of the first row behind this file."""
        return self.first + self.data_file.record_count


class Wholeness:
    """Remembers that writing failed: what the storage did not take is no longer staged.

    The state that covers it must never be committed.
    """

    def __init__(self) -> None:
        self._lost = False

    @contextmanager
    def or_never(self) -> Iterator[None]:
        """Something that leaves rows behind when it fails; then it and everything like it is refused.

        Raises:
            OSError: It failed before.
        """
        if self._lost:
            raise OSError("rows could not be written before")
        try:
            yield
        except BaseException as error:
            # Rows that do not fit the table are refused before any is taken; Arrow's own errors come later.
            self._lost = not isinstance(error, TypeError) or isinstance(error, pa.ArrowException)
            raise


class RowWriter(Protocol):
    """Writes staged rows into files."""

    @property
    def waiting_bytes(self) -> int:
        """Memory of rows that are in no file yet."""
        ...

    def relieve(self) -> None:
        """Write rows that wait in memory, before there are enough of them."""
        ...


class NumberedRows(ABC):
    """What the stagings have in common: rows are numbered as they arrive, and the mark is such a number.

    Args:
        table: The table; its schema as of now is the one that rows are written in.
    """

    _writer: RowWriter

    def __init__(self, table: Table) -> None:
        self._table = table
        self._schema = table.schema()
        self._first = 0
        self._end = 0
        self._marked = 0
        self._whole = Wholeness()

    @property
    def schema(self) -> Schema:
        """The schema that rows are written in."""
        return self._schema

    @property
    def end(self) -> int:
        """Number of the next row to come."""
        return self._end

    @property
    def marked(self) -> int:
        """Number of the first row that the next state does not cover."""
        return self._marked

    @property
    def rows(self) -> int:
        """Rows staged and not yet committed."""
        return self._end - self._first

    def write(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Stage rows; returns them as stored, with all columns of the table in its order.

        Raises:
            TypeError: A column does not fit the table.
        """
        with self._whole.or_never():
            stored = self._take(batch)
        self._end += stored.num_rows
        reached(Step.ROWS_STAGED, self._table.name())
        return stored

    @property
    def waiting_bytes(self) -> int:
        """Memory of rows that are in no file yet."""
        return self._writer.waiting_bytes

    def relieve(self) -> None:
        """Write rows that wait in memory, before there are enough of them."""
        with self._whole.or_never():
            self._writer.relieve()

    def mark(self, until: int | None = None) -> None:
        """The next state covers the rows before number `until`; without it, all that are staged.

        Raises:
            ValueError: The number is not between the last mark and the rows staged.
        """
        wanted = self._end if until is None else until
        if not self._marked <= wanted <= self._end:
            raise ValueError(f"a mark at row {wanted}, outside of {self._marked} to {self._end}")
        self._marked = wanted

    @abstractmethod
    def _take(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Hand rows to the writer; returns them as stored."""

    def _begin_anew(self) -> None:
        """Nothing is staged any more."""
        self._first = self._marked = self._end
        self._whole = Wholeness()


class Staging(NumberedRows):
    """Data files on their way into a table.

    Args:
        table: The table; its schema as of now is the one that rows are written in.
        sizes: When to end row groups and files.
    """

    _writer: DataFileWriter

    def __init__(self, table: Table, sizes: FileSizes | None = None) -> None:
        super().__init__(table)
        self._sizes = sizes
        self._files: list[StagedFile] = []
        self._writer = DataFileWriter(table, sizes)
        self._taken = 0

    @property
    def bytes(self) -> int:
        """Size of what is staged: file bytes, and Arrow bytes of rows that wait for their row group."""
        closed = sum(file.data_file.file_size_in_bytes for file in self._files)
        waiting = sum(f.file_size_in_bytes for f in self._writer.files[: self._taken])
        return closed + self._writer.bytes - waiting

    def _take(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return self._writer.write(batch)

    def marked_files(self) -> list[StagedFile]:
        """Files with exactly the rows up to the mark; a file that the mark falls into is split in two."""
        reached(Step.FILES_CLOSING, self._table.name())
        with self._whole.or_never():
            self._close_open_file()
        for index, file in enumerate(self._files):
            if file.first < self._marked < file.end:
                self._files[index : index + 1] = self._split(file, self._marked - file.first)
                break
        reached(Step.FILES_CLOSED, self._table.name())
        return [file for file in self._files if file.end <= self._marked]

    def forget_marked(self) -> list[StagedFile]:
        """Let go of the files up to the mark, which are committed or replaced; they are returned."""
        gone = [file for file in self._files if file.end <= self._marked]
        self._files = [file for file in self._files if file.end > self._marked]
        self._first = self._marked
        return gone

    def discard(self) -> None:
        """Delete everything that is staged, as far as the storage lets us."""
        for file in self._files:
            delete_quietly(self._table.io, file.data_file.file_path)
        self._writer.files = self._writer.files[self._taken :]
        self._writer.abandon()
        self._files = []
        self._taken = 0
        self._writer = DataFileWriter(self._table, self._sizes)
        self._begin_anew()

    def _close_open_file(self) -> None:
        self._writer.roll()
        first = self._files[-1].end if self._files else self._first
        for data_file in self._writer.files[self._taken :]:
            self._files.append(StagedFile(data_file, first))
            first += data_file.record_count
        self._taken = len(self._writer.files)

    def _split(self, file: StagedFile, rows: int) -> list[StagedFile]:
        """Write the first `rows` rows of a file and the others into files of their own."""
        head = DataFileWriter(self._table, self._sizes)
        tail = DataFileWriter(self._table, self._sizes)
        try:
            for start, batch in file_batches(self._table, file.data_file, self._table.schema()):
                cut = max(0, min(rows - start, batch.num_rows))
                head.write(batch.slice(0, cut))
                tail.write(batch.slice(cut))
            parts = [*head.close(), *tail.close()]
        except BaseException:
            head.abandon()
            tail.abandon()
            raise
        delete_quietly(self._table.io, file.data_file.file_path)
        result, first = [], file.first
        for data_file in parts:
            result.append(StagedFile(data_file, first))
            first += data_file.record_count
        return result
