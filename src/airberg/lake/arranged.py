"""Rows that are written but not committed, of a table with partitions or a sort order.

The rows of a file are not a range of those that arrived, and a mark may fall between any two rows. So the
numbers of each file's rows are kept beside it (`airberg.lake.rownumbers`), and at a commit:

- rows that still wait are divided by the mark before they are written;
- a file whose rows are all before the mark is committed, one whose rows are all behind it stays staged;
- any other file is split, which leaves each half in its partition and in its order;
- the rows of the files to be committed get *places*, which are ranges again: that is what a merge needs to
  find a row in its file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table

from airberg.lake.arrange import Arrangement
from airberg.lake.fanout import ArrangedFile, ArrangedFileWriter
from airberg.lake.files import FileSizes, delete_quietly
from airberg.lake.rownumbers import RowNumbers
from airberg.lake.scan import file_batches
from airberg.lake.staging import NumberedRows, StagedFile, Staging
from airberg.lake.steps import Step, reached


class ArrangedStaging(NumberedRows):
    """Data files on their way into a table that divides or sorts its rows; see `Staging`.

    Args:
        table: The table; its schema, partitions and order as of now are the ones that rows are written in.
        arrangement: How it wants its rows.
        sizes: Bounds of files and memory.
        spill_dir: Folder for the temporary file of row numbers; None for the system's.
    """

    _writer: ArrangedFileWriter

    def __init__(
        self,
        table: Table,
        arrangement: Arrangement,
        sizes: FileSizes | None = None,
        spill_dir: Path | None = None,
    ) -> None:
        super().__init__(table)
        self._arrangement = arrangement
        self._sizes = sizes
        self._spill_dir = spill_dir
        self._numbers = RowNumbers(spill_dir)
        self._writer = self._new_writer()
        self._files: list[ArrangedFile] = []
        self._closed_bytes = 0

    @property
    def bytes(self) -> int:
        """Size of what is staged: file bytes, and Arrow bytes of rows that wait."""
        writer = self._writer
        return self._closed_bytes + writer.closed_bytes + writer.open_bytes + writer.waiting_bytes

    def _take(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return self._writer.write(batch, pa.arange(self._end, self._end + batch.num_rows))

    def marked_files(self) -> list[StagedFile]:
        """Files with exactly the rows up to the mark, their rows numbered by place."""
        reached(Step.FILES_CLOSING, self._table.name())
        with self._whole.or_never():
            self._writer.roll(None if self._marked == self._end else self._marked)
        self._take_closed()
        for file in [file for file in self._files if file.low < self._marked <= file.high]:
            parts = self._split(file)
            self._files.remove(file)
            self._files += parts
            self._closed_bytes = sum(file.data_file.file_size_in_bytes for file in self._files)
        reached(Step.FILES_CLOSED, self._table.name())
        return self._covered()

    def placement(self) -> Iterator[tuple[int, pa.Array]]:
        """The numbers of the rows of `marked_files`, each with the place of its first row."""
        for staged, file in zip(self._covered(), self._before_mark(), strict=True):
            place = staged.first
            for numbers in self._numbers.read_all(file.numbers):
                yield place, numbers
                place += len(numbers)

    def forget_marked(self) -> list[StagedFile]:
        """Let go of the files up to the mark, which are committed or replaced; they are returned."""
        gone = self._covered()
        kept, old = RowNumbers(self._spill_dir), self._numbers
        files = []
        for file in self._files:
            if file.high >= self._marked:
                moved = tuple(kept.add(numbers) for numbers in old.read_all(file.numbers))
                files.append(ArrangedFile(file.data_file, moved, file.low, file.high))
        old.close()
        self._numbers = self._writer.numbers = kept
        self._files = files
        self._closed_bytes = sum(file.data_file.file_size_in_bytes for file in files)
        self._first = self._marked
        return gone

    def discard(self) -> None:
        """Delete everything that is staged, as far as the storage lets us."""
        for file in self._files:
            delete_quietly(self._table.io, file.data_file.file_path)
        self._writer.abandon()
        self._files = []
        self._closed_bytes = 0
        self._numbers.close()
        self._writer = self._new_writer()
        self._begin_anew()

    def _new_writer(self) -> ArrangedFileWriter:
        return ArrangedFileWriter(self._table, self._arrangement, self._sizes, self._numbers)

    def _take_closed(self) -> None:
        self._files += self._writer.closed
        self._closed_bytes += self._writer.closed_bytes
        self._writer.closed, self._writer.closed_bytes = [], 0

    def _before_mark(self) -> list[ArrangedFile]:
        return [file for file in self._files if file.high < self._marked]

    def _covered(self) -> list[StagedFile]:
        covered, place = [], 0
        for file in self._before_mark():
            covered.append(StagedFile(file.data_file, place))
            place += file.data_file.record_count
        return covered

    def _split(self, file: ArrangedFile) -> list[ArrangedFile]:
        """Write the rows before the mark, and those behind it, into files of their own."""
        head, tail = self._new_writer(), self._new_writer()
        try:
            known = _Numbered(self._numbers.read_all(file.numbers))
            for _, batch in file_batches(self._table, file.data_file, self._schema):
                numbers = known.next(batch.num_rows)
                before = pc.less(numbers, self._marked)
                after = pc.invert(before)
                head.write(batch.filter(before), numbers.filter(before))
                tail.write(batch.filter(after), numbers.filter(after))
            head.close()
            tail.close()
        except BaseException:
            head.abandon()
            tail.abandon()
            raise
        delete_quietly(self._table.io, file.data_file.file_path)
        return [*head.closed, *tail.closed]


class _Numbered:
    """Numbers that are kept in parts of one length and asked for in another."""

    def __init__(self, parts: Iterator[pa.Array]) -> None:
        self._parts = parts
        self._left = pa.array([], pa.int64())

    def next(self, count: int) -> pa.Array:
        """The next `count` numbers."""
        while len(self._left) < count:
            self._left = pa.concat_arrays([self._left, next(self._parts)])
        taken, self._left = self._left.slice(0, count), self._left.slice(count)
        return taken


def open_staging(
    table: Table, sizes: FileSizes | None = None, spill_dir: Path | None = None
) -> Staging | ArrangedStaging:
    """The staging that a table needs: a plain one costs nothing for partitions or order.

    Raises:
        ConfigurationFailed: The table is partitioned in a way that cannot be written.
    """
    arrangement = Arrangement(table)
    if arrangement.plain:
        return Staging(table, sizes)
    return ArrangedStaging(table, arrangement, sizes, spill_dir)
