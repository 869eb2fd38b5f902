"""What the shim reads from /proc: who descends from it, and how much memory that is."""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from airberg.sources import shim

MIB = 2**20


@pytest.fixture
def sharing() -> Iterator[list[int]]:
    """Four children that share 64 MiB with us, each with a child of its own."""
    shared = mmap.mmap(-1, 64 * MIB)
    shared.write(os.urandom(64 * MIB))
    kept = bytes(shared[:])  # private pages, shared until somebody writes
    told, tell = os.pipe()
    children = []
    for _ in range(4):
        if (child := os.fork()) == 0:
            if os.fork() == 0:
                os.write(tell, b"x")
            signal.pause()
            os._exit(len(kept) & 1)
        children.append(child)
    count = 0
    while count < 4:
        count += len(os.read(told, 8))
    found = [pid for child in children for pid in (child, *shim._children(child))]
    yield found
    for pid in reversed(found):
        os.kill(pid, signal.SIGKILL)
    for child in children:
        os.waitpid(child, 0)
    os.close(told)
    os.close(tell)
    shared.close()


def test_both_ways_find_the_same_descendants(sharing: list[int]) -> None:
    """Kernels without `children` files are looked through process by process."""
    assert len(sharing) == 8
    below = shim._scan()
    scanned = set(sharing[::2]) | {pid for child in sharing[::2] for pid in below(child)}
    assert set(sharing) == scanned
    assert set(sharing) <= set(shim._descendants())


def test_shared_memory_counts_once(sharing: list[int]) -> None:
    """What eight processes share with us is divided among them; what each has resident is all of it."""
    assert sum(map(shim._resident, sharing)) > 8 * 64 * MIB
    assert sum(map(shim._own_memory, sharing)) < 3 * 64 * MIB
    assert shim._own_memory(os.getpid()) > 0


def test_process_that_is_gone_has_no_memory() -> None:
    """It may end between two looks."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert (shim._resident(child), shim._own_memory(child), shim._children(child)) == (0, 0, [])


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
