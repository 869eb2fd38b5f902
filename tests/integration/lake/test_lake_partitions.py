"""Tables with partitions and a sort order, written by every mode and read by two engines."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import And, EqualTo, GreaterThanOrEqual, IsNull, LessThan
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform

from airberg.columns.types import (
    DATE,
    LONG,
    STRING,
    Field,
)
from airberg.errors import ConfigurationFailed, TransientFailed
from airberg.lake.arrange import Arrangement
from airberg.lake.catalog import memory_catalog
from airberg.lake.fanout import ArrangedFileWriter
from airberg.lake.files import FileSizes, OpenFile, ParquetFiles
from airberg.lake.tables import ensure_table
from airberg.plan.model import PartitionTerm, SortTerm
from support.duckdb_reader import duckdb_rows
from support.lake_tables import FIELDS, NAMESPACE, data_paths, names, note, rows, writer
from support.partitions import (
    ARROW,
    EVENTS,
    all_rows,
    as_seen,
    assert_order_holds,
    assert_partitions_hold,
    by,
    data_files,
    rows_of,
    sorted_by,
)

UTC = datetime.UTC
SMALL = {"arrange_bytes": 1, "open_files": 2, "row_group_rows": 3}


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """A catalog in memory."""
    opened = memory_catalog(tmp_path / "warehouse")
    yield opened
    opened.close()


def users_table(catalog: Catalog, *terms: PartitionTerm, sort: tuple[SortTerm, ...] = ()) -> Table:
    """The table `users`, partitioned."""
    return ensure_table(catalog, NAMESPACE, "users", FIELDS, partition_by=terms, sort_by=sort)


# ---- modes -----------------------------------------------------------------------------------------------


def day(number: int) -> datetime.datetime:
    """Noon of a day of January 2024."""
    return datetime.datetime(2024, 1, number, 12, tzinfo=UTC)


def events(*found: tuple[int, int | None, str]) -> pa.RecordBatch:
    """`(id, day of January, name)`."""
    values = [{"id": i, "at": None if d is None else day(d), "name": n} for i, d, n in found]
    return pa.RecordBatch.from_pylist(values, schema=ARROW)


def test_append_and_pruning(catalog: Catalog, tmp_path: Path) -> None:
    """Days and buckets are written once each, found by both engines, and skipped by filters."""
    terms = (by("day", "at"), by("bucket", "id", 4))
    table = ensure_table(catalog, NAMESPACE, "events", EVENTS, partition_by=terms)
    assert [field.name for field in table.spec().fields] == ["at_day", "id_bucket_4"]
    assert [field.field_id for field in table.spec().fields] == [1000, 1001]
    table_writer = writer(catalog, "append", tmp_path, table=table)
    table_writer.write(events(*((i, i % 5 + 1, f"n{i}") for i in range(200))))
    table_writer.write(events((900, None, "undated")))
    table_writer.finish(note(1))
    assert_partitions_hold(table)
    files = data_files(table)
    assert len(files) == len({repr(file.partition) for file in files}) == 21
    assert as_seen(duckdb_rows(table)) == as_seen(all_rows(table))
    one_day = And(GreaterThanOrEqual("at", day(2).replace(hour=0)), LessThan("at", day(3).replace(hour=0)))
    for row_filter, expected, files_read in (
        (one_day, {i for i in range(200) if i % 5 == 1}, 4),
        (EqualTo("id", 7), {7}, 5),
        (And(one_day, EqualTo("id", 6)), {6}, 1),
        (IsNull("at"), {900}, 1),
    ):
        scan = table.scan(row_filter=row_filter)
        assert set(scan.to_arrow().column("id").to_pylist()) == expected
        assert len(list(scan.plan_files())) <= files_read


def test_void_and_nested_and_odd_names(catalog: Catalog, tmp_path: Path) -> None:
    """Names of partitions are fit for Avro and collide with no column; both engines read the table."""
    fields = (*EVENTS, Field("id_bucket_4", LONG), Field("prix €/kg", STRING), Field("address_city", STRING))
    terms = (
        by("bucket", "id", 4),
        by("identity", "address.city"),
        by("identity", "prix €/kg"),
        by("void", "name"),
    )
    table = ensure_table(catalog, NAMESPACE, "odd", fields, partition_by=terms)
    field_names = [field.name for field in table.spec().fields]
    assert field_names[0] == "id_bucket_4_2"
    assert field_names[1] == "address_city_2"
    assert all(name.isascii() and name.replace("_", "").isalnum() for name in field_names)
    values = [
        {"id": i, "name": "n", "address": {"city": city}, "prix €/kg": price}
        for i, (city, price) in enumerate(itertools.product(["a/b", None, "x" * 3000], ["1", "é"]))
    ]
    schema = pa.schema([*ARROW, ("prix €/kg", pa.string())])
    table_writer = writer(catalog, "append", tmp_path, table=table)
    table_writer.write(pa.RecordBatch.from_pylist(values, schema=schema))
    table_writer.finish(note(1))
    table.refresh()
    assert len(data_files(table)) == 24 - len(values) * 3
    found = duckdb_rows(table)
    assert as_seen(found) == as_seen(all_rows(table))
    assert len(found) == len(values)
    # Values of partitions come from records: neither a path nor a summary may name them.
    assert not any("xxx" in path for path in data_paths(table))
    assert "xxx" not in table.metadata.model_dump_json()


def test_days_that_python_does_not_have(catalog: Catalog, tmp_path: Path) -> None:
    """Dates before year 1 and after 9999 are partitioned like others; pyiceberg's summary would fail."""
    fields = (Field("id", LONG), Field("born", DATE))
    terms = (by("day", "born"),)
    table = ensure_table(catalog, NAMESPACE, "old", fields, partition_by=terms)
    days = [-800_000, 5_000_000, 0, None]
    batch = pa.RecordBatch.from_arrays(
        [pa.array(range(4)), pa.array(days, pa.int32()).view(pa.date32())], names=["id", "born"]
    )
    table_writer = writer(catalog, "overwrite", tmp_path, table=table)
    table_writer.write(batch)
    table_writer.finish(note(1))
    assert {file.partition[0] for file in data_files(table)} == set(days)
    assert table.refresh().scan(row_filter="id >= 0", selected_fields=("id",)).to_arrow().num_rows == 4
    assert table.current_snapshot().summary["changed-partition-count"] == "4"  # type: ignore[union-attr,index]


