"""Single cases of merges, for each way in which rows go: what is touched, replaced, skipped, refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.manifest import DataFileContent

from airberg.columns.types import (
    INT,
    LONG,
    STRING,
    Field,
    List,
    Struct,
)
from airberg.errors import ConfigurationFailed
from airberg.lake.arrow import arrow_schema
from airberg.lake.files import DataFileWriter
from airberg.lake.live import live_files, only_target
from airberg.lake.scan import live_batches
from airberg.lake.schema import schema_changes
from airberg.lake.snapshots import FileChanges, prepare
from airberg.lake.tables import describe, evolve
from airberg.lake.writers import MergeKey
from airberg.plan.model import DeleteFormat
from support.duckdb_reader import duckdb_table
from support.lake_tables import (
    KEY,
    FaultyCatalog,
    data_paths,
    delete_positions,
    files_on_disk,
    files_referenced,
    meanwhile,
    names,
    note,
    rows,
    sql_catalog,
    users,
    writer,
)

FORMATS: list[DeleteFormat] = ["position", "vector", "copy-on-write"]


@pytest.fixture(params=FORMATS)
def key(request: pytest.FixtureRequest) -> MergeKey:
    """The key of the table, for each way in which rows go."""
    return replace(KEY, delete_format=request.param)


@pytest.fixture
def catalog(tmp_path: Path, key: MergeKey) -> Iterator[FaultyCatalog]:
    """A SQLite catalog that can be told to fail, with an empty table."""
    opened = sql_catalog(tmp_path, FaultyCatalog)
    users(opened, version=3 if key.delete_format == "vector" else 2)
    yield opened
    opened.close()


def merge(catalog: FaultyCatalog, folder: Path, key: MergeKey, number: int, *batch: tuple[Any, ...]) -> Any:
    """One merge of one checkpoint."""
    table_writer = writer(catalog, "merge", folder, key=key)
    table_writer.write(rows(*batch))
    done = table_writer.finish(note(number))
    table_writer.discard()
    return done


def test_a_merge_reports_what_it_did(catalog: FaultyCatalog, tmp_path: Path, key: MergeKey) -> None:
    """New versions are written, replaced and deleted rows counted, one snapshot each."""
    merge(catalog, tmp_path, key, 1, (1, "a", 1), (2, "b", 1), (3, "c", 5))
    done = merge(
        catalog, tmp_path, key, 2, (1, "A", 2), (2, "gone", 2, 7), (3, "old", 4), (4, "d", 1), (9, "x", 1, 7)
    )
    assert (done.rows_written, done.rows_deleted) == (2, 2)
    assert names(users(catalog)) == [(1, "A"), (3, "c"), (4, "d")]
    assert len(describe(users(catalog)).snapshots) == 2


def test_a_merge_that_changes_nothing_makes_no_snapshot(
    catalog: FaultyCatalog, tmp_path: Path, key: MergeKey
) -> None:
    """Only older versions, and deletes of keys that are not there."""
    merge(catalog, tmp_path, key, 1, (1, "a", 5))
    done = merge(catalog, tmp_path, key, 2, (1, "old", 4), (8, "x", 9, 7))
    assert done.snapshot_id is None
    assert names(users(catalog)) == [(1, "a")]


def test_only_files_that_hold_a_key_are_touched(
    catalog: FaultyCatalog, tmp_path: Path, key: MergeKey
) -> None:
    """Files whose bounds rule the keys out are not touched, and neither are files without a hit."""
    first = writer(catalog, "append", tmp_path, row_group_rows=10, target_file_bytes=1)
    for i in range(5):
        first.write(rows(*((j, "x") for j in range(i * 10, i * 10 + 10))))
    first.finish(note(1))
    before = set(data_paths(users(catalog)))
    assert len(before) == 5
    merge(catalog, tmp_path, key, 2, (12, "y", 1), (100, "new", 1))
    after = set(data_paths(users(catalog)))
    assert len(before & after) == (4 if key.delete_format == "copy-on-write" else 5)
    touched = [live for live in live_files(users(catalog)) if live.deletes]
    assert len(touched) == (0 if key.delete_format == "copy-on-write" else 1)
    assert (12, "y") in names(users(catalog))
    assert len(names(users(catalog))) == 51


def test_keys_over_4_kib_are_found(catalog: FaultyCatalog, tmp_path: Path, key: MergeKey) -> None:
    """Parquet keeps no bounds for them; a file must not be ruled out by the bounds of its other rows."""
    by_name = MergeKey((("name",),), delete_format=key.delete_format)
    long_key = "z" * 10_000
    for number, id_ in ((1, 1), (2, 2)):
        table_writer = writer(catalog, "merge", tmp_path, key=by_name, row_group_rows=1)
        table_writer.write(rows((0, "a")))
        table_writer.write(rows((id_, long_key)))
        table_writer.finish(note(number))
        table_writer.discard()
    assert [id_ for id_, _ in names(users(catalog))] == [0, 2]


def test_a_merge_is_recomputed_when_somebody_commits(
    catalog: FaultyCatalog, tmp_path: Path, key: MergeKey
) -> None:
    """A row that another writer adds meanwhile under one of our keys is replaced, not doubled."""
    merge(catalog, tmp_path, key, 1, (1, "a", 1), (2, "b", 1))
    table_writer = writer(catalog, "merge", tmp_path, key=key)
    table_writer.write(rows((1, "A", 2), (5, "mine", 2)))

    def other() -> None:
        theirs = writer(catalog, "append", tmp_path, job="theirs")
        theirs.write(rows((5, "theirs", 1), (6, "f", 1)))
        theirs.finish(note(1))

    catalog.faults = [meanwhile(other)]
    done = table_writer.finish(note(2))
    table_writer.discard()
    assert names(users(catalog)) == [(1, "A"), (2, "b"), (5, "mine"), (6, "f")]
    assert done.rows_deleted == 2
    assert files_on_disk(tmp_path / "warehouse") == files_referenced(users(catalog))


def test_rows_deleted_by_another_engine_stay_deleted(
    catalog: FaultyCatalog, tmp_path: Path, key: MergeKey
) -> None:
    """Position deletes are applied: deleted rows neither match nor come back when their file is rewritten."""
    merge(catalog, tmp_path, key, 1, (1, "a", 9), (2, "b", 9), (3, "c", 1), (4, "d", 1))
    path = data_paths(users(catalog))[0]
    order = users(catalog).scan().to_arrow()["id"].to_pylist()
    delete_positions(users(catalog), path, [order.index(1), order.index(2)])
    assert names(users(catalog)) == [(3, "c"), (4, "d")]
    merge(catalog, tmp_path, key, 2, (1, "again", 5), (3, "C", 2))
    assert names(users(catalog)) == [(1, "again"), (3, "C"), (4, "d")]
    found = duckdb_table(users(catalog)).to_pylist()
    assert sorted((r["id"], r["name"]) for r in found) == [(1, "again"), (3, "C"), (4, "d")]


def test_a_data_file_has_one_delete_file_however_often_it_changes(
    catalog: FaultyCatalog, tmp_path: Path, key: MergeKey
) -> None:
    """Later deletes take over what earlier ones said; a file without rows left goes with its deletes."""
    merge(catalog, tmp_path, key, 1, *((i, "old", 1) for i in range(6)))
    for number, id_ in ((2, 0), (3, 1), (4, 2), (5, 3), (6, 4)):
        merge(catalog, tmp_path, key, number, (id_, "new", number))
        deletes = [live.deletes for live in live_files(users(catalog))]
        if key.delete_format != "copy-on-write":
            assert sorted(map(len, deletes)) == [0] * (number - 1) + [1]
    merge(catalog, tmp_path, key, 7, (5, "new", 7))
    assert names(users(catalog)) == [(i, "new") for i in range(6)]
    files = live_files(users(catalog))
    assert sum(live.file.record_count for live in files) == 6
    assert not any(live.deletes for live in files)
    assert sorted(r["id"] for r in duckdb_table(users(catalog)).to_pylist()) == [*range(6)]
    assert len(describe(users(catalog)).snapshots) == 7


def test_deletes_for_several_files_stay_as_they_are(tmp_path: Path, key: MergeKey) -> None:
    """A delete file of another engine that does not say which data file it is for goes on to apply."""
    catalog = sql_catalog(tmp_path, FaultyCatalog)
    users(catalog, version=2 if key.delete_format != "vector" else 3)
    merge(catalog, tmp_path, key, 1, *((i, "a", 1) for i in range(5)))
    order = users(catalog).scan().to_arrow()["id"].to_pylist()
    path = data_paths(users(catalog))[0]
    delete_positions(users(catalog), path, [order.index(1)], wide=True)
    merge(catalog, tmp_path, key, 2, (2, "b", 2), (1, "again", 2))
    merge(catalog, tmp_path, key, 3, (3, "c", 3))
    expected = [(0, "a"), (1, "again"), (2, "b"), (3, "c"), (4, "a")]
    assert names(users(catalog)) == expected
    found = duckdb_table(users(catalog)).to_pylist()
    assert sorted((r["id"], r["name"]) for r in found) == expected
    catalog.close()


def test_a_file_that_is_written_anew_meanwhile_is_looked_at_again(
    catalog: FaultyCatalog, tmp_path: Path, key: MergeKey
) -> None:
    """Deletes never point into a file that a compaction replaced: the positions are found anew."""
    merge(catalog, tmp_path, key, 1, (1, "a", 1), (2, "b", 1), (3, "c", 1))
    merge(catalog, tmp_path, key, 2, (7, "g", 1))
    merging = writer(catalog, "merge", tmp_path, key=key)
    merging.write(rows((2, "B", 2), (7, "G", 2)))

    def compaction() -> None:
        table = users(catalog)
        old = next(live for live in live_files(table) if live.file.record_count == 3)
        anew = DataFileWriter(table)
        batches = [batch for _, batch in live_batches(table, old, table.schema())]
        for row in reversed(range(3)):
            anew.write(pa.concat_batches(batches).slice(row, 1))
        prepare(table, FileChanges(added=anew.close(), removed=(old.file,), same_rows=True), {}, {}).send()

    catalog.faults = [meanwhile(compaction)]
    merging.finish(note(3))
    merging.discard()
    assert names(users(catalog)) == [(1, "a"), (2, "B"), (3, "c"), (7, "G")]
    paths = {live.file.file_path for live in live_files(users(catalog))}
    targets = {only_target(file) for live in live_files(users(catalog)) for file in live.delete_files}
    assert targets <= paths


def test_what_says_nothing_new_is_not_written(catalog: FaultyCatalog, tmp_path: Path, key: MergeKey) -> None:
    """With `skip_unchanged` a row that was sent again makes no snapshot, and of two equal rows one stays."""
    skipping = replace(key, skip_unchanged=True)
    merge(catalog, tmp_path, skipping, 1, (1, "a", 1), (2, None, 1), (3, "c", 1))
    again = merge(catalog, tmp_path, skipping, 2, (1, "a", 1), (2, None, 1), (3, "c", 1))
    assert (again.rows_written, again.rows_deleted, again.snapshot_id) == (0, 0, None)
    some = merge(catalog, tmp_path, skipping, 3, (1, "a", 1), (2, "b", 1), (3, "c", 1), (4, "d", 1))
    assert (some.rows_written, some.rows_deleted) == (2, 1)
    plain = merge(catalog, tmp_path, key, 4, (1, "a", 1))
    assert (plain.rows_written, plain.rows_deleted) == (1, 1)
    doubled = writer(catalog, "append", tmp_path)
    doubled.write(rows((1, "a", 1), (1, "a", 1)))
    doubled.finish(note(5))
    one = merge(catalog, tmp_path, skipping, 6, (1, "a", 1))
    assert (one.rows_written, one.rows_deleted) == (0, 2)
    gone = merge(catalog, tmp_path, skipping, 7, (4, "d", 2, 7), (3, "c", 1))
    assert (gone.rows_written, gone.rows_deleted) == (0, 1)
    assert names(users(catalog)) == [(1, "a"), (2, "b"), (3, "c")]


def test_equality_deletes_are_refused_by_a_merge_and_gone_after_an_overwrite(
    catalog: FaultyCatalog, tmp_path: Path, key: MergeKey
) -> None:
    """What cannot be applied is told before anything is committed; a swap does not need to apply it."""
    merge(catalog, tmp_path, key, 1, (1, "a", 1))
    path = data_paths(users(catalog))[0]
    delete_positions(users(catalog), path, [0], DataFileContent.EQUALITY_DELETES)
    before = users(catalog).metadata_location
    with pytest.raises(ConfigurationFailed) as caught:
        merge(catalog, tmp_path, key, 2, (1, "b", 2))
    assert caught.value.code == "equality-deletes"
    assert users(catalog).metadata_location == before
    overwrite = writer(catalog, "overwrite", tmp_path)
    overwrite.write(rows((7, "z", 1)))
    overwrite.finish(note(2))
    assert names(users(catalog)) == [(7, "z")]


def test_duplicates_that_an_append_left_are_replaced_together(
    catalog: FaultyCatalog, tmp_path: Path, key: MergeKey
) -> None:
    """All rows of a key that are not newer than the winner go."""
    append = writer(catalog, "append", tmp_path)
    append.write(rows((1, "a", 1), (1, "b", 2), (2, "c", 1)))
    append.finish(note(1))
    merge(catalog, tmp_path, key, 2, (1, "new", 3))
    assert names(users(catalog)) == [(1, "new"), (2, "c")]


def test_old_files_are_rewritten_in_the_new_schema(tmp_path: Path) -> None:
    """Columns added and widened since a file was written: its rows keep their values and their field ids."""
    catalog = sql_catalog(tmp_path)
    item = Struct((Field("n", INT),))
    old = (Field("id", INT), Field("items", List(item)), Field("box", Struct((Field("a", INT),))))
    table = users(catalog, old)
    append = writer(catalog, "append", tmp_path)
    append.write(
        pa.RecordBatch.from_pylist(
            [
                {"id": 1, "items": [{"n": 1}, None], "box": {"a": 1}},
                {"id": 2, "items": None, "box": None},
                {"id": 3, "items": [], "box": {"a": None}},
            ],
            schema=arrow_schema(table.schema()),
        )
    )
    append.finish(note(1))
    wider = Struct((Field("n", LONG), Field("m", STRING)))
    new = (
        Field("id", LONG),
        Field("items", List(wider)),
        Field("box", Struct((Field("a", LONG), Field("b", STRING)))),
        Field("extra", STRING),
    )
    table = evolve(table.refresh(), schema_changes(table.schema(), new))
    merging = writer(catalog, "merge", tmp_path, table=table, key=MergeKey((("id",),)))
    merging.write(pa.RecordBatch.from_pylist([{"id": 3, "extra": "x"}]))
    merging.finish(note(2))
    merging.discard()
    expected = [
        {"id": 1, "items": [{"n": 1, "m": None}, None], "box": {"a": 1, "b": None}, "extra": None},
        {"id": 2, "items": None, "box": None, "extra": None},
        {"id": 3, "items": None, "box": None, "extra": "x"},
    ]
    assert sorted(duckdb_table(users(catalog, new)).to_pylist(), key=lambda r: r["id"]) == expected
    catalog.close()


def test_a_key_that_does_not_fit_is_refused(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """A key that is missing, or not a simple value, is a configuration error before anything is staged."""
    with pytest.raises(ConfigurationFailed, match="not a column"):
        writer(catalog, "merge", tmp_path, key=MergeKey((("nope",),)))
    fields = (Field("box", Struct((Field("a", LONG),))),)
    users(catalog, fields, name="boxes")
    table = catalog.load_table(("shop", "boxes"))
    with pytest.raises(ConfigurationFailed, match="is a struct"):
        writer(catalog, "merge", tmp_path, table=table, key=MergeKey((("box",),)))


def test_keys_spill_to_their_folder_only(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """More keys than memory allows: the merge is right, and its temporary files are gone afterwards."""
    from airberg.lake.keymemory import KeyMemory
    from airberg.lake.note import read_note
    from airberg.lake.writers import WriterSettings, open_writer

    spill = tmp_path / "spill"
    table = users(catalog)
    memory = KeyMemory(spill, memory_mb=64, threads=1)
    settings_ = WriterSettings(key_memory=memory, threads=1)
    merging: Any = open_writer(
        "merge",
        catalog,
        table,
        job_id="j",
        started_from=read_note(table, "j"),
        settings=settings_,
        key=MergeKey((("name",),)),
    )
    count = 300_000
    for start in range(0, count, 20_000):
        ids = pa.arange(start, start + 20_000)
        keys = pa.compute.binary_join_element_wise(ids.cast(pa.string()), pa.scalar("k" * 150), "")
        for _ in range(2):
            merging.write(pa.RecordBatch.from_arrays([ids, keys], names=["id", "name"]))
    spilled = sum(path.stat().st_size for path in spill.rglob("*") if path.is_file())
    done = merging.finish(note(1))
    merging.discard()
    memory.close()
    assert done.rows_written == count
    assert spilled > 0
    assert list(spill.iterdir()) == []
