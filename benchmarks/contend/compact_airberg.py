"""Airberg's compaction of the table that a merge has left.

    python -m benchmarks.contend.compact_airberg TASK.json

A single merge seldom reaches the thresholds of upkeep; here every data file with a deleted row is written
anew, and small files are written together.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa

from airberg.lake.upkeep.compact import compact
from airberg.lake.upkeep.policy import Policy
from benchmarks.merging.repeat import files_in, forget_peak, peak_mb, timed, written
from benchmarks.merging.rows import THREADS
from benchmarks.merging.table import NAMESPACE, path_of, sqlite_catalog


def main() -> None:
    """Compact once."""
    task = json.loads(Path(sys.argv[1]).read_text())
    pa.set_cpu_count(THREADS)
    out = Path(task["out"])
    catalog = sqlite_catalog(out, out / "warehouse")
    name = (NAMESPACE, "compacted")
    table = catalog.register_table(name, task["metadata"])
    folder = Path(path_of(table.location()))
    before, snapshots = files_in(folder), len(table.metadata.snapshots)
    policy = Policy(delete_fraction=0.0, min_input_files=2)
    forget_peak()
    run = timed(lambda: compact(catalog, table, policy, spill_dir=out / "spill"))
    peak = peak_mb()
    table = catalog.load_table(name)
    run |= written(files_in(folder) - before) | {"snapshots": len(table.metadata.snapshots) - snapshots}
    print("\n" + json.dumps({"run": run, "peak_mb": peak, "metadata": table.metadata_location}))


if __name__ == "__main__":
    main()