def test_overwrite(catalog: Catalog, tmp_path: Path) -> None:
    """All partitions go, also those that the new rows do not have."""
    table = users_table(catalog, by("truncate", "name", 1))
    for number, found in enumerate(([(1, "ann"), (2, "bob")], [(3, "cid"), (4, "ada")], []), 1):
        table_writer = writer(catalog, "overwrite", tmp_path, table=table.refresh())
        table_writer.write(rows(*found))
        report = table_writer.finish(note(number))
        assert report.rows_written == len(found)
        assert names(table) == found
        assert_partitions_hold(table)
        assert len(duckdb_rows(table)) == len(found)
        assert {file.partition[0] for file in data_files(table)} == {name[0] for _, name in found}


def test_merge_moves_rows_between_partitions(catalog: Catalog, tmp_path: Path) -> None:
    """A new version in another partition replaces the old one; deleted keys go; the others stay."""
    table = users_table(catalog, by("truncate", "name", 1), sort=(sorted_by("id", descending=True),))
    first = writer(catalog, "merge", tmp_path, table=table)
    first.write(rows(*((i, f"{'abc'[i % 3]}{i}", 1) for i in range(30))))
    first.finish(note(1))
    first.discard()
    second = writer(catalog, "merge", tmp_path, table=table.refresh())
    second.write(rows((0, "z0", 2), (1, "c1", 2), (2, "late", 0), (3, None, 3), (40, "a40", 1)))
    second.write(rows((4, "gone", 2, 5), (1, "x1", 3)))
    report = second.finish(note(2))
    second.discard()
    assert report.rows_deleted == 4
    expected = {i: f"{'abc'[i % 3]}{i}" for i in range(30)} | {0: "z0", 1: "x1", 3: None, 40: "a40"}
    del expected[4]
    assert dict(names(table)) == expected
    assert {(row["id"], row["name"]) for row in duckdb_rows(table)} == set(expected.items())
    assert_partitions_hold(table)
    assert_order_holds(table)


