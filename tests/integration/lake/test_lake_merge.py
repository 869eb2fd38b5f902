"""Merge: the newest version of each key, against a plain dictionary."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal as Number
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.manifest import DataFileContent

from airberg.columns.types import (
    BINARY,
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    ColumnType,
    Decimal,
    Field,
    List,
    Struct,
)
from airberg.errors import ConfigurationFailed
from airberg.lake.arrow import arrow_schema
from airberg.lake.schema import schema_changes
from airberg.lake.tables import describe, evolve
from airberg.lake.writers import MergeKey
from support.duckdb_reader import duckdb_table
from support.lake_tables import (
    FaultyCatalog,
    data_paths,
    delete_positions,
    meanwhile,
    names,
    note,
    rows,
    sql_catalog,
    users,
    writer,
)

# ---- the model ---------------------------------------------------------------------------------------------

KEYS: dict[str, tuple[ColumnType, list[Any]]] = {
    "long": (LONG, [0, 1, -1, 2**63 - 1, -(2**63), None]),
    "int": (INT, [0, 1, -(2**31), None]),
    "double": (DOUBLE, [0.0, -0.0, 1.5, math.nan, math.inf, -math.inf, None]),
    "float": (FLOAT, [0.0, 1.5, math.nan, None]),
    "boolean": (BOOLEAN, [True, False, None]),
    "string": (STRING, ["", "a", "a\0b", "é", "x" * 20, "x" * 20 + "y", "k" * 5000, None]),
    "binary": (BINARY, [b"", b"\0", b"\xff" * 20, b"\xff" * 20 + b"a", b"ab", None]),
    "decimal": (
        Decimal(38, 9),
        [Number("0"), Number("1.5"), Number("-99999999999999999999.000000001"), None],
    ),
    "small_decimal": (Decimal(9, 2), [Number("0.01"), Number("-7"), None]),
    "date": (DATE, [date(1, 1, 1), date(2024, 2, 29), date(1969, 12, 31), None]),
    "time": (TIME, [time(0), time(23, 59, 59, 999999), None]),
    "timestamp": (TIMESTAMP, [datetime(1900, 1, 1), datetime(2024, 1, 1, 1, 2, 3, 4), None]),
    "timestamptz": (TIMESTAMPTZ, [datetime(1969, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC), None]),
}


def normal(value: Any) -> Any:
    """The value as the key of a dictionary, where NaN equals NaN and -0.0 equals 0.0."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value + 0.0
    return value


@dataclass
class Model:
    """A table as a dictionary from key to (cursor, payload)."""

    has_cursor: bool
    table: dict[Any, tuple[Any, int]] = field(default_factory=dict)

    def merge(self, staged: list[tuple[Any, Any, bool, int]]) -> None:
        """Apply the rows of a checkpoint: (key, cursor, deleted, payload)."""
        winners: dict[Any, tuple[Any, Any, bool, int]] = {}
        for row in staged:
            best = winners.get(row[0])
            if best is None or not self._newer(best[1], row[1]):
                winners[row[0]] = row
        for key, cursor, deleted, payload in winners.values():
            if key in self.table and self._newer(self.table[key][0], cursor):
                continue
            if deleted:
                self.table.pop(key, None)
            else:
                self.table[key] = (cursor, payload)

    def _newer(self, a: Any, b: Any) -> bool:
        if not self.has_cursor or a is None:
            return False
        return b is None or a > b

    def payloads(self) -> list[int]:
        """What the table holds."""
        return sorted(payload for _, payload in self.table.values())


CURSOR = st.one_of(st.none(), st.integers(0, 3))


@st.composite
def checkpoints(draw: st.DrawFn, values: list[Any]) -> list[tuple[list[tuple[Any, Any, Any, bool]], int]]:
    """Checkpoints: rows (key, second key, cursor, deleted) and how many of them stay behind the mark."""
    row = st.tuples(
        st.sampled_from(values),
        st.sampled_from(["p", "q", None]),
        CURSOR,
        st.integers(0, 4).map(lambda n: n == 0),
    )
    return draw(st.lists(st.tuples(st.lists(row, max_size=12), st.integers(0, 3)), min_size=1, max_size=4))


