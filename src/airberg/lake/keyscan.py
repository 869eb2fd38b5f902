"""Reading the keys of many data files on several threads, in bounded memory.

Only key and cursor columns are read. Decoding them is most of what a small merge into a large table costs,
waiting for an object store is most of the rest, and both let other threads work. A few files are divided by
row groups, so that one large file keeps all threads busy.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from airberg.lake.deletes import DeletedRows, deleted_positions, without
from airberg.lake.keyindex import KeyRows
from airberg.lake.live import LiveFile
from airberg.lake.scan import OpenDataFile

Found: TypeAlias = tuple[int, pa.Array, KeyRows]
"""File number, positions and keys of rows."""
Pick: TypeAlias = Callable[[int, pa.Array, pa.RecordBatch], Found | None]
"""Makes what is wanted of the live rows of a file; None when nothing is."""

_BATCH_ROWS = 131_072
_WAITING_BATCHES = 4
_UNITS_A_THREAD = 4


@dataclass(frozen=True, slots=True)
class _Unit:
    """What one thread reads at a time."""

    number: int
    live: LiveFile
    row_groups: range | None = None
    footer: pq.FileMetaData | None = None
    deleted: DeletedRows | None = None


def scan_keys(
    table: Table, files: Mapping[int, LiveFile], schema: Schema, pick: Pick, threads: int
) -> Iterator[Found]:
    """The rows of some data files that are not deleted, in any order.

    Args:
        table: The table.
        files: The files, by the numbers that they go by.
        schema: Top-level columns to read.
        pick: Called for each batch, on any thread.
        threads: How many read at once.

    Raises:
        ConfigurationFailed: A file is of a kind that cannot be read.
        OSError: The storage failed.
    """
    work = _divided(table, files, schema, threads) if len(files) < threads * _UNITS_A_THREAD else None
    units = iter(work if work is not None else (_Unit(number, live) for number, live in files.items()))
    if threads < 2 or not files:
        for unit in units:
            yield from _read(table, unit, schema, pick)
        return
    yield from _Pool(table, units, schema, pick, threads).results()


def _divided(table: Table, files: Mapping[int, LiveFile], schema: Schema, threads: int) -> list[_Unit]:
    units = []
    for number, live in files.items():
        with OpenDataFile(table, live.file, schema) as opened:
            footer = opened.footer
        deleted = DeletedRows(deleted_positions(table.io, live))
        groups = footer.num_row_groups
        step = max(1, -(-groups // (threads * _UNITS_A_THREAD)))
        units += [
            _Unit(number, live, range(first, min(first + step, groups)), footer, deleted)
            for first in range(0, groups, step)
        ]
    return units


def _read(table: Table, unit: _Unit, schema: Schema, pick: Pick) -> Iterator[Found]:
    deleted = unit.deleted or DeletedRows(deleted_positions(table.io, unit.live))
    with OpenDataFile(table, unit.live.file, schema, unit.footer) as opened:
        for start, batch in opened.batches(_BATCH_ROWS, unit.row_groups):
            positions, rows = without(batch, start, [deleted.between(start, start + batch.num_rows)])
            if len(positions) and (found := pick(unit.number, positions, rows)) is not None:
                yield found


class _Pool:
    """Threads that read units, and a queue of bounded length that their results go through."""

    def __init__(
        self, table: Table, units: Iterator[_Unit], schema: Schema, pick: Pick, threads: int
    ) -> None:
        self._units = units
        self._next = threading.Lock()
        self._stopped = threading.Event()
        self._results: queue.Queue[Found | BaseException | None] = queue.Queue(_WAITING_BATCHES)
        self._read: Callable[[_Unit], Iterable[Found]] = lambda unit: _read(table, unit, schema, pick)
        self._threads = [
            threading.Thread(target=self._work, name=f"key-scan-{i}", daemon=True) for i in range(threads)
        ]

    def results(self) -> Iterator[Found]:
        """All results; ends the threads, also when nobody wants any more of them."""
        for thread in self._threads:
            thread.start()
        running = len(self._threads)
        try:
            while running:
                result = self._results.get()
                if result is None:
                    running -= 1
                elif isinstance(result, BaseException):
                    raise result
                else:
                    yield result
        finally:
            self._stopped.set()
            for thread in self._threads:
                while thread.is_alive():
                    self._drain()
                    thread.join(0.01)

    def _drain(self) -> None:
        while True:
            try:
                self._results.get_nowait()
            except queue.Empty:
                return

    def _work(self) -> None:
        try:
            while (unit := self._take()) is not None:
                for found in self._read(unit):
                    if self._stopped.is_set():
                        return
                    self._results.put(found)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that reads the results
            self._results.put(error)
        else:
            self._results.put(None)

    def _take(self) -> _Unit | None:
        with self._next:
            return None if self._stopped.is_set() else next(self._units, None)