# ---- order -----------------------------------------------------------------------------------------------


def test_files_are_sorted_and_say_so_only_where_it_holds(catalog: Catalog, tmp_path: Path) -> None:
    """What arrives in order over several row groups may claim the order; what does not may not."""
    order = (sorted_by("version", nulls_last=True),)
    table = ensure_table(catalog, NAMESPACE, "users", FIELDS, sort_by=order)
    assert table.spec().is_unpartitioned()
    assert table.sort_order().order_id == 1
    for number, versions in enumerate(([1, 2, 3, 4, 5, None], [9, 1, 8, 2]), 1):
        table_writer = writer(catalog, "append", tmp_path, table=table.refresh(), arrange_bytes=1)
        for version in versions:
            table_writer.write(rows((number, "x", version)))
        table_writer.finish(note(number))
    claims = {rows_of(file)[0]["id"]: file.sort_order_id for file in data_files(table)}
    assert claims == {1: 1, 2: None}
    table_writer = writer(catalog, "append", tmp_path, table=table.refresh())
    table_writer.write(rows(*((3, "x", version) for version in (5, None, 4, 7))))
    table_writer.finish(note(3))
    third = next(file for file in data_files(table) if rows_of(file)[0]["id"] == 3)
    assert third.sort_order_id == 1
    assert [row["version"] for row in rows_of(third)] == [4, 5, 7, None]
    assert len(duckdb_rows(table)) == 14


@pytest.mark.parametrize(
    ("descending", "nulls_last", "expected"),
    [
        (False, False, [None, -1.5, -0.0, 0.0, 2.0, "nan"]),
        (False, True, [-1.5, -0.0, 0.0, 2.0, "nan", None]),
        (True, False, [None, "nan", 2.0, 0.0, -0.0, -1.5]),
        (True, True, ["nan", 2.0, 0.0, -0.0, -1.5, None]),
    ],
)
def test_nulls_and_nan_have_their_places(
    catalog: Catalog, tmp_path: Path, descending: bool, nulls_last: bool, expected: list[Any]
) -> None:
    """As the specification says under Sorting."""
    order = (sorted_by("share", descending=descending, nulls_last=nulls_last),)
    table = ensure_table(catalog, NAMESPACE, "events", EVENTS, sort_by=order)
    table_writer = writer(catalog, "append", tmp_path, table=table)
    values = [2.0, None, float("nan"), -0.0, -1.5, 0.0]
    table_writer.write(pa.RecordBatch.from_pylist([{"share": v} for v in values], schema=ARROW))
    table_writer.finish(note(1))
    (file,) = data_files(table)
    found = [row["share"] for row in rows_of(file)]
    assert [repr(v) for v in found] == [repr(float("nan") if v == "nan" else v) for v in expected]


# ---- bounds ----------------------------------------------------------------------------------------------


