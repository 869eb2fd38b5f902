"""Row deletes: blobs and files that say which positions are gone, by the letter of the specifications."""

from __future__ import annotations

import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.manifest import DataFileContent, FileFormat
from pyiceberg.table.deletion_vector import deletion_vectors_from_puffin_file
from pyiceberg.table.puffin import PuffinFile
from pyiceberg.typedef import Record

from airberg.errors import ConfigurationFailed
from airberg.lake.deletes import (
    DeletedRows,
    deleted_positions,
    open_delete_writer,
    vector_blob,
    vector_positions,
    without,
)
from airberg.lake.live import LiveFile, is_vector, only_target
from airberg.lake.manifests import blob_range, content_bytes, entry_of, new_data_file, referenced_data_file
from support.lake_tables import sql_catalog, users

POSITIONS = st.lists(st.integers(0, 2**40), min_size=1, max_size=60, unique=True).map(sorted)


def vector_of(positions: list[int]) -> pa.Array:
    """Positions as they are given to writers."""
    return pa.array(positions, pa.int64())


def member(path: str, rows: int = 10) -> object:
    """A data file of an unpartitioned table."""
    return new_data_file(
        0,
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=rows,
        file_size_in_bytes=1,
    )


@given(positions=POSITIONS)
def test_a_vector_reads_back_as_it_was_written(positions: list[int]) -> None:
    """Also beyond 32 bits, and from a slice of an array."""
    sliced = pa.concat_arrays([pa.array([7], pa.int64()), vector_of(positions)]).slice(1)
    blob = vector_blob(sliced)
    assert blob == vector_blob(vector_of(positions))
    file = member("f", len(positions))
    assert vector_positions(blob, file).to_pylist() == positions  # type: ignore[arg-type]


def test_the_bytes_of_a_vector_are_those_of_the_specification() -> None:
    """Length, magic D1 D3 39 64, number of bitmaps, key, 32-bit Roaring bitmap, CRC-32 of the rest."""
    blob = vector_blob(vector_of([1, 3]))
    content = blob[4:-4]
    assert int.from_bytes(blob[:4], "big") == len(content)
    assert content[:4].hex() == "d1d33964"
    assert int.from_bytes(content[4:12], "little") == 1
    assert int.from_bytes(content[12:16], "little") == 0
    # Cookie 12346 (no runs), one container with key 0 and two values, its offset, the values.
    assert content[16:].hex() == "3a300000" + "01000000" + "0000" + "0100" + "10000000" + "0100" + "0300"
    assert int.from_bytes(blob[-4:], "big") == zlib.crc32(content)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda blob: b"\0\0\0\1" + blob[4:], "no deletion vector"),
        (lambda blob: blob[:4] + b"abcd" + blob[8:], "no deletion vector"),
        (lambda blob: blob[:20] + bytes([blob[20] ^ 1]) + blob[21:], "checksum"),
        (lambda _: vector_blob(pa.array([1], pa.int64())), "1 positions instead of 2"),
        (lambda _: b"", "no deletion vector"),
    ],
)
def test_a_damaged_vector_is_never_read(damage: object, problem: str) -> None:
    """What is not whole is an error that names the file, not a table with other rows."""
    with pytest.raises(ConfigurationFailed, match=problem) as error:
        vector_positions(damage(vector_blob(vector_of([1, 3]))), member("a/b/f.puffin", 2))  # type: ignore[operator,arg-type]
    assert "f.puffin" in str(error.value)


@pytest.mark.parametrize("version", [2, 3])
def test_each_data_file_has_deletes_of_its_own(tmp_path: Path, version: int) -> None:
    """Version 2: a Parquet file for each; version 3: a vector for each, in one Puffin file."""
    table = users(sql_catalog(tmp_path), version=version)
    writer = open_delete_writer(table)
    gone = {"one": [0, 5, 9], "two": [3]}
    for name, positions in gone.items():
        writer.add(member(f"file:///{name}"), vector_of(positions))  # type: ignore[arg-type]
    files = writer.close()
    assert [only_target(file) for file in files] == ["file:///one", "file:///two"]
    assert [referenced_data_file(file) for file in files] == ["file:///one", "file:///two"]
    assert [file.record_count for file in files] == [3, 1]
    assert len({file.file_path for file in files}) == (2 if version == 2 else 1)
    assert all(is_vector(file) == (version == 3) for file in files)
    for file, (name, positions) in zip(files, gone.items(), strict=True):
        entry = entry_of(member(f"file:///{name}"), 1, 1)  # type: ignore[arg-type]
        live = LiveFile(entry, (entry_of(file, 1, 1),))  # type: ignore[arg-type]
        assert deleted_positions(table.io, live).to_pylist() == positions
        path = tmp_path / file.file_path.removeprefix(f"file://{tmp_path}/")
        assert path.stat().st_size == file.file_size_in_bytes
        if version == 2:
            assert pq.read_table(path).to_pylist() == [
                {"file_path": f"file:///{name}", "pos": pos} for pos in positions
            ]
            assert content_bytes(file) == file.file_size_in_bytes
        else:
            found = deletion_vectors_from_puffin_file(PuffinFile(path.read_bytes()))
            assert {v.referenced_data_file: v.to_vector().to_pylist() for v in found} == {
                f"file:///{n}": p for n, p in gone.items()
            }
            where = blob_range(file)
            assert where is not None
            assert content_bytes(file) == where[1]


@pytest.mark.parametrize("version", [2, 3])
def test_an_abandoned_writer_leaves_nothing(tmp_path: Path, version: int) -> None:
    """Nothing of an attempt that failed stays, and a writer without deletes makes no file."""
    table = users(sql_catalog(tmp_path), version=version)
    writer = open_delete_writer(table)
    writer.add(member("file:///one"), vector_of([1]))  # type: ignore[arg-type]
    assert len(writer.abandon()) == 1
    assert open_delete_writer(table).close() == []
    assert not [*tmp_path.rglob("*-deletes.*")]


@settings(max_examples=50)
@given(
    positions=st.lists(st.integers(0, 40), unique=True).map(sorted),
    first=st.integers(0, 40),
    rows=st.integers(0, 40),
)
def test_deleted_rows_are_asked_for_by_stretch(positions: list[int], first: int, rows: int) -> None:
    """What stays of a batch is what a list says."""
    deleted = DeletedRows(vector_of(positions) if positions else None)
    batch = pa.RecordBatch.from_pydict({"n": pa.arange(first, first + rows)})
    kept, values = without(batch, first, [deleted.between(first, first + rows)])
    expected = [n for n in range(first, first + rows) if n not in positions]
    assert kept.to_pylist() == expected
    assert values.column(0).to_pylist() == expected
