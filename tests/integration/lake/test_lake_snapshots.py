"""Snapshots: manifests and lists of every version, as pyiceberg and DuckDB read them, and their totals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pytest
from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.manifest import ManifestContent
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.update import SetSnapshotRefUpdate

from airberg.lake.deletes import open_delete_writer
from airberg.lake.files import DataFileWriter
from airberg.lake.live import current_entries, live_files
from airberg.lake.manifests import first_row_id, read_entries, read_manifest_list
from airberg.lake.snapshots import FileChanges, prepare
from support.duckdb_reader import duckdb_rows
from support.lake_tables import names, rows, sql_catalog, users


def added(table: Table, *batch: tuple[Any, ...]) -> tuple[Any, ...]:
    """A data file with these rows."""
    writer = DataFileWriter(table)
    writer.write(rows(*batch))
    return writer.close()


def deletes(table: Table, **gone: list[int]) -> tuple[Any, ...]:
    """Delete files for live data files, by their number of rows: `r3=[0]` is for the one with three."""
    writer = open_delete_writer(table)
    for name, positions in gone.items():
        live = next(f for f in live_files(table) if f.file.record_count == int(name[1:]))
        writer.add(live.file, pa.array(positions, pa.int64()))
    return tuple(writer.close())


def commit(table: Table, **changes: Any) -> Table:
    """Commit and load again."""
    return prepare(table, FileChanges(**changes), {"seen": "yes"}, {"by": "test"}).send().refresh()


def metadata_of(table: Table) -> dict[str, Any]:
    """The metadata file as JSON."""
    loaded: dict[str, Any] = json.loads(
        Path(unquote(table.metadata_location.removeprefix("file://"))).read_text()
    )
    return loaded


@pytest.mark.parametrize("version", [1, 2, 3])
def test_data_files_come_and_go_in_every_version(tmp_path: Path, version: int) -> None:
    """Added, kept beside others in a rewritten manifest, removed; both engines agree."""
    table = users(sql_catalog(tmp_path), version=version)
    assert table.metadata.format_version == version
    table = commit(table, added=(*added(table, (1, "a"), (2, "b")), *added(table, (3, "c"))))
    table = commit(table, added=added(table, (4, "d"), (5, "e"), (6, "f")))
    one = next(f.file for f in live_files(table) if f.file.record_count == 1)
    table = commit(table, removed=(one,), added=added(table, (7, "g")))
    assert names(table) == [(1, "a"), (2, "b"), (4, "d"), (5, "e"), (6, "f"), (7, "g")]
    assert sorted(row["id"] for row in duckdb_rows(table)) == [1, 2, 4, 5, 6, 7]
    summary = table.metadata.snapshots[-1].summary
    assert summary is not None
    assert summary["total-records"] == "6"
    assert summary["total-data-files"] == "3"
    assert (summary["deleted-records"], summary["added-records"], summary["by"]) == ("1", "1", "test")
    assert table.properties["seen"] == "yes"


@pytest.mark.parametrize("version", [2, 3])
def test_row_deletes_are_replaced_and_dropped(tmp_path: Path, version: int) -> None:
    """Deletes of a file, more deletes of it in their place, the file with its deletes; totals follow."""
    table = users(sql_catalog(tmp_path), version=version)
    table = commit(table, added=added(table, (1, "a"), (2, "b"), (3, "c")))
    table = commit(table, deletes_added=deletes(table, r3=[0]), added=added(table, (1, "A"), (9, "i")))
    assert names(table) == [(1, "A"), (2, "b"), (3, "c"), (9, "i")]
    first = next(f for f in live_files(table) if f.deletes)
    table = commit(table, deletes_added=deletes(table, r3=[0, 2]), deletes_removed=first.delete_files)
    assert names(table) == [(1, "A"), (2, "b"), (9, "i")]
    assert sorted(row["id"] for row in duckdb_rows(table)) == [1, 2, 9]
    summary = table.metadata.snapshots[-1].summary
    assert summary is not None
    assert (summary["total-position-deletes"], summary["total-delete-files"]) == ("2", "1")
    assert summary.operation.value == "delete"
    assert summary["added-dvs"] == ("1" if version == 3 else None)
    second = next(f for f in live_files(table) if f.deletes)
    table = commit(table, removed=(second.file,), deletes_removed=second.delete_files)
    assert names(table) == [(1, "A"), (9, "i")]
    assert [m.content for m, _ in current_entries(table)] == [ManifestContent.DATA]


def test_rows_of_version_3_have_ids(tmp_path: Path) -> None:
    """Every data file knows its first row id, also one that was rewritten into another manifest."""
    table = users(sql_catalog(tmp_path), version=3)
    assert metadata_of(table)["next-row-id"] == 0
    table = commit(table, added=(*added(table, (1, "a"), (2, "b")), *added(table, (3, "c"))))
    table = commit(table, added=added(table, (4, "d"), (5, "e"), (6, "f")))
    ids = {f.file.record_count: first_row_id(f.file) for f in live_files(table)}
    assert ids == {2: 0, 1: 2, 3: 3}
    one = next(f.file for f in live_files(table) if f.file.record_count == 1)
    table = commit(table, removed=(one,))
    assert {f.file.record_count: first_row_id(f.file) for f in live_files(table)} == {2: 0, 3: 3}
    written = metadata_of(table)
    snapshots = {s["snapshot-id"]: (s["first-row-id"], s["added-rows"]) for s in written["snapshots"]}
    # A rewritten manifest is given ids for all its rows, though its files keep theirs.
    assert list(snapshots.values()) == [(0, 3), (3, 3), (6, 2)]
    assert written["next-row-id"] == 8


@pytest.mark.parametrize("version", [2, 3])
def test_manifests_are_written_anew_as_fewer(tmp_path: Path, version: int) -> None:
    """The same files in one manifest a kind, with their own sequence numbers: deletes apply as before."""
    table = users(sql_catalog(tmp_path), version=version)
    for i in range(3):
        table = commit(table, added=added(table, *((10 * i + j, "x") for j in range(i + 1))))
    table = commit(table, deletes_added=deletes(table, r3=[1]))
    before = {f.file.file_path: (f.entry.sequence_number, len(f.deletes)) for f in live_files(table)}
    found = read_manifest_list(table.io, table.current_snapshot())
    assert len(found) == 4
    table = commit(table, manifests=tuple(found), same_rows=True)
    after = read_manifest_list(table.io, table.current_snapshot())
    assert sorted(m.content for m in after) == [ManifestContent.DATA, ManifestContent.DELETES]
    assert {f.file.file_path: (f.entry.sequence_number, len(f.deletes)) for f in live_files(table)} == before
    assert len(names(table)) == len(duckdb_rows(table)) == 5
    summary = table.metadata.snapshots[-1].summary
    assert summary is not None
    assert summary.operation.value == "replace"
    assert summary["total-records"] == "6"
    assert all(e.snapshot_id for m in after for e in read_entries(table.io, m))


def test_a_file_that_is_not_there_cannot_be_removed(tmp_path: Path) -> None:
    """The attempt fails before it is sent, and leaves no manifest behind."""
    table = users(sql_catalog(tmp_path))
    table = commit(table, added=added(table, (1, "a")))
    stranger = added(table, (2, "b"))
    before = sorted(path.name for path in tmp_path.rglob("*.avro"))
    with pytest.raises(ValidationException, match="1 files to remove"):
        prepare(table, FileChanges(removed=stranger), {}, {})
    assert sorted(path.name for path in tmp_path.rglob("*.avro")) == before


def test_two_attempts_on_one_snapshot_cannot_both_land(tmp_path: Path) -> None:
    """The second one is refused by the catalog, and cleans up its own manifests only."""
    catalog = sql_catalog(tmp_path)
    table = commit(users(catalog), added=added(users(catalog), (1, "a")))
    first = prepare(table, FileChanges(added=added(table, (2, "b"))), {}, {})
    second = prepare(users(catalog), FileChanges(added=added(table, (3, "c"))), {}, {})
    first.send()
    with pytest.raises(CommitFailedException):
        second.send()
    second.clean()
    assert names(table) == [(1, "a"), (2, "b")]


def test_the_retention_of_a_branch_stays(tmp_path: Path) -> None:
    """How long `main` keeps its snapshots was set by somebody; a commit does not change it."""
    table = users(sql_catalog(tmp_path))
    table = commit(table, added=added(table, (1, "a")))
    with table.transaction() as transaction:
        transaction._stage(
            (
                SetSnapshotRefUpdate(
                    ref_name=MAIN_BRANCH,
                    type="branch",
                    snapshot_id=table.metadata.current_snapshot_id,
                    min_snapshots_to_keep=7,
                    max_snapshot_age_ms=1000,
                    max_ref_age_ms=None,
                ),
            )
        )
    table = commit(table.refresh(), added=added(table, (2, "b")))
    main = table.metadata.refs[MAIN_BRANCH]
    assert (main.min_snapshots_to_keep, main.max_snapshot_age_ms) == (7, 1000)
