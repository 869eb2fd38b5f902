"""Who builds, among hosts that share a folder.

Processes of one kernel are kept apart by a lock on a file, which dies with its holder. Not every shared file
system carries such locks to other hosts, so the builder also writes a claim: which kernel it runs on, and a
number that grows while it lives. Others wait as long as it grows; clocks of two hosts are never compared. Two
builders can still meet (a builder that was stopped for a minute); that costs time and is otherwise harmless,
since each builds in a folder of its own and the description that is written last names one of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

CLAIM = "claim"
BEAT_S = 5.0
SILENT_S = 60.0  # more than NFS keeps what it knows of a file
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def this_kernel() -> str:
    """The kernel that we run on: containers of one host share it, and with it the locks on files."""
    with contextlib.suppress(OSError):
        return _BOOT.read_text().strip()
    return platform.node()


def kernel_lock(file: Path) -> IO[bytes] | None:
    """The open, locked file, or None when another process has it. The lock dies with all who hold it open."""
    opened = file.open("ab")
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        opened.close()
        return None
    return opened


def claimed_elsewhere(folder: Path) -> bool:
    """Whether another kernel has claimed a folder; it may be dead."""
    try:
        return not (folder / CLAIM).read_text().startswith(this_kernel())
    except OSError:
        return False


class Claim:
    """The right to build, held while the block runs; the caller holds this kernel's lock on the same thing.

    Args:
        file: Where it is written.
        kernel: Who we are.
        beat_s: Seconds between two signs of life.
        silent_s: A claim of another kernel without a sign of life for so long counts no more.
    """

    def __init__(
        self, file: Path, kernel: str | None = None, *, beat_s: float = BEAT_S, silent_s: float = SILENT_S
    ) -> None:
        self._file = file
        self._kernel = kernel or this_kernel()
        self._beat_s = beat_s
        self._silent_s = silent_s
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="claim", daemon=True)
        self._descriptor = -1

    def take(self, unless: Callable[[], bool]) -> bool:
        """Wait until it is ours; False as soon as `unless` says that there is nothing left to do."""
        seen, since = b"", time.monotonic()
        while not unless():
            if self._create():
                self._beating.start()
                return True
            found = self._read()
            if found != seen:
                seen, since = found, time.monotonic()
            # This kernel's lock is with us, so whoever claimed on this kernel is gone.
            if seen.startswith(self._kernel.encode()) or time.monotonic() - since > self._silent_s:
                if self._read() == seen:
                    self._file.unlink(missing_ok=True)
                continue
            time.sleep(min(1.0, self._beat_s))
        return False

    def _create(self) -> bool:
        try:
            self._descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        self._write(0)
        return True

    def _write(self, number: int) -> None:
        os.pwrite(self._descriptor, f"{self._kernel} {os.getpid()} {number}\n".encode(), 0)
        os.fsync(self._descriptor)

    def _beat(self) -> None:
        number = 0
        while not self._ended.wait(self._beat_s):
            number += 1
            with contextlib.suppress(OSError):
                self._write(number)

    def _read(self) -> bytes:
        try:
            return self._file.read_bytes()
        except FileNotFoundError:
            return b""

    def release(self) -> None:
        """Give it up, if it is still ours."""
        if self._descriptor < 0:
            return
        self._ended.set()
        self._beating.join()
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(self._descriptor), self._file.stat()):
                self._file.unlink()
        os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