def test_many_partitions_within_bounds(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 partitions at once: open files and waiting bytes stay under their bounds."""
    table = users_table(catalog, by("identity", "id"))
    sizes = FileSizes(arrange_bytes=200_000, open_files=7)
    started: list[int] = []
    start = ParquetFiles.start

    def counted(self: ParquetFiles, first_rows: pa.Table) -> OpenFile:
        started.append(files.open_count + 1)
        return start(self, first_rows)

    monkeypatch.setattr(ParquetFiles, "start", counted)
    files = ArrangedFileWriter(table, Arrangement(table), sizes)
    waiting = []
    batch = rows(*((i, "x" * 20, 1) for i in range(2_000)))
    for _ in range(5):
        for start_row in range(0, 2_000, 500):
            files.write(batch.slice(start_row, 500))
            waiting.append(files.waiting_bytes)
    written = files.close()
    assert max(started) == sizes.open_files
    assert max(waiting) < sizes.arrange_bytes
    assert files.open_count == 0
    assert sum(file.record_count for file in written) == 10_000
    assert {file.partition[0] for file in written} == set(range(2_000))


def test_partitions_with_few_rows_wait(catalog: Catalog) -> None:
    """A partition that gets most rows does not cut the others into small files."""
    table = users_table(catalog, by("identity", "name"))
    files = ArrangedFileWriter(table, Arrangement(table), FileSizes(arrange_bytes=20_000, open_files=1))
    for number in range(20):
        files.write(rows((number, "rare"), *((i, "hot") for i in range(400))))
    by_name = [file.partition[0] for file in files.close()]
    assert sorted(by_name) == ["hot", "rare"]


# ---- others at work --------------------------------------------------------------------------------------


def test_a_table_partitioned_by_others(catalog: Catalog, tmp_path: Path) -> None:
    """Partitions that were evolved: new files have the new spec, a merge takes old files along."""
    table = users_table(catalog, by("identity", "name"))
    first = writer(catalog, "append", tmp_path, table=table)
    first.write(rows((1, "a", 1), (2, "b", 1)))
    first.finish(note(1))
    with table.refresh().update_spec() as update:
        update.add_field("version", IdentityTransform(), "version_id")
    second = writer(catalog, "merge", tmp_path, table=table.refresh())
    second.write(rows((2, "c", 2), (3, "a", 1)))
    second.finish(note(2))
    assert names(table) == [(1, "a"), (2, "c"), (3, "a")]
    assert {file.spec_id for file in data_files(table)} == {0, 1}
    third = writer(catalog, "overwrite", tmp_path, table=table.refresh())
    third.write(rows((7, "a", 1)))
    third.finish(note(3))
    assert names(table) == [(7, "a")]
    assert_partitions_hold(table)


def test_partitioning_changed_during_the_run(catalog: Catalog, tmp_path: Path) -> None:
    """Files for the old partitions are not committed as if they were for the new ones."""
    table = users_table(catalog, by("identity", "name"))
    table_writer = writer(catalog, "append", tmp_path, table=table)
    table_writer.write(rows((1, "a")))
    other = catalog.load_table((*NAMESPACE, "users"))
    with other.update_spec() as update:
        update.remove_field("name")
    other.append(pa.table({"id": pa.array([5]), "name": pa.array(["theirs"])}))
    with pytest.raises(TransientFailed) as caught:
        table_writer.finish(note(1))
    assert caught.value.code == "partitioning-changed"
    table_writer.discard()
    assert names(table) == [(5, "theirs")]


def test_a_failed_write_is_never_covered(catalog: Catalog, tmp_path: Path) -> None:
    """What the storage did not take may not be committed as if it were there."""
    table = users_table(catalog, by("identity", "name"))
    table_writer = writer(catalog, "append", tmp_path, table=table, **SMALL)
    table_writer.write(rows((1, "a"), (2, "b")))
    table_writer.mark()
    place = tmp_path / "warehouse" / "shop" / "users" / "data"
    place.rename(place.with_name("moved"))
    place.touch()
    with pytest.raises((TransientFailed, ConfigurationFailed)):
        table_writer.write(rows(*((i, f"n{i}") for i in range(9))))
    place.unlink()
    place.with_name("moved").rename(place)
    with pytest.raises(TransientFailed):
        table_writer.commit(note(1))
    table_writer.discard()
    assert names(table) == []
