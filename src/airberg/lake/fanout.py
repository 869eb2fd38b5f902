"""Writing into many partitions at once, in bounded memory and with a bounded number of open files.

Rows wait as they arrive until `FileSizes.arrange_bytes` of them are there. Then all of them are sorted at
once, by partition and within it by the table's sort order, and the partitions with most rows are written as
row groups, until half of the rows are left; those go on waiting, so that a partition with few rows does not
get a small file each time. A partition's file stays open for its next rows; when more than
`FileSizes.open_files` would be open, the one that was written to longest ago is closed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from airberg.lake.arrange import Arrangement, Part
from airberg.lake.files import DataFileWriter, FileSizes, OpenFile, ParquetFiles
from airberg.lake.rownumbers import Numbers, RowNumbers


@dataclass(frozen=True, slots=True)
class ArrangedFile:
    """A closed data file, with the numbers of its rows where they are kept.

    Attributes:
        numbers: Of its rows, in the order of the file; empty where numbers are not kept.
        low: The smallest of them.
        high: The largest of them.
    """

    data_file: DataFile
    numbers: tuple[Numbers, ...] = ()
    low: int = 0
    high: int = 0


@dataclass(slots=True)
class _Open:
    """The open file of a partition."""

    record: Record
    file: OpenFile
    last: pa.RecordBatch | None = None
    ordered: bool = True
    numbers: list[Numbers] = field(default_factory=list)
    low: int = 0
    high: int = -1


class ArrangedFileWriter:
    """Writes rows into data files of a table that has partitions, a sort order or both.

    Attributes:
        closed: Files that are closed; who takes them away sets `closed_bytes`, their size, to 0.

    Args:
        table: The table, as it is now.
        arrangement: How it wants its rows.
        sizes: Bounds of memory, open files, row groups and files.
        numbers: Keeps the numbers of rows that come with some.
    """

    def __init__(
        self,
        table: Table,
        arrangement: Arrangement,
        sizes: FileSizes | None = None,
        numbers: RowNumbers | None = None,
    ) -> None:
        self.closed: list[ArrangedFile] = []
        self.closed_bytes = 0
        self.numbers = numbers
        self._parquet = ParquetFiles(table)
        self._arrangement = arrangement
        self._sizes = sizes or FileSizes()
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_numbers: list[pa.Array] = []
        self._waiting_bytes = 0
        self._open: OrderedDict[Hashable, _Open] = OrderedDict()

    @property
    def files(self) -> list[DataFile]:
        """The files closed so far."""
        return [closed.data_file for closed in self.closed]

    @property
    def open_count(self) -> int:
        """Number of files that are open."""
        return len(self._open)

    @property
    def open_bytes(self) -> int:
        """Bytes in files that are open."""
        return sum(part.file.size for part in self._open.values())

    @property
    def waiting_bytes(self) -> int:
        """Arrow bytes of rows that wait."""
        return self._waiting_bytes

    def write(self, batch: pa.RecordBatch, numbers: pa.Array | None = None) -> pa.RecordBatch:
        """Take rows: any subset of the table's columns, in any order; returns them as they are stored.

        Args:
            batch: The rows.
            numbers: Their numbers, where numbers are kept.

        Raises:
            TypeError: A column does not fit the table.
            OSError: The storage failed.
        """
        stored = self._parquet.project(batch)
        if stored.num_rows:
            self._waiting.append(stored)
            self._waiting_bytes += stored.nbytes
            if numbers is not None:
                self._waiting_numbers.append(numbers)
            if self._waiting_bytes >= self._sizes.arrange_bytes:
                self._arrange(everything=False)
        return stored

    def relieve(self) -> None:
        """Write half of the rows that wait, those of the largest partitions."""
        if self._waiting:
            self._arrange(everything=False)

    def roll(self, until: int | None = None) -> None:
        """Write the rows that wait, and close all files.

        Args:
            until: Only rows with smaller numbers are written; the others go on waiting.
        """
        later: tuple[pa.RecordBatch, pa.Array] | None = None
        if until is not None and self._waiting:
            later = self._set_aside(until)
        self._arrange(everything=True)
        while self._open:
            self._close(next(iter(self._open)))
        if later is not None:
            self._wait(*later)
        pa.default_memory_pool().release_unused()

    def close(self) -> tuple[DataFile, ...]:
        """Write the rows that wait, close all files and return them."""
        self.roll()
        return tuple(self.files)

    def abandon(self) -> None:
        """Stop, and delete every file written, as far as the storage lets us."""
        self._wait(None, None)
        for part in self._open.values():
            self._parquet.drop(part.file)
        self._open.clear()
        for closed in self.closed:
            self._parquet.delete(closed.data_file)
        self.closed = []

    # ---- rows that wait ----------------------------------------------------------------------------------

    def _take_waiting(self) -> tuple[pa.RecordBatch, pa.Array | None]:
        rows = pa.concat_batches(self._waiting)
        numbers = pa.concat_arrays(self._waiting_numbers) if self._waiting_numbers else None
        self._wait(None, None)
        return rows, numbers

    def _wait(self, rows: pa.RecordBatch | None, numbers: pa.Array | None) -> None:
        """Let just these rows wait."""
        self._waiting = [] if rows is None or not rows.num_rows else [rows]
        self._waiting_numbers = [] if numbers is None or not len(numbers) else [numbers]
        self._waiting_bytes = self._waiting[0].nbytes if self._waiting else 0

    def _set_aside(self, until: int) -> tuple[pa.RecordBatch, pa.Array]:
        """Take the rows from number `until` on out of those that wait."""
        rows, numbers = self._take_waiting()
        if numbers is None:
            raise ValueError("rows without numbers cannot be told apart")
        early = pc.less(numbers, until)
        self._wait(rows.filter(early), numbers.filter(early))
        late = pc.invert(early)
        return rows.filter(late), numbers.filter(late)

    # ---- arranging and writing ---------------------------------------------------------------------------

    def _arrange(self, *, everything: bool) -> None:
        if not self._waiting:
            return
        rows, numbers = self._take_waiting()
        order, parts = self._arrangement.arrange(rows)
        if order is not None:
            rows = rows.take(order)
            numbers = None if numbers is None else numbers.take(order)
        parts.sort(key=lambda part: part.rows, reverse=True)
        left = rows.num_rows
        for index, part in enumerate(parts):
            if not everything and left * 2 <= rows.num_rows:
                self._keep(rows, numbers, parts[index:])
                return
            self._write_part(rows.slice(part.first, part.rows), numbers, part)
            left -= part.rows
            if everything:
                self._close(part.key)

    def _keep(self, rows: pa.RecordBatch, numbers: pa.Array | None, parts: list[Part]) -> None:
        """Let the rows of these parts wait on; copied, for a slice would keep the memory of all."""
        ranges = [pa.arange(part.first, part.first + part.rows) for part in parts]
        kept = pa.concat_arrays(ranges)
        self._wait(rows.take(kept), None if numbers is None else numbers.take(kept))

    def _write_part(self, rows: pa.RecordBatch, numbers: pa.Array | None, part: Part) -> None:
        open_ = self._file_of(rows, part)
        open_.file.write(pa.Table.from_batches([rows]), rows.nbytes, self._sizes)
        if self._arrangement.order_id is not None:
            open_.last = rows.take(pa.array([rows.num_rows - 1]))  # a copy: a slice would keep all rows
        if numbers is not None and self.numbers is not None:
            mine = numbers.slice(part.first, part.rows)
            bounds = pc.min_max(mine).as_py()
            first = not open_.numbers
            open_.low = bounds["min"] if first else min(open_.low, bounds["min"])
            open_.high = max(open_.high, bounds["max"])
            open_.numbers.append(self.numbers.add(mine))
        if open_.file.size >= self._sizes.target_file_bytes:
            self._close(part.key)

    def _file_of(self, rows: pa.RecordBatch, part: Part) -> _Open:
        """The open file of a partition; checks whether the rows continue its order."""
        open_ = self._open.get(part.key)
        if open_ is not None:
            self._open.move_to_end(part.key)
            if open_.ordered and open_.last is not None:
                border = pa.concat_batches([open_.last, rows.slice(0, 1)])
                open_.ordered = self._arrangement.in_order(border)
            return open_
        while len(self._open) >= self._sizes.open_files:
            self._close(next(iter(self._open)))
        open_ = _Open(part.record, self._parquet.start(pa.Table.from_batches([rows])))
        self._open[part.key] = open_
        return open_

    def _close(self, key: Hashable) -> None:
        open_ = self._open.pop(key, None)
        if open_ is None:
            return
        order_id = self._arrangement.order_id if open_.ordered else None
        data_file = self._parquet.end(open_.file, open_.record, order_id)
        self.closed_bytes += data_file.file_size_in_bytes
        self.closed.append(ArrangedFile(data_file, tuple(open_.numbers), open_.low, open_.high))


def open_file_writer(table: Table, sizes: FileSizes | None = None) -> DataFileWriter | ArrangedFileWriter:
    """The writer that a table needs, for rows whose numbers do not matter.

    Raises:
        ConfigurationFailed: The table is partitioned in a way that cannot be written.
    """
    arrangement = Arrangement(table)
    if arrangement.plain:
        return DataFileWriter(table, sizes)
    return ArrangedFileWriter(table, arrangement, sizes)
