"""Runs one contender as a child process and measures all of its process tree (Linux).

Wall and CPU seconds come from the kernel (`wait4`: children that were waited for are part of it). Memory is
sampled five times a second, more often at first: the sum of the proportional set sizes (PSS) of all processes
of the tree, so that pages which two of them share count once; and the high-water mark of the first process
(`VmHWM`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SAMPLE_EVERY_S = 0.2
SAMPLE_CLOSELY_S = 0.02
CLOSELY_FOR_S = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Measured:
    """What a process tree took.

    Attributes:
        started: When the process was started, on the wall clock.
        wall_s: From its start to its end.
        cpu_s: User and system time of the tree.
        peak_tree_mb: Highest sum of PSS that was sampled.
        peak_process_mb: High-water mark of the first process alone.
        exit_code: Its exit code; negative for a signal.
        output: What it printed.
        children: When each direct child was started, on the wall clock, in the order of their starts.
    """

    started: float
    wall_s: float
    cpu_s: float
    peak_tree_mb: float
    peak_process_mb: float
    exit_code: int
    output: str
    children: tuple[float, ...] = ()


def run_measured(
    argv: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str],
    cwd: Path,
    timeout_s: float = 1_800.0,
) -> Measured:
    """Run a command to its end.

    Args:
        argv: The command.
        log: File for what it prints.
        environment: All of its variables.
        cwd: Where it runs.
        timeout_s: After so long the whole tree is killed.
    """
    with log.open("wb") as out:
        started, begun = time.time(), time.perf_counter()
        process = subprocess.Popen(
            [str(a) for a in argv],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=cwd,
        )
        sampler = _Sampler(process.pid, timeout_s)
        sampler.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            wall = time.perf_counter() - begun
            sampler.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
    return Measured(
        started=started,
        wall_s=wall,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_tree_mb=round(sampler.peak_tree_kb / 1024, 1),
        peak_process_mb=round(sampler.peak_process_kb / 1024, 1),
        exit_code=process.returncode,
        output=log.read_text(errors="replace"),
        children=tuple(sorted(sampler.children.values())),
    )


@dataclass
class _Sampler:
    """Looks at a process tree now and then, in a thread of its own."""

    pid: int
    timeout_s: float
    peak_tree_kb: int = 0
    peak_process_kb: int = 0
    children: dict[int, float] = field(default_factory=dict)

    def start(self) -> None:
        """Begin."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="sampler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._over.set()
        self._thread.join()

    def _loop(self) -> None:
        began = time.monotonic()
        deadline = began + self.timeout_s
        while True:
            self._look()
            if time.monotonic() > deadline:
                for pid in list(tree(self.pid)):  # the first one first: it must not see its children end
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                return
            # A short process is over before the second look of a slow sampler.
            young = time.monotonic() - began < CLOSELY_FOR_S
            if self._over.wait(SAMPLE_CLOSELY_S if young else SAMPLE_EVERY_S):
                return

    def _look(self) -> None:
        total = 0
        for pid in tree(self.pid):
            with contextlib.suppress(OSError):  # it has ended since
                total += _value(Path(f"/proc/{pid}/smaps_rollup").read_text(), "Pss:")
        with contextlib.suppress(OSError):
            high = _value(Path(f"/proc/{self.pid}/status").read_text(), "VmHWM:")
            self.peak_process_kb = max(self.peak_process_kb, high)
        self.peak_tree_kb = max(self.peak_tree_kb, total)
        for pid in _children(self.pid):
            if pid not in self.children:
                with contextlib.suppress(OSError):
                    self.children[pid] = started_at(pid)


def tree(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    for child in _children(pid):
        yield from tree(child)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def started_at(pid: int) -> float:
    """When a process was started, on the wall clock, to a hundredth of a second.

    Raises:
        OSError: There is no such process.
    """
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    since_boot = int(after_name[19]) / _TICKS
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - since_boot)


def _value(text: str, name: str) -> int:
    """A number of kilobytes in a file of /proc; 0 when it is not there (a process that is ending)."""
    for line in text.splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0
