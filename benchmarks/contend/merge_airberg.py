"""Airberg's merge: its real writer, from opening it to having it cleaned up, in a run that is under way.

What a run opens once for all its merges, the memory for keys, is open as the catalog is.

python -m benchmarks.contend.merge_airberg TASK.json
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from pyiceberg.table import Table

from airberg.lake.keymemory import KeyMemory
from airberg.lake.note import Note
from airberg.lake.writers import MergeKey, WriterSettings, open_writer
from benchmarks.merging.program import main
from benchmarks.merging.rows import THREADS
from benchmarks.merging.table import SeededTable


def merge(
    memory: KeyMemory, seeded: SeededTable, table: Table, arriving: list[pa.RecordBatch], task: dict[str, Any]
) -> None:
    """One checkpoint."""
    key = MergeKey(tuple((name,) for name in task["key"]), delete_format=task["delete_format"])
    writer = open_writer(
        "merge",
        seeded.catalog,
        table,
        job_id="bench",
        started_from=None,
        settings=WriterSettings(key_memory=memory, threads=THREADS),
        key=key,
    )
    for batch in arriving:
        writer.write(batch)
    writer.finish(Note(run_id="bench", attempt=1, number=1))
    writer.discard()


if __name__ == "__main__":
    with TemporaryDirectory() as folder, KeyMemory(Path(folder), threads=THREADS) as memory:
        main(partial(merge, memory), {})
