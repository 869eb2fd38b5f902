"""Sorting more rows than memory holds, as a table wants them: by partition, then by its sort order.

Sorted runs go to a temporary folder as Arrow files and are merged block by block, so that rows keep their
exact types. At most `FAN` runs of a level are kept: then they become one run of the next level. Memory is
`run_bytes` twice over while a run is sorted, and a block of each run while runs are merged.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from airberg.lake.arrange import Arrangement

RUN_BYTES = 32 * 1024 * 1024
BLOCK_BYTES = 512 * 1024
FAN = 48


class RowSorter:
    """Takes rows in any order and gives them back sorted.

    Args:
        arrangement: How the table wants its rows.
        folder: Empty folder for the runs; who made it removes it.
        run_bytes: Arrow bytes that are sorted in memory.
        block_bytes: Arrow bytes that are read at once from each run.
        fan: Runs that are merged at once.
    """

    def __init__(
        self,
        arrangement: Arrangement,
        folder: Path,
        run_bytes: int = RUN_BYTES,
        block_bytes: int = BLOCK_BYTES,
        fan: int = FAN,
    ) -> None:
        self._arrangement = arrangement
        self._folder = folder
        self._run_bytes = run_bytes
        self._block_bytes = block_bytes
        self._fan = fan
        self._names = itertools.count()
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0
        self._levels: list[list[Path]] = [[]]

    def add(self, rows: pa.RecordBatch) -> None:
        """Take rows; all have one schema."""
        if not rows.num_rows:
            return
        self._waiting.append(rows)
        self._waiting_bytes += rows.nbytes
        if self._waiting_bytes >= self._run_bytes:
            self._keep(self._write(self._blocks(self._sorted())), 0)

    def sorted_batches(self) -> Iterator[pa.RecordBatch]:
        """All rows, once; nothing can be added afterwards."""
        last = self._sorted()
        if not any(self._levels):
            if last is not None:
                yield last
            return
        # Older runs are those of higher levels; equal rows stay in about the order of their arrival.
        runs = [_read(path) for level in reversed(self._levels) for path in level]
        if last is not None:
            runs.append(self._blocks(last))
        yield from merged(runs, self._arrangement)

    def _sorted(self) -> pa.RecordBatch | None:
        if not self._waiting:
            return None
        rows = pa.concat_batches(self._waiting)
        self._waiting, self._waiting_bytes = [], 0
        order, _ = self._arrangement.arrange(rows)
        return rows if order is None else rows.take(order)

    def _blocks(self, rows: pa.RecordBatch | None) -> Iterator[pa.RecordBatch]:
        if rows is None:
            return
        block_rows = max(1, rows.num_rows * self._block_bytes // max(1, rows.nbytes))
        for start in range(0, rows.num_rows, block_rows):
            yield rows.slice(start, block_rows)

    def _write(self, blocks: Iterable[pa.RecordBatch]) -> Path:
        path = self._folder / f"{next(self._names):06}.arrow"
        blocks = iter(blocks)
        first = next(blocks)
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with (
            pa.OSFile(str(path), "wb") as sink,
            pa.ipc.new_stream(sink, first.schema, options=options) as out,
        ):
            for block in itertools.chain([first], blocks):
                out.write_batch(block)
        return path

    def _keep(self, run: Path, level: int) -> None:
        if level == len(self._levels):
            self._levels.append([])
        runs = self._levels[level]
        runs.append(run)
        if len(runs) >= self._fan:
            together = merged([_read(path) for path in runs], self._arrangement)
            larger = self._write(small for rows in together for small in self._blocks(rows))
            for path in runs:
                path.unlink()
            self._levels[level] = []
            self._keep(larger, level + 1)


def _read(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(path), "rb") as source, pa.ipc.open_stream(source) as reader:
        yield from reader


@dataclass(slots=True)
class _Run:
    """A sorted run, with the block that is being used and what its rows are sorted by."""

    blocks: Iterator[pa.RecordBatch]
    rows: pa.RecordBatch
    keys: pa.Table

    def skip(self, count: int) -> None:
        self.rows, self.keys = self.rows.slice(count), self.keys.slice(count)


def merged(runs: Iterable[Iterator[pa.RecordBatch]], arrangement: Arrangement) -> Iterator[pa.RecordBatch]:
    """The rows of sorted runs, sorted.

    In each round the block that ends first says up to where rows can be given out; only blocks that begin
    before that are looked at.
    """
    how = arrangement.sort_keys
    open_ = [run for blocks in runs if (run := _next(blocks, arrangement)) is not None]
    while len(open_) > 1:
        lasts = pa.concat_tables([run.keys.slice(run.keys.num_rows - 1) for run in open_])
        bound = lasts.slice(pc.sort_indices(lasts, sort_keys=how)[0].as_py(), 1)
        firsts = [run.keys.slice(0, 1) for run in open_]
        taking = [open_[i] for i in sorted(_up_to(firsts, bound, how).to_pylist())]
        order = _up_to([run.keys for run in taking], bound, how)
        of = pa.concat_arrays(
            [pa.repeat(pa.scalar(i, pa.int32()), run.rows.num_rows) for i, run in enumerate(taking)]
        )
        yield pa.concat_batches([run.rows for run in taking]).take(order)
        for counted in pc.value_counts(of.take(order)).to_pylist():
            taking[counted["values"]].skip(counted["counts"])
        open_ = [
            left
            for run in open_
            if (left := run if run.rows.num_rows else _next(run.blocks, arrangement)) is not None
        ]
    for run in open_:
        yield run.rows
        yield from run.blocks


def _next(blocks: Iterator[pa.RecordBatch], arrangement: Arrangement) -> _Run | None:
    for rows in blocks:
        if rows.num_rows:
            return _Run(blocks, rows, arrangement.keys(rows))
    return None


def _up_to(parts: list[pa.Table], bound: pa.Table, how: list[tuple[str, str, str]]) -> pa.Array:
    """Indexes, in order, of the rows that are not behind `bound`; `parts` are counted through."""
    rows = sum(part.num_rows for part in parts)
    keys = pa.concat_tables([*parts, bound])
    # The bound itself comes behind the rows that equal it.
    behind = pa.concat_arrays([pa.repeat(pa.scalar(False), rows), pa.array([True])])
    order = pc.sort_indices(
        keys.append_column("bound", behind), sort_keys=[*how, ("bound", "ascending", "at_end")]
    )
    return order.slice(0, pc.index(order, rows).as_py())
