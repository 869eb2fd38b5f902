"""The key index by itself: winners in parts, candidates by bounds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.errors import TransientFailed
from airberg.lake.keybounds import KeyBounds
from airberg.lake.keyindex import KeyIndex, KeyRows
from airberg.lake.keymemory import KeyMemory


@contextmanager
def index(folder: Path, *, settled_rows: int = 1000, cursor: bool = True) -> Iterator[KeyIndex]:
    """An index over one key of numbers."""
    cursor_type = pa.int64() if cursor else None
    memory = KeyMemory(folder, memory_mb=64, threads=1)
    try:
        yield KeyIndex((pa.int64(),), cursor_type, memory, settled_rows=settled_rows)
    finally:
        memory.close()


def add(keys: KeyIndex, values: list[int | None], first: int = 0) -> None:
    """Add rows whose cursor is their number."""
    cursor = pa.arange(first, first + len(values))
    deleted = pa.repeat(pa.scalar(False), len(values))
    keys.add(KeyRows((pa.array(values, pa.int64()),), cursor), deleted, first)


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.one_of(st.none(), st.integers(0, 8)), max_size=40), part=st.integers(1, 9))
def test_winners_are_the_same_in_however_many_parts(
    tmp_path_factory: pytest.TempPathFactory, values: list[int | None], part: int
) -> None:
    """Looking for winners in parts of the keys finds one per key, the latest."""
    with index(tmp_path_factory.mktemp("spill"), settled_rows=part) as keys:
        add(keys, values)
        assert keys.settle(len(values)) == len(set(values))
        keys.match(())
        latest = {value: number for number, value in enumerate(values)}
        assert keys.open_kept(0, len(values)) == len(latest)
        assert keys.kept(0, len(values)).to_pylist() == sorted(latest.values())


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.one_of(st.none(), st.integers(-20, 20)), min_size=1, max_size=6),
    files=st.lists(st.lists(st.one_of(st.none(), st.integers(-20, 20)), min_size=1, max_size=4), max_size=8),
)
def test_a_file_that_holds_a_key_is_always_a_candidate(
    tmp_path_factory: pytest.TempPathFactory, values: list[int | None], files: list[list[int | None]]
) -> None:
    """Candidates are exactly the files whose bounds, or nulls, touch a key."""
    with index(tmp_path_factory.mktemp("spill")) as keys:
        add(keys, values)
        keys.settle(len(values))
        bounds = []
        for content in files:
            known = [value for value in content if value is not None]
            low, high = (min(known), max(known)) if known else (None, None)
            bounds.append((KeyBounds(low, high, nulls=None in content, values=bool(known)),))
        found = keys.candidates(bounds)
        for number, content in enumerate(files):
            known = [value for value in content if value is not None]
            inside = any(v is not None and known and min(known) <= v <= max(known) for v in values)
            assert (number in found) == (inside or (None in content and None in values))


def test_a_file_without_statistics_is_a_candidate(tmp_path: Path) -> None:
    """What is not known rules nothing out."""
    with index(tmp_path) as keys:
        add(keys, [5])
        keys.settle(1)
        assert keys.candidates([(KeyBounds(),), (KeyBounds(low=9),), (KeyBounds(6, 9, nulls=False),)]) == [
            0,
            1,
        ]


def test_rows_that_go_are_told_in_order_and_counted_by_file(tmp_path: Path) -> None:
    """Whatever order the table is read in; rows of a file that nobody asks about are not made out."""
    with index(tmp_path, cursor=False) as keys:
        keys.add(KeyRows((pa.array([1, 2, 3, 4]),), None), pa.array([False, False, True, False]), 0)
        keys.settle(4, distinct=True)
        found = ((0, [7, 3], [2, 1]), (1, [0], [3]), (0, [5], [9]))
        keys.match((file, pa.array(at), KeyRows((pa.array(key),), None)) for file, at, key in found)
        assert keys.removed_counts() == {0: 2, 1: 1}
        assert keys.removed_from(0).to_pylist() == [3, 7]
        assert keys.open_kept(0, 4) == 3
        assert keys.kept(0, 2).to_pylist() == [0, 1]
        assert keys.lost(0, 4).to_pylist() == [2]
        assert keys.open_kept(2, 4) == 1
        assert keys.lost(2, 4).to_pylist() == [2]


def test_winners_are_found_again_after_more_rows_or_a_repeated_key(tmp_path: Path) -> None:
    """A commit that failed is tried again with what came meanwhile: keys that differed may do so no more."""
    with index(tmp_path) as keys:
        add(keys, [1, 2])
        assert keys.settle(2, distinct=True) == 2
        add(keys, [3], first=2)
        assert keys.settle(3, distinct=True) == 3
        add(keys, [3], first=3)
        assert keys.settle(4) == 3
        assert keys.settle(3, distinct=True) == 3
        keys.place(iter([(0, pa.array([2, 1, 0]))]))
        keys.match(())
        assert keys.kept(0, 3).to_pylist() == [0, 1, 2] if keys.open_kept(0, 3) else False
        keys.forget(3)
        assert keys.settle(4) == 1


def test_an_error_in_the_table_is_told_as_it_is(tmp_path: Path) -> None:
    """DuckDB would wrap what a stream raises; the caller has to see the reason."""
    with index(tmp_path) as keys:
        add(keys, [5])
        keys.settle(1)

        def broken() -> Iterator[tuple[int, pa.Array, KeyRows]]:
            yield (
                0,
                pa.array([0], pa.int64()),
                KeyRows((pa.array([5], pa.int64()),), pa.array([0], pa.int64())),
            )
            raise ConnectionResetError("storage")

        with pytest.raises(ConnectionResetError):
            keys.match(broken())


def test_too_little_memory_is_told_with_a_way_out(tmp_path: Path) -> None:
    """A join that does not fit says so as a transient failure with guidance, not as an engine's error."""
    memory = KeyMemory(tmp_path, memory_mb=4, threads=1)
    keys = KeyIndex((pa.string(),), None, memory)

    def fill() -> None:
        for first in range(0, 400_000, 50_000):
            texts = pa.array([f"{number:0200}" for number in range(first, first + 50_000)])
            keys.add(KeyRows((texts,), None), pa.repeat(pa.scalar(False), 50_000), first)
        keys.settle(400_000)

    with pytest.raises(TransientFailed) as caught:
        fill()
    assert caught.value.code == "merge-out-of-memory"
    keys.close()
    memory.close()


