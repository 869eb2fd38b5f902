"""When two paths mean the same file, and sets of many paths."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airberg.lake.upkeep.paths import PathSet, chunks, file_key, folder_key


@pytest.mark.parametrize(
    "other",
    [
        "/w/t/data/a.parquet",
        "file:///w/t/data/a.parquet",
        "file:/w/t/data/a.parquet",
        "/w//t/./data/a.parquet",
    ],
)
def test_local_paths_in_any_way_of_writing_are_one_file(other: str) -> None:
    """Local paths in any way of writing are one file."""
    assert file_key(other) == file_key("file:///w/t/data/a.parquet")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3://b/k/a.parquet", "s3a://b/k/a.parquet"),
        ("S3://b/k/a.parquet", "s3n://b//k/a.parquet"),
        ("abfss://c@account.dfs.core.windows.net/k", "wasbs://c@account.blob.core.windows.net/k"),
        ("hdfs://nn:8020/w/a", "hdfs:///w/a"),
    ],
)
def test_schemes_of_one_storage_are_one_file(one: str, other: str) -> None:
    """Schemes of one storage are one file."""
    assert file_key(one) == file_key(other)


@pytest.mark.parametrize(
    ("one", "other"), [("s3://b/k", "s3://c/k"), ("/w/a", "/w/b"), ("s3://b/K", "s3://b/k")]
)
def test_different_files_stay_different(one: str, other: str) -> None:
    """Different files stay different."""
    assert file_key(one) != file_key(other)


def test_a_link_to_a_folder_is_the_folder(tmp_path: Path) -> None:
    """A link to a folder is the folder."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert file_key(f"file://{tmp_path}/link/a.parquet") == file_key(str(tmp_path / "real" / "a.parquet"))


def test_escaped_paths_are_known_in_both_ways() -> None:
    """Escaped paths are known in both ways."""
    known = PathSet(["s3://b/a%20b.parquet"])
    assert "s3://b/a b.parquet" in known
    assert "s3a://b/a%20b.parquet" in known
    assert "s3://b/a%2520b.parquet" in known  # once unescaped it is the same: when in doubt, it stays
    assert "s3://b/ab.parquet" not in known
    assert "s3://b/a%20b.parquet" in PathSet(["s3://b/a b.parquet"])


def within(location: str, folder: str) -> bool:
    """Whether a folder is another one or inside it."""
    return folder_key(location).startswith(folder_key(folder))


def test_inside_is_by_whole_names() -> None:
    """Inside is by whole names."""
    assert within("file:///w/t/data", "/w/t")
    assert within("/w/t", "/w/t/")
    assert not within("/w/table2", "/w/table")
    assert not within("/w", "/w/t")


@given(st.lists(st.text(max_size=30)), st.lists(st.text(max_size=30)))
def test_a_set_knows_all_that_was_added_whenever(first: list[str], second: list[str]) -> None:
    """A set knows all that was added whenever."""
    known = PathSet(f"s3://b/{path}" for path in first)
    assert all(f"s3://b/{path}" in known for path in first)
    for path in second:
        known.add(f"s3://b/{path}")
    assert all(f"s3://b/{path}" in known for path in first + second)


def test_a_set_of_many_paths() -> None:
    """A set of many paths."""
    known = PathSet(f"s3://b/{n}.parquet" for n in range(20_000))
    assert len(known) == 20_000
    for n in range(20_000, 30_000):
        known.add(f"s3://b/{n}.parquet")
        assert f"s3://b/{n}.parquet" in known
    assert len(known) == 30_000
    assert all(f"s3a://b/{n}.parquet" in known for n in range(0, 30_000, 7))
    assert not any(f"s3a://b/{n}.parquet" in known for n in range(30_000, 40_000))


def test_chunks_have_everything_in_order() -> None:
    """Chunks have everything in order."""
    assert list(chunks(map(str, range(7)), 3)) == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    assert list(chunks([], 3)) == []
