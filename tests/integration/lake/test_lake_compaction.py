"""Compaction of real tables: the same rows afterwards, for two engines, whatever happens meanwhile."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import DataFileContent
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import LongType

from airberg.columns.types import LONG, STRING, Field
from airberg.errors import ConfigurationFailed
from airberg.lake.live import has_delete_files, live_files
from airberg.lake.note import read_note
from airberg.lake.tables import ensure_table
from airberg.lake.upkeep.compact import Compacted, compaction_plan
from airberg.lake.upkeep.policy import Policy
from support.compacting import append, both_read, run, three
from support.duckdb_reader import duckdb_rows
from support.lake_tables import (
    FIELDS,
    JOB,
    NAMESPACE,
    data_paths,
    delete_positions,
    files_on_disk,
    files_referenced,
    names,
    note,
    rows,
    sql_catalog,
    users,
    writer,
)
from support.partitions import (
    ARROW,
    EVENTS,
    all_rows,
    as_seen,
    assert_order_holds,
    assert_partitions_hold,
    by,
    data_files,
    sorted_by,
)

# ---- what it does ------------------------------------------------------------------------------------------


def test_small_files_become_one_and_the_note_stays(tmp_path: Path) -> None:
    """Nothing but files changes: neither rows, nor properties, nor what time travel finds."""
    catalog = sql_catalog(tmp_path)
    table = three(catalog, tmp_path)
    before, properties = table.current_snapshot(), table.properties
    done = run(catalog, table, tmp_path)
    table = table.refresh()
    assert (done.files_before, done.files_after, done.groups_lost) == (3, 1, 0)
    assert len(data_paths(table)) == 1
    both_read(table, [(n, f"n{n}") for n in range(9)])
    assert table.properties == properties
    assert read_note(table, JOB) == note(3)
    current = table.current_snapshot()
    assert before is not None
    assert current is not None
    assert current.summary is not None
    assert current.summary.operation.value == "replace"
    assert current.summary["total-records"] == "9"
    assert table.scan(snapshot_id=before.snapshot_id).to_arrow().num_rows == 9
    assert files_on_disk(tmp_path / "warehouse") == files_referenced(table)
    assert run(catalog, table, tmp_path) == Compacted()


def test_the_job_goes_on_from_its_note(tmp_path: Path) -> None:
    """A run that began before a compaction commits after it."""
    catalog = sql_catalog(tmp_path)
    table = three(catalog, tmp_path)
    merging = writer(catalog, "merge", tmp_path, table=table)
    merging.write(rows((4, "new", 1), (20, "added", 1)))
    run(catalog, table, tmp_path)
    merging.finish(note(4))
    both_read(table, [(n, f"n{n}" if n != 4 else "new") for n in range(9)] + [(20, "added")])


@pytest.mark.parametrize("positions", [[0], [0, 2], [0, 1, 2]])
def test_deletes_of_another_engine_are_applied_and_their_files_go(
    tmp_path: Path, positions: list[int]
) -> None:
    """Also when no row of a file is left."""
    catalog = sql_catalog(tmp_path)
    table = three(catalog, tmp_path)
    first = min(live_files(table), key=lambda live: live.entry.sequence_number or 0).file.file_path
    delete_positions(table, first, positions)
    expected = [(n, f"n{n}") for n in range(9) if n not in positions]
    done = run(catalog, table, tmp_path)
    assert done.delete_files_removed == 1
    assert not has_delete_files(table.refresh())
    both_read(table, expected)


def test_a_delete_file_that_may_be_for_many_data_files_stays_while_one_needs_it(tmp_path: Path) -> None:
    """Two of three files are written anew: the delete file goes with the third."""
    catalog = sql_catalog(tmp_path)
    small = [rows((n, f"n{n}")) for n in (900, 901)]
    table = append(catalog, tmp_path, rows(*((n, f"name {n}" * 5) for n in range(500))), *small)
    large = max(data_files(table), key=lambda file: file.file_size_in_bytes)
    table = delete_positions(table, large.file_path, [1], wide=True)
    expected = [pair for pair in names(table) if pair[0] != 1]
    policy = Policy(target_file_bytes=large.file_size_in_bytes, min_input_files=2)
    done = run(catalog, table, tmp_path, policy)
    assert (done.files_before, done.delete_files_removed) == (2, 0)
    assert has_delete_files(table.refresh())
    both_read(table, expected)
    done = run(catalog, table, tmp_path)
    assert (done.files_before, done.delete_files_removed) == (2, 1)
    assert not has_delete_files(table.refresh())
    both_read(table, expected)


def test_delete_files_of_our_merges(tmp_path: Path) -> None:
    """A file with many deletes is written anew even if it is large and alone."""
    catalog = sql_catalog(tmp_path)
    table = append(catalog, tmp_path, rows(*((n, f"n{n}", 1) for n in range(1000))))
    merging = writer(catalog, "merge", tmp_path, table=table)
    merging.write(rows(*((n, f"m{n}", 2) for n in range(0, 1000, 5))))
    merging.finish(note(2))
    table = table.refresh()
    assert has_delete_files(table)
    policy = Policy(target_file_bytes=100, min_input_files=2)
    plan = compaction_plan(table, policy)
    assert plan.files == 1
    done = run(catalog, table, tmp_path, policy)
    assert (done.files_before, done.delete_files_removed) == (1, 1)
    table = table.refresh()
    assert not has_delete_files(table)
    both_read(table, [(n, f"n{n}" if n % 5 else f"m{n}") for n in range(1000)])


@pytest.mark.parametrize("version", ["1", "2", "3"])
def test_all_format_versions(tmp_path: Path, version: str) -> None:
    """Rows, and in version 3 their ids, are what they were."""
    catalog = sql_catalog(tmp_path)
    table = ensure_table(catalog, NAMESPACE, "users", FIELDS, {"format-version": version})
    table = append(
        catalog,
        tmp_path,
        *(rows(*((n + i, f"n{n + i}", 1) for i in range(30))) for n in (0, 30)),
        table=table,
    )
    merging = writer(catalog, "merge", tmp_path, table=table)
    merging.write(rows((7, "seven", 2), (40, "forty", 2)))
    merging.finish(note(3))
    done = run(catalog, table.refresh(), tmp_path)
    assert done.files_before == (3 if version != "1" else 2)  # merges write files anew in version 1
    table = table.refresh()
    assert len(data_paths(table)) == 1
    both_read(table, [(n, {7: "seven", 40: "forty"}.get(n, f"n{n}")) for n in range(60)])


def test_rows_take_their_lineage_along(tmp_path: Path) -> None:
    """Version 3: row ids and the number of the last change are columns of the new file, and stay."""
    catalog = sql_catalog(tmp_path)
    table = ensure_table(catalog, NAMESPACE, "users", FIELDS, {"format-version": "3"})
    table = append(catalog, tmp_path, rows((0, "a"), (1, "b")), rows((2, "c"), (3, "d")), table=table)
    expected = {0: (0, 1), 1: (1, 1), 2: (2, 2), 3: (3, 2)}
    for _ in range(2):
        run(catalog, table, tmp_path)
        table = table.refresh()
        (file,) = data_files(table)
        with table.io.new_input(file.file_path).open() as source:
            found = pq.read_table(source).to_pylist()
        assert {r["id"]: (r["_row_id"], r["_last_updated_sequence_number"]) for r in found} == expected
        both_read(table, [(0, "a"), (1, "b"), (2, "c"), (3, "d"), *([(9, "z")] if len(found) == 5 else [])])
        assert "_row_id" not in table.scan().to_arrow().column_names
        table = append(catalog, tmp_path, rows((9, "z")), table=table, first=5)
        expected[9] = (next_id(table) - 1, 4)


def next_id(table: Table) -> int:
    """The first row id that is free."""
    return int(table.metadata.next_row_id)  # type: ignore[union-attr]  # the table is of version 3


# ---- partitions, order, evolution --------------------------------------------------------------------------


def events(seed: int, count: int) -> pa.RecordBatch:
    """Rows with doubles and nulls in what they are sorted by."""
    chance = random.Random(seed)
    values = [
        {
            "id": chance.choice([None, *range(40)]),
            "name": chance.choice([None, "a", "b", "é" * 20]),
            "share": chance.choice([None, 0.5, -1.5, float("nan")]),
            "small": chance.randint(0, 3),
            "address": {"city": chance.choice(["x", "y"]), "zip": n},
        }
        for n in range(count)
    ]
    return pa.RecordBatch.from_pylist(values, schema=ARROW)


def test_partitions_are_kept_apart(tmp_path: Path) -> None:
    """Each partition gets its own files, in its own group."""
    catalog = sql_catalog(tmp_path)
    terms = (by("bucket", "id", 4), by("identity", "small"))
    table = ensure_table(catalog, NAMESPACE, "events", EVENTS, partition_by=terms)
    table = append(catalog, tmp_path, *(events(seed, 60) for seed in range(3)), table=table)
    seen = as_seen(all_rows(table))
    assert len(data_paths(table)) > 40
    run(catalog, table, tmp_path)
    table = table.refresh()
    files = data_files(table)
    assert len(files) == len({repr(file.partition) for file in files})
    assert_partitions_hold(table)
    assert as_seen(all_rows(table)) == as_seen(duckdb_rows(table)) == seen


@pytest.mark.parametrize("partitioned", [False, True])
def test_rows_are_sorted_across_all_files_of_a_group(
    tmp_path: Path, partitioned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In several output files, sorted in runs of a few rows, merged over several levels."""
    monkeypatch.setattr("airberg.lake.upkeep.rewriting.RUN_BYTES", 2000)
    catalog = sql_catalog(tmp_path)
    order = (sorted_by("id", nulls_last=True), sorted_by("share", descending=True))
    terms = (by("identity", "small"),) if partitioned else ()
    table = ensure_table(catalog, NAMESPACE, "events", EVENTS, partition_by=terms, sort_by=order)
    table = append(catalog, tmp_path, *(events(seed, 300) for seed in range(4)), table=table)
    seen = as_seen(all_rows(table))
    run(catalog, table, tmp_path)
    table = table.refresh()
    assert_order_holds(table)
    assert all(file.sort_order_id == table.sort_order().order_id for file in data_files(table))
    assert as_seen(all_rows(table)) == as_seen(duckdb_rows(table)) == seen
    assert not list((tmp_path / "spill").iterdir())