def test_indexes_share_a_memory_and_nothing_else(tmp_path: Path) -> None:
    """What one keeps, forgets or closes is not seen by the other; the folder goes with the memory."""
    with KeyMemory(tmp_path, memory_mb=64, threads=1) as memory:
        one, other = (KeyIndex((pa.int64(),), pa.int64(), memory) for _ in range(2))
        add(one, [1, 2, 3])
        add(other, [3, 4, None])
        assert (one.settle(3), other.settle(2)) == (3, 2)
        one.forget(3)
        add(one, [7], first=3)
        assert one.settle(4) == 1
        one.close()
        one.close()
        other.forget(2)
        assert other.settle(3) == 1
        assert other.candidates([(KeyBounds(5, 6, nulls=True),), (KeyBounds(5, 6, nulls=False),)]) == [0]
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_memory_gives_back_what_an_index_has_forgotten(tmp_path: Path) -> None:
    """Checkpoints of one stream must not take the memory of the next one's, however many there are."""
    with KeyMemory(tmp_path, memory_mb=64, threads=1) as memory:
        looking = memory.connection().db

        def used() -> int:
            [row] = looking.execute("SELECT sum(memory_usage_bytes) FROM duckdb_memory()").fetchall()
            return int(row[0])

        keys = KeyIndex((pa.int64(),), pa.int64(), memory)
        before = used()
        add(keys, list(range(200_000)))
        keys.settle(200_000, distinct=True)
        assert used() - before > 5_000_000
        keys.forget(200_000)
        assert used() - before < 1_000_000
