"""One suite for every catalog that the lake writes through: SQLite with a warehouse folder, and in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog

from airberg.columns.types import LONG, Field
from airberg.errors import LeaseHeld
from airberg.lake.catalog import memory_catalog
from airberg.lake.note import read_note
from airberg.lake.schema import schema_changes
from airberg.lake.tables import describe, ensure_table, evolve, find_table
from support.duckdb_reader import duckdb_rows
from support.lake_tables import FIELDS, JOB, NAMESPACE, names, note, rows, sql_catalog, users, writer


@pytest.fixture(params=["sql", "memory"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    """A catalog of each kind."""
    opened = sql_catalog(tmp_path) if request.param == "sql" else memory_catalog(tmp_path / "warehouse")
    yield opened
    opened.close()


def test_a_table_is_made_with_its_nested_namespace_and_found_again(catalog: Catalog) -> None:
    """`ensure_table` makes what is missing, and only once."""
    assert find_table(catalog, ("a", "b"), "t") is None
    made = ensure_table(catalog, ("a", "b"), "t", FIELDS, {"owner": "me"})
    again = ensure_table(catalog, ("a", "b"), "t", FIELDS)
    assert made.metadata.table_uuid == again.metadata.table_uuid
    assert again.properties["owner"] == "me"
    assert again.metadata.format_version == 2
    found = find_table(catalog, ("a", "b"), "t")
    assert found is not None
    assert found.metadata_location == again.metadata_location


def test_each_mode_leaves_what_it_promises(catalog: Catalog, tmp_path: Path) -> None:
    """Append adds, merge replaces by key, overwrite swaps; state and rows arrive together."""
    append = writer(catalog, "append", tmp_path)
    append.write(rows((1, "a", 1), (2, "b", 1)))
    append.finish(note(1, state={"cursor": 1}))
    merge = writer(catalog, "merge", tmp_path)
    merge.write(rows((2, "B", 2), (3, "c", 1)))
    merge.finish(note(2, state={"cursor": 2}))
    merge.discard()
    assert names(users(catalog)) == [(1, "a"), (2, "B"), (3, "c")]
    overwrite = writer(catalog, "overwrite", tmp_path)
    overwrite.write(rows((7, "z", 1)))
    overwrite.finish(note(3, state={"cursor": 3}))
    table = users(catalog)
    assert names(table) == [(7, "z")]
    assert [row["id"] for row in duckdb_rows(table)] == [7]
    found = read_note(table, JOB)
    assert found is not None
    assert found.state == {"cursor": 3}
    assert [s.operation for s in describe(table).snapshots] == ["append", "overwrite", "overwrite"]


def test_an_append_rebases_on_a_commit_of_somebody_else(catalog: Catalog, tmp_path: Path) -> None:
    """Two jobs append to one table from the same snapshot; both arrive, each with its own note."""
    users(catalog)
    mine, other = writer(catalog, "append", tmp_path), writer(catalog, "append", tmp_path, job="other")
    mine.write(rows((1, "mine")))
    other.write(rows((2, "other")))
    other.finish(note(1))
    mine.finish(note(1))
    table = users(catalog)
    assert names(table) == [(1, "mine"), (2, "other")]
    assert read_note(table, JOB) is not None
    assert read_note(table, "other") is not None


def test_a_run_that_was_overtaken_cannot_commit(catalog: Catalog, tmp_path: Path) -> None:
    """Of two runs of a job that began from the same note, the second to commit is refused."""
    users(catalog)
    zombie, heir = writer(catalog, "append", tmp_path), writer(catalog, "append", tmp_path)
    zombie.write(rows((1, "zombie")))
    heir.write(rows((2, "heir")))
    heir.finish(note(1, run="run-2"))
    with pytest.raises(LeaseHeld):
        zombie.finish(note(1, run="run-1"))
    assert names(users(catalog)) == [(2, "heir")]


def test_a_schema_grows_and_old_rows_are_null(catalog: Catalog, tmp_path: Path) -> None:
    """A new column is added in place; rows written before it read as null."""
    append = writer(catalog, "append", tmp_path)
    append.write(rows((1, "a")))
    append.finish(note(1))
    table = users(catalog)
    wanted = (*FIELDS, Field("age", LONG))
    table = evolve(table, schema_changes(table.schema(), wanted))
    assert [f.name for f in table.schema().fields][-1] == "age"
    assert find_table(catalog, NAMESPACE, "users").scan().to_arrow()["age"].to_pylist() == [None]  # type: ignore[union-attr]