def test_files_of_an_older_spec_move_into_the_partitions_of_now(tmp_path: Path) -> None:
    """Partitions that came later hold for what is written anew."""
    catalog = sql_catalog(tmp_path)
    table = three(catalog, tmp_path)
    with table.update_spec() as update:
        update.add_field("id", BucketTransform(2), "id_bucket")
    table = append(catalog, tmp_path, rows((50, "n50")), table=table.refresh(), first=4)
    done = run(catalog, table, tmp_path)
    assert done.files_before == 3
    table = table.refresh()
    assert {file.spec_id for file in data_files(table)} == {table.metadata.default_spec_id}
    assert_partitions_hold(table)
    both_read(table, [*((n, f"n{n}") for n in range(9)), (50, "n50")])


def test_columns_that_were_added_widened_renamed_and_dropped(tmp_path: Path) -> None:
    """Columns are found by field id: a new one with an old name has nothing of the old."""
    catalog = sql_catalog(tmp_path)
    fields = (Field("id", LONG), Field("name", STRING), Field("gone", STRING))
    table = ensure_table(catalog, NAMESPACE, "users", fields)
    batch = pa.RecordBatch.from_pylist([{"id": 1, "name": "a", "gone": "old"}])
    table = append(catalog, tmp_path, batch, table=table)
    with table.update_schema() as update:
        update.delete_column("gone")
        update.rename_column("name", "title")
    with table.refresh().update_schema() as update:
        update.add_column("gone", LongType())
    later = pa.RecordBatch.from_pylist([{"id": 2, "title": "b", "gone": 7}])
    table = append(catalog, tmp_path, later, table=table.refresh(), first=2)
    run(catalog, table, tmp_path)
    table = table.refresh()
    assert len(data_paths(table)) == 1
    expected = [{"id": 1, "title": "a", "gone": None}, {"id": 2, "title": "b", "gone": 7}]
    assert sorted(table.scan().to_arrow().to_pylist(), key=lambda r: r["id"]) == expected
    assert sorted(duckdb_rows(table), key=lambda r: r["id"]) == expected


