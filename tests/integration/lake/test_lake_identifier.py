"""Identifier fields: required columns that every engine reads, and nulls that they give way to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from airberg.columns.types import INT, LONG, STRING, Field
from airberg.errors import ConfigurationFailed, TransientFailed
from airberg.lake.identifier import IDENTIFIER_PROPERTY, RequiredColumns, refuse_nulls
from airberg.lake.layout import sort_texts
from airberg.lake.schema import AddedColumn, PromotedColumn, schema_changes
from airberg.lake.tables import ensure_table, evolve
from airberg.lake.writers import MergeKey
from support.duckdb_reader import duckdb_rows
from support.lake_tables import (
    NAMESPACE,
    FaultyCatalog,
    data_paths,
    meanwhile,
    note,
    sql_catalog,
    writer,
)
from support.partitions import by, sorted_by

FIELDS = (Field("id", LONG), Field("part", STRING), Field("name", STRING))
PATHS = (("id",), ("part",))
KEY = MergeKey(columns=PATHS)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Any]:
    """A SQLite catalog."""
    catalog = sql_catalog(tmp_path)
    yield catalog
    catalog.close()


def made(catalog: Catalog, fields: tuple[Field, ...] = FIELDS, name: str = "users", **more: Any) -> Table:
    """A table whose rows are identified by `id` and `part`, in the order of these."""
    order = [sorted_by(path[0]) for path in PATHS]
    return ensure_table(catalog, NAMESPACE, name, fields, identifier=PATHS, key_order=order, **more)


def batch(*rows: tuple[Any, Any, Any]) -> pa.RecordBatch:
    """Rows of `id`, `part`, `name`."""
    types = (pa.int64(), pa.string(), pa.string())
    columns = list(zip(*rows, strict=True)) or [()] * 3
    arrays = [pa.array(values, type_) for values, type_ in zip(columns, types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=["id", "part", "name"])


def found(table: Table) -> list[tuple[Any, Any, Any]]:
    """All rows as pyiceberg reads them, which have to be those that DuckDB reads."""
    ours = [
        tuple(r[c] for c in ("id", "part", "name")) for r in table.refresh().scan().to_arrow().to_pylist()
    ]
    theirs = [tuple(r[c] for c in ("id", "part", "name")) for r in duckdb_rows(table)]
    assert sorted(ours, key=repr) == sorted(theirs, key=repr)
    return sorted(ours, key=repr)


def required(table: Table) -> list[str]:
    """Names of the required columns."""
    return [field.name for field in table.schema().fields if field.required]


@pytest.mark.parametrize("version", [2, 3])
def test_both_engines_read_a_table_with_identifier_fields(
    catalog: Catalog, tmp_path: Path, version: int
) -> None:
    """Over merges that replace and delete rows; the files have required columns as well."""
    table = made(catalog, properties={"format-version": str(version)})
    assert (table.metadata.format_version, required(table)) == (version, ["id", "part"])
    assert table.schema().identifier_field_names() == {"id", "part"}
    assert table.properties[IDENTIFIER_PROPERTY] == "primary-key"
    assert sort_texts(table) == ["id asc nulls first", "part asc nulls first"]
    merging = writer(catalog, "merge", tmp_path, table=table, key=KEY)
    merging.write(batch((2, "b", "two"), (1, "a", "one"), (3, "c", "three")))
    merging.finish(note(1))
    merging.discard()
    merging = writer(catalog, "merge", tmp_path, table=table.refresh(), key=KEY)
    merging.write(batch((2, "b", "TWO"), (4, "d", "four")))
    merging.finish(note(2, run="run-2"))
    assert found(table) == [(1, "a", "one"), (2, "b", "TWO"), (3, "c", "three"), (4, "d", "four")]
    merging.discard()
    for path in data_paths(table):
        schema = pq.read_schema(path)
        assert [schema.field(name).nullable for name in ("id", "part", "name")] == [False, False, True]


@pytest.mark.parametrize("mode", ["append", "overwrite", "merge"])
@pytest.mark.parametrize("null", [(None, "x", "hush"), (9, None, "hush")])
def test_a_null_opens_the_table_and_the_next_run_writes_it(
    catalog: Catalog, tmp_path: Path, mode: str, null: tuple[Any, Any, Any]
) -> None:
    """In one commit of the schema alone; what was committed stays, the row that had no place is written."""
    table = made(catalog)
    first = writer(catalog, "append", tmp_path, table=table, key=KEY)
    first.write(batch((1, "a", "one")))
    first.finish(note(1))
    again = writer(catalog, mode, tmp_path, table=table.refresh(), key=KEY)
    again.write(batch((2, "b", "two")))
    before = catalog.load_table(table.name())
    with pytest.raises(TransientFailed) as caught:
        again.write(batch((3, "c", "three"), null))
    assert caught.value.code == "key-without-value"
    assert repr("id" if null[0] is None else "part") in caught.value.message
    assert "hush" not in caught.value.message
    assert again.staged_rows == 1
    again.discard()
    after = catalog.load_table(table.name())
    assert len(after.metadata.metadata_log) == len(before.metadata.metadata_log) + 1
    assert after.metadata.current_snapshot_id == before.metadata.current_snapshot_id
    assert (required(after), after.schema().identifier_field_ids) == ([], [])
    assert IDENTIFIER_PROPERTY not in after.properties
    assert found(table) == [(1, "a", "one")]
    retry = writer(catalog, mode, tmp_path, table=after, key=KEY)
    retry.write(batch((2, "b", "two")))
    retry.write(batch((3, "c", "three"), null))
    retry.finish(note(2, run="run-2"))
    expected = [(2, "b", "two"), (3, "c", "three"), null]
    assert found(table) == sorted([*([] if mode == "overwrite" else [(1, "a", "one")]), *expected], key=repr)
    retry.discard()


def test_nulls_are_one_key_after_the_table_gave_way(catalog: Catalog, tmp_path: Path) -> None:
    """As ever in a merge."""
    table = made(catalog)
    with pytest.raises(TransientFailed):
        writer(catalog, "merge", tmp_path, table=table, key=KEY).write(batch((None, "x", "old")))
    for number, name in ((1, "old"), (2, "new")):
        table = catalog.load_table(table.name())
        merging = writer(catalog, "merge", tmp_path, table=table, key=KEY)
        merging.write(batch((None, "x", name)))
        merging.finish(note(number, run=f"run-{number}"))
        merging.discard()
    assert found(table) == [(None, "x", "new")]


def test_a_column_that_is_not_sent_has_no_value(catalog: Catalog, tmp_path: Path) -> None:
    """A batch may leave columns out; not required ones. A batch without rows lacks nothing."""
    table = made(catalog)
    check = RequiredColumns(table)
    assert check.without_value(batch()) == []
    assert check.without_value(batch().select(["name"])) == []
    assert check.without_value(batch((1, "a", None))) == []
    assert check.without_value(batch((None, None, "x"))) == ["id", "part"]
    appending = writer(catalog, "append", tmp_path, table=table)
    with pytest.raises(TransientFailed, match="'part'"):
        appending.write(batch((1, "a", "one")).select(["id", "name"]))
    assert appending.staged_rows == 0


def test_what_others_require_is_not_made_optional(catalog: Catalog, tmp_path: Path) -> None:
    """Their rule stands: the run fails, the table is as it was."""
    table = made(catalog)
    with table.transaction() as transaction:
        transaction.remove_properties(IDENTIFIER_PROPERTY)
    appending = writer(catalog, "append", tmp_path, table=table)
    with pytest.raises(ConfigurationFailed) as caught:
        appending.write(batch((None, "a", "one")))
    assert caught.value.code == "column-required"
    assert required(catalog.load_table(table.name())) == ["id", "part"]


def test_two_runs_that_find_nulls_at_once(catalog: Catalog, tmp_path: Path) -> None:
    """The second one finds the table open already, or its commit loses: both are told to run again."""
    table = made(catalog)
    one = writer(catalog, "append", tmp_path, table=table, job="0198f0a0-0000-7000-8000-00000000000a")
    two = writer(catalog, "append", tmp_path, table=table, job="0198f0a0-0000-7000-8000-00000000000b")
    for writing, row in ((one, (None, "a", "x")), (two, (1, None, "x"))):
        with pytest.raises(TransientFailed, match="no identifier fields any more"):
            writing.write(batch(row))
    assert len(catalog.load_table(table.name()).metadata.schemas) == 2


def test_a_schema_that_changes_meanwhile(tmp_path: Path) -> None:
    """The next run finds what is there then, and its null again."""
    catalog = sql_catalog(tmp_path, FaultyCatalog)
    table = made(catalog)
    catalog.faults.append(meanwhile(lambda: evolve(table, [AddedColumn(("more",), LONG)])))
    with pytest.raises(TransientFailed) as caught:
        refuse_nulls(catalog, table, ["id"])
    assert caught.value.code == "schema-changed"
    assert required(catalog.load_table(table.name())) == ["id", "part"]
    catalog.close()


def test_a_table_that_was_dropped(catalog: Catalog, tmp_path: Path) -> None:
    """Is said to be."""
    table = made(catalog)
    appending = writer(catalog, "append", tmp_path, table=table)
    catalog.drop_table(table.name())
    with pytest.raises(ConfigurationFailed) as caught:
        appending.write(batch((None, "a", "x")))
    assert caught.value.code == "table-replaced"


def test_a_table_with_identifier_fields_evolves(catalog: Catalog, tmp_path: Path) -> None:
    """Columns come, identifier fields become wider and stay what they are."""
    table = made(catalog, (Field("id", INT), *FIELDS[1:]))
    changes = schema_changes(table.schema(), (*FIELDS, Field("more", LONG)))
    assert changes == (PromotedColumn(("id",), INT, LONG), AddedColumn(("more",), LONG))
    table = evolve(table, changes)
    assert (required(table), table.schema().identifier_field_names()) == (["id", "part"], {"id", "part"})
    appending = writer(catalog, "append", tmp_path, table=table)
    appending.write(batch((2**40, "a", "one")))
    appending.finish(note(1))
    assert found(table) == [(2**40, "a", "one")]


def test_a_source_that_no_longer_has_the_key_is_refused(catalog: Catalog) -> None:
    """Before anything is written."""
    table = made(catalog)
    with pytest.raises(ConfigurationFailed) as caught:
        schema_changes(table.schema(), FIELDS[1:])
    assert caught.value.code == "column-required"
    assert "the source does not have it" in caught.value.message


def test_a_table_that_exists_keeps_its_columns_and_its_order(catalog: Catalog, caplog: Any) -> None:
    """An order that nobody asked for is not missed."""
    ensure_table(catalog, NAMESPACE, "users", FIELDS)
    table = made(catalog)
    assert (required(table), sort_texts(table), table.schema().identifier_field_ids) == ([], [], [])
    assert caplog.text == ""
    made(catalog, sort_by=[sorted_by("name")])
    assert "keeps what it has" in caplog.text


def test_an_order_that_is_asked_for_comes_before_that_by_key(catalog: Catalog) -> None:
    """With partitions beside it."""
    table = made(catalog, sort_by=[sorted_by("name")], partition_by=[by("bucket", "id", 2)])
    assert sort_texts(table) == ["name asc nulls first"]


keys = st.tuples(st.none() | st.integers(0, 3), st.none() | st.sampled_from(["a", "b"]))


@given(batches=st.lists(st.lists(keys, max_size=4), max_size=4))
@settings(max_examples=25, deadline=None)
def test_no_null_is_in_a_required_column_and_no_row_is_lost(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[Any, Any]]]
) -> None:
    """Whatever comes in whatever order: at most one repetition, then all keys are there."""
    folder = tmp_path_factory.mktemp("nulls")
    catalog = sql_catalog(folder)
    table = made(catalog)
    refused = 0
    for attempt in range(1, 4):
        merging = writer(catalog, "merge", folder, table=table, key=KEY)
        try:
            for number, arrived in enumerate(batches):
                merging.write(batch(*((id_, part, str(number)) for id_, part in arrived)))
            merging.finish(note(1, attempt=attempt))
        except TransientFailed:
            refused += 1
            table = catalog.load_table(table.name())
            continue
        finally:
            merging.discard()
        break
    expected = {key: str(number) for number, arrived in enumerate(batches) for key in arrived}
    assert refused == any(None in key for key in expected)
    assert {row[:2]: row[2] for row in found(table)} == expected
    assert len(found(table)) == len(expected)
    catalog.close()