def run_merge(
    folder: Path,
    type_: ColumnType,
    plan: list[Any],
    *,
    composite: bool,
    cursor: bool,
    nested: bool,
    group: int,
) -> None:
    """Merge the checkpoints into a table and compare it with the model after each."""
    catalog = sql_catalog(folder)
    key_field = Field("k.1", type_)
    wrapped = Field("box", Struct((key_field, Field("other", STRING)))) if nested else key_field
    fields = (wrapped, Field("part", STRING), Field("at", LONG), Field("gone", LONG), Field("payload", LONG))
    table = users(catalog, fields)
    schema = arrow_schema(table.schema())
    path = ("box", "k.1") if nested else ("k.1",)
    key = MergeKey((path, ("part",)) if composite else (path,), ("at",) if cursor else None, ("gone",))
    merge = writer(catalog, "merge", folder, key=key, row_group_rows=group, target_file_bytes=1)
    model = Model(cursor)
    waiting: list[tuple[Any, Any, bool, int]] = []
    payload = 0
    number = 0
    for arrived, behind in [*plan, ([], 0)]:
        number += 1
        records = []
        for value, part, at, gone in arrived:
            payload += 1
            inner = {"k.1": value, "other": None}
            records.append(
                {
                    **({"box": inner} if nested else {"k.1": value}),
                    "part": part,
                    "at": at,
                    "gone": 1 if gone else None,
                    "payload": payload,
                }
            )
            model_key = (normal(value), part) if composite else normal(value)
            waiting.append((model_key, at, gone, payload))
        merge.write(pa.RecordBatch.from_pylist(records, schema=schema))
        cut = max(0, len(waiting) - behind)
        merge.mark(payload - (len(waiting) - cut))
        merge.commit(note(number))
        model.merge(waiting[:cut])
        waiting = waiting[cut:]
        found = users(catalog).scan().to_arrow()
        assert sorted(found["payload"].to_pylist()) == model.payloads()
    assert merge.staged_rows == 0
    merge.discard()
    assert sorted(duckdb_table(users(catalog))["payload"].to_pylist()) == model.payloads()
    assert len(describe(users(catalog)).snapshots) <= number
    on_disk = sum(1 for _ in (folder / "warehouse").rglob("*.parquet"))
    referenced = {
        entry.data_file.file_path
        for snapshot in users(catalog).snapshots()
        for manifest in snapshot.manifests(users(catalog).io)
        for entry in manifest.fetch_manifest_entry(users(catalog).io)
    }
    assert on_disk == len(referenced)
    catalog.close()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_merge_equals_a_dictionary(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any key type, composite and nested keys, cursors, deletes, marks inside files, many small files."""
    type_, values = KEYS[data.draw(st.sampled_from(sorted(KEYS)), label="key type")]
    run_merge(
        tmp_path_factory.mktemp("lake"),
        type_,
        data.draw(checkpoints(values), label="checkpoints"),
        composite=data.draw(st.booleans(), label="composite"),
        cursor=data.draw(st.booleans(), label="cursor"),
        nested=data.draw(st.booleans(), label="nested"),
        group=data.draw(st.integers(1, 8), label="rows per group"),
    )


@pytest.mark.parametrize("group", [1, 100])
@pytest.mark.parametrize("kind", sorted(KEYS))
def test_every_key_type_merges(tmp_path: Path, kind: str, group: int) -> None:
    """Each value of each key type is found again in its file and replaced, null and NaN too."""
    type_, values = KEYS[kind]
    inserted = [(value, "p", 1, False) for value in values]
    replaced = [(value, "p", 2, False) for value in reversed(values)]
    deleted = [(value, "p", 3, True) for value in values[::2]]
    alone = [([(value, "p", 4, False)], 0) for value in values]
    plan = [(inserted, 0), (replaced, 0), (deleted, 0), *alone]
    run_merge(tmp_path, type_, plan, composite=False, cursor=True, nested=False, group=group)


# ---- single cases ------------------------------------------------------------------------------------------


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[FaultyCatalog]:
    """A SQLite catalog that can be told to fail."""
    opened = sql_catalog(tmp_path, FaultyCatalog)
    users(opened)
    yield opened
    opened.close()


def merge(catalog: FaultyCatalog, folder: Path, number: int, *batch: tuple[Any, ...]) -> Any:
    """One merge of one checkpoint."""
    table_writer = writer(catalog, "merge", folder)
    table_writer.write(rows(*batch))
    done = table_writer.finish(note(number))
    table_writer.discard()
    return done


def test_a_merge_reports_what_it_did(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """New versions are written, replaced and deleted rows counted, one snapshot each."""
    merge(catalog, tmp_path, 1, (1, "a", 1), (2, "b", 1), (3, "c", 5))
    done = merge(
        catalog, tmp_path, 2, (1, "A", 2), (2, "gone", 2, 7), (3, "old", 4), (4, "d", 1), (9, "x", 1, 7)
    )
    assert (done.rows_written, done.rows_deleted) == (2, 2)
    assert names(users(catalog)) == [(1, "A"), (3, "c"), (4, "d")]
    assert len(describe(users(catalog)).snapshots) == 2


def test_a_merge_that_changes_nothing_makes_no_snapshot(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """Only older versions, and deletes of keys that are not there."""
    merge(catalog, tmp_path, 1, (1, "a", 5))
    done = merge(catalog, tmp_path, 2, (1, "old", 4), (8, "x", 9, 7))
    assert done.snapshot_id is None
    assert names(users(catalog)) == [(1, "a")]


def test_only_files_that_hold_a_key_are_rewritten(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """Files whose bounds rule the keys out are not touched, and neither are files without a hit."""
    first = writer(catalog, "append", tmp_path, row_group_rows=10, target_file_bytes=1)
    for i in range(5):
        first.write(rows(*((j, "x") for j in range(i * 10, i * 10 + 10))))
    first.finish(note(1))
    before = set(data_paths(users(catalog)))
    assert len(before) == 5
    merge(catalog, tmp_path, 2, (12, "y", 1), (100, "new", 1))
    after = set(data_paths(users(catalog)))
    assert len(before & after) == 4
    assert (12, "y") in names(users(catalog))
    assert len(names(users(catalog))) == 51


def test_keys_over_4_kib_are_found(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """Parquet keeps no bounds for them; a file must not be ruled out by the bounds of its other rows."""
    key = MergeKey((("name",),))
    long_key = "z" * 10_000
    for number, id_ in ((1, 1), (2, 2)):
        table_writer = writer(catalog, "merge", tmp_path, key=key, row_group_rows=1)
        table_writer.write(rows((0, "a")))
        table_writer.write(rows((id_, long_key)))
        table_writer.finish(note(number))
        table_writer.discard()
    assert [id_ for id_, _ in names(users(catalog))] == [0, 2]


def test_a_merge_is_recomputed_when_somebody_commits(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """A row that another writer adds meanwhile under one of our keys is replaced, not doubled."""
    merge(catalog, tmp_path, 1, (1, "a", 1), (2, "b", 1))
    table_writer = writer(catalog, "merge", tmp_path)
    table_writer.write(rows((1, "A", 2), (5, "mine", 2)))

    def other() -> None:
        users(catalog).append(pa.table({"id": [5, 6], "name": ["theirs", "f"], "version": [1, 1]}))

    catalog.faults = [meanwhile(other)]
    done = table_writer.finish(note(2))
    table_writer.discard()
    assert names(users(catalog)) == [(1, "A"), (2, "b"), (5, "mine"), (6, "f")]
    assert done.rows_deleted == 2
    referenced = {
        entry.data_file.file_path
        for snapshot in users(catalog).snapshots()
        for manifest in snapshot.manifests(users(catalog).io)
        for entry in manifest.fetch_manifest_entry(users(catalog).io)
    }
    assert sum(1 for _ in (tmp_path / "warehouse").rglob("*.parquet")) == len(referenced)


def test_rows_deleted_by_another_engine_stay_deleted(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """Position deletes are applied: deleted rows neither match nor come back when their file is rewritten."""
    merge(catalog, tmp_path, 1, (1, "a", 9), (2, "b", 9), (3, "c", 1), (4, "d", 1))
    path = data_paths(users(catalog))[0]
    order = users(catalog).scan().to_arrow()["id"].to_pylist()
    delete_positions(users(catalog), path, [order.index(1), order.index(2)])
    assert names(users(catalog)) == [(3, "c"), (4, "d")]
    merge(catalog, tmp_path, 2, (1, "again", 5), (3, "C", 2))
    assert names(users(catalog)) == [(1, "again"), (3, "C"), (4, "d")]
    found = duckdb_table(users(catalog)).to_pylist()
    assert sorted((r["id"], r["name"]) for r in found) == [(1, "again"), (3, "C"), (4, "d")]


def test_equality_deletes_are_refused_by_a_merge_and_gone_after_an_overwrite(
    catalog: FaultyCatalog, tmp_path: Path
) -> None:
    """What cannot be applied is told before anything is committed; a swap does not need to apply it."""
    merge(catalog, tmp_path, 1, (1, "a", 1))
    path = data_paths(users(catalog))[0]
    delete_positions(users(catalog), path, [0], DataFileContent.EQUALITY_DELETES)
    before = users(catalog).metadata_location
    with pytest.raises(ConfigurationFailed) as caught:
        merge(catalog, tmp_path, 2, (1, "b", 2))
    assert caught.value.code == "equality-deletes"
    assert users(catalog).metadata_location == before
    overwrite = writer(catalog, "overwrite", tmp_path)
    overwrite.write(rows((7, "z", 1)))
    overwrite.finish(note(2))
    assert names(users(catalog)) == [(7, "z")]


def test_duplicates_that_an_append_left_are_replaced_together(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """All rows of a key that are not newer than the winner go."""
    append = writer(catalog, "append", tmp_path)
    append.write(rows((1, "a", 1), (1, "b", 2), (2, "c", 1)))
    append.finish(note(1))
    merge(catalog, tmp_path, 2, (1, "new", 3))
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
    from airberg.lake.note import read_note
    from airberg.lake.writers import WriterSettings, open_writer

    spill = tmp_path / "spill"
    table = users(catalog)
    settings_ = WriterSettings(spill_dir=spill, merge_memory_mb=64, threads=1)
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
    assert done.rows_written == count
    assert spilled > 0
    assert list(spill.iterdir()) == []
