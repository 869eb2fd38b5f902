"""What the shim reads from /proc: who descends from it, and how much memory that is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from airberg.sources import shim

MIB = 2**20


SHARING = """
import os, signal
kept = os.urandom(64 * 2**20)  # private pages, shared until somebody writes
for _ in range(4):
    if os.fork() == 0:
        if os.fork() == 0:
            os.write(1, f"{os.getpid()} {os.getppid()}\\n".encode())  # whole lines, whoever else writes
        signal.pause()
signal.pause()
"""


@pytest.fixture
def sharing() -> Iterator[list[int]]:
    """A process with four children that share 64 MiB with it, each with a child of its own."""
    command = [sys.executable, "-c", SHARING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            yield [int(pid) for _ in range(4) for pid in process.stdout.readline().split()]
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_both_ways_find_the_same_descendants(sharing: list[int]) -> None:
    """Kernels without `children` files are looked through process by process."""
    parent = psutil.Process(sharing[1]).ppid()
    found = []
    for below in (shim._children, shim._scan()):
        children = below(parent)
        found.append({*children, *(pid for child in children for pid in below(child))})
    assert found == [set(sharing), set(sharing)]
    assert set(sharing) <= set(shim._descendants())


def test_shared_memory_counts_once(sharing: list[int]) -> None:
    """What eight processes share is divided among them; what each has resident is all of it."""
    assert sum(map(shim._resident, sharing)) > 8 * 64 * MIB
    assert sum(map(shim._own_memory, sharing)) < 3 * 64 * MIB
    assert shim._own_memory(os.getpid()) > 0


def test_process_that_is_gone_has_no_memory() -> None:
    """It may end between two looks."""
    with subprocess.Popen(["/bin/true"]) as process:
        process.wait()
    gone = process.pid
    assert (shim._resident(gone), shim._own_memory(gone), shim._children(gone)) == (0, 0, [])


def test_counting_files_stops_when_it_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes on disk count, of links nothing of what they lead to, and too many files are too much."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"x" * 100_000)
    (tmp_path / "a" / "link").symlink_to("/")
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 10**9)
    assert 100_000 <= shim._size_of([str(tmp_path)], 10**9) < MIB
    assert shim._size_of([str(tmp_path / "nothing")], 10) == 0
    monkeypatch.setattr(shim, "_MAX_ENTRIES", 3)
    assert shim._size_of([str(tmp_path)], 10**9) == 10**9 + 1


def test_memory_backed_folders_are_known() -> None:
    """Files there count as memory."""
    if not os.path.ismount("/dev/shm"):
        pytest.skip("no memory-backed folder here")
    assert shim._memory_backed("/dev/shm")
    assert not shim._memory_backed("/proc")
    assert not shim._memory_backed("/nowhere")