def test_a_target_size_is_met(tmp_path: Path) -> None:
    """Large groups become several files of about the size that was asked for."""
    catalog = sql_catalog(tmp_path)
    chance = random.Random(1)
    batches = [rows(*((n * 4000 + i, chance.randbytes(40).hex()) for i in range(4000))) for n in range(8)]
    table = append(catalog, tmp_path, *batches)
    total = sum(file.file_size_in_bytes for file in data_files(table))
    policy = Policy(target_file_bytes=total // 3, min_input_files=2)
    run(catalog, table, tmp_path, policy)
    table = table.refresh()
    assert len(data_files(table)) <= 3
    assert table.scan().to_arrow().num_rows == 32_000
    assert run(catalog, table, tmp_path, policy) == Compacted()


# ---- what it refuses ---------------------------------------------------------------------------------------


def test_equality_deletes_are_refused(tmp_path: Path) -> None:
    """Clearly, and before anything is written."""
    catalog = sql_catalog(tmp_path)
    table = three(catalog, tmp_path)
    table = delete_positions(table, data_paths(table)[0], [0], DataFileContent.EQUALITY_DELETES)
    before = files_on_disk(tmp_path / "warehouse")
    with pytest.raises(ConfigurationFailed, match="equality deletes") as refused:
        run(catalog, table, tmp_path)
    assert refused.value.code == "equality-deletes"
    assert files_on_disk(tmp_path / "warehouse") == before


def test_an_empty_table_has_nothing_to_do(tmp_path: Path) -> None:
    """No snapshot, no file."""
    catalog = sql_catalog(tmp_path)
    assert run(catalog, users(catalog), tmp_path) == Compacted()
