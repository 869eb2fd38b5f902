"""Whether a sync's memory depends on how much it reads: `results/memory.json`.

    python -m benchmarks.memory [--quick]

One block of the recorded shape is replayed until there are a million, then twenty million rows. What counts
is the high-water mark of the sync process (`VmHWM`: resident pages, those of shared libraries among them),
without the connector.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from typing import Any

from benchmarks.deployment import Deployment
from benchmarks.recording import WORK, recording_of
from benchmarks.report import Target, arguments, ratio, say, write
from benchmarks.shape_recorded import RECORDED

ROWS = (1_000_000, 20_000_000)
QUICK_ROWS = (20_000, 200_000)
QUICK_BLOCK = 10_000
MB = 400.0


def label(rows: int) -> str:
    """A short name of a number of rows."""
    return f"{rows // 1_000_000}m" if rows >= 1_000_000 else f"{rows // 1_000}k"


def measure(rows: int, quick: bool) -> dict[str, Any]:
    """Load at least `rows` rows; what it took."""
    recording = recording_of(RECORDED, QUICK_BLOCK if quick else None).times(rows)
    home = WORK / f"memory-{label(rows)}"
    try:
        done = Deployment(home).replay(recording, "bench")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    written = sum(s.rows_written for s in done.run.report.streams)
    figures = {
        "rows": recording.total_rows,
        "bytes": recording.total_bytes,
        "rows_equal": written == recording.total_rows,
        "peak_mb": done.measured.peak_process_mb,
        "peak_tree_mb": done.measured.peak_tree_mb,
        "seconds": round(done.engine_s, 1),
        "rows_per_s": round(recording.total_rows / done.engine_s),
        "checkpoints": sum(s.checkpoints for s in done.run.report.streams),
    }
    say(f"{figures['rows']:,} rows: peak {figures['peak_mb']} MB, {figures['rows_per_s']:,} rows/s")
    return figures


def run(options: argparse.Namespace) -> int:
    """Measure both; returns the exit code."""
    begun = time.monotonic()
    small, large = options.rows or (QUICK_ROWS if options.quick else ROWS)
    runs = {label(rows): measure(rows, options.quick) for rows in (small, large)}
    first, last = (runs[label(rows)] for rows in (small, large))
    low, high = f"peak_mb_{label(small)}", f"peak_mb_{label(large)}"
    flat = f"peak_{label(large)}_over_{label(small)}"
    write(
        "memory",
        options,
        ratios={low: first["peak_mb"], high: last["peak_mb"], flat: ratio(last["peak_mb"], first["peak_mb"])},
        targets={low: Target(high=MB), high: Target(high=MB), flat: Target(low=0.9, high=1.1)},
        found_versions={},
        figures={"seconds": round(time.monotonic() - begun, 1), "runs": runs},
    )
    equal = all(r["rows_equal"] for r in runs.values())
    if not equal:
        say("NOT EQUAL: the tables do not have the rows that were replayed")
    return 0 if equal else 1


def main() -> int:
    """Read the arguments and measure."""
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, nargs=2, metavar=("FEW", "MANY"), help="other numbers of rows")
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
