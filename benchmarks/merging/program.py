"""A merging program: told what to do by a file, it prints what it measured last, as one line of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.table import Table

from benchmarks.merging.repeat import forget_peak, peak_mb, repeated
from benchmarks.merging.rows import THREADS
from benchmarks.merging.table import SeededTable

Merge = Callable[[SeededTable, Table, list[pa.RecordBatch], dict[str, Any]], None]
"""Merges batches into a table of a catalog; the last argument is the task."""


def main(merge: Merge, versions: dict[str, str]) -> None:
    """Repeat a merge as the task asks.

    Args:
        merge: One merge.
        versions: Of the libraries that it uses.
    """
    task = json.loads(Path(sys.argv[1]).read_text())
    pa.set_cpu_count(THREADS)
    seeded = SeededTable(task["seed"], Path(task["out"]))
    arriving = read_changes(Path(task["changes"]))
    idle = forget_peak()
    runs = repeated(
        seeded.fresh, lambda table: merge(seeded, table, arriving, task), seeded.written, task["rounds"]
    )
    said = {
        "runs": runs,
        "idle_mb": idle,
        "peak_mb": peak_mb(),
        "metadata": seeded.metadata_location,
        "versions": versions,
    }
    print("\n" + json.dumps(said))


def read_changes(path: Path) -> list[pa.RecordBatch]:
    """The rows to merge, in memory."""
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
        return [reader.get_batch(number) for number in range(reader.num_record_batches)]
