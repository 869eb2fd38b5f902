"""What every merging program does around its merge: repeat it, take its time, look at what it wrote.

Only the standard library is used here: a contender in an environment of its own imports this, too.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

Table = TypeVar("Table")

SLOW_S = 2.0
"""A merge that takes longer is no warm-up: it counts, and once more is enough."""
ONCE_S = 15.0
"""A merge that takes longer is not repeated at all."""


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Wall and CPU seconds; the CPU's are of all threads and of children that have ended."""
    wall, cpu = time.perf_counter(), _cpu_s()
    work()
    return {"seconds": round(time.perf_counter() - wall, 4), "cpu_s": round(_cpu_s() - cpu, 4)}


def _cpu_s() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def repeated(
    fresh: Callable[[], Table],
    merge: Callable[[Table], None],
    look: Callable[[], dict[str, int]],
    rounds: int,
) -> list[dict[str, Any]]:
    """Merge up to `rounds` times behind a warm-up; a slow merge less often, and its first time counts.

    Args:
        fresh: The table as it was before any merge; takes no part in the time.
        merge: One merge.
        look: What it wrote.
        rounds: Measured merges.
    """

    def once() -> dict[str, Any]:
        table = fresh()
        return timed(lambda: merge(table)) | look()

    first = once()
    runs = [] if first["seconds"] < SLOW_S else [first]
    wanted = rounds if not runs else min(rounds, 1 if first["seconds"] > ONCE_S else 2)
    while len(runs) < wanted:
        runs.append(once())
    return runs


def forget_peak() -> float:
    """Let the high-water mark of this process begin anew, in MB: what is resident now (Linux)."""
    # Where the kernel does not let it, the mark is that of all that the process ever did.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_mb()


def peak_mb() -> float:
    """The high-water mark of this process: resident pages, those of shared libraries among them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(round(int(line.split()[1]) / 1024, 1) for line in lines if line.startswith("VmHWM:"))


def files_in(folder: Path) -> set[Path]:
    """All files of a folder and those in it."""
    return {path for path in folder.rglob("*") if path.is_file()}


def written(added: Iterable[Path]) -> dict[str, int]:
    """Bytes of all new files of a table, and how many of them hold rows, and deletes."""
    sizes = {path: path.stat().st_size for path in added}
    deletes = [path for path in sizes if path.name.endswith(("-deletes.parquet", "-deletes.puffin"))]
    data = [path for path in sizes if path.suffix == ".parquet" and path not in deletes]
    return {
        "bytes_written": sum(sizes.values()),
        "data_bytes": sum(sizes[path] for path in data),
        "delete_bytes": sum(sizes[path] for path in deletes),
        "data_files": len(data),
        "delete_files": len(deletes),
    }
