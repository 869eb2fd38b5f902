"""Expiry, orphans and manifests of real tables: exactly what should go goes."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from pyiceberg.io.fsspec import FsspecFileIO
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table
from pyiceberg.table.statistics import StatisticsFile

from airberg.errors import ConfigurationFailed
from airberg.lake.note import Note, note_update, read_note
from airberg.lake.promise import Promise, PromisedFile, keep_aside
from airberg.lake.upkeep.compact import compact
from airberg.lake.upkeep.expire import Expired, expire, expiry_plan
from airberg.lake.upkeep.neighbours import survey
from airberg.lake.upkeep.orphans import Orphans, orphans
from airberg.lake.upkeep.policy import DAY_MS, Policy
from airberg.lake.upkeep.storage import FolderReader
from support.crash_points import crash_at
from support.duckdb_reader import duckdb_rows
from support.lake_tables import (
    JOB,
    NAMESPACE,
    FaultyCatalog,
    fail_after,
    meanwhile,
    names,
    note,
    rows,
    sql_catalog,
    users,
    writer,
)

KEEP_ONE = Policy(expire_age_ms=DAY_MS, expire_keep=1, min_input_files=2)
TOMORROW = int(time.time() * 1000) + 2 * DAY_MS


def no_pause(_seconds: float) -> None:
    """Do not wait."""


def append(catalog: Any, tmp_path: Path, count: int, table: Table | None = None, first: int = 1) -> Table:
    """A commit with two rows for each number."""
    for number in range(first, first + count):
        appending = writer(catalog, "append", tmp_path, table=table)
        appending.write(rows((number * 2, f"n{number * 2}"), (number * 2 + 1, f"n{number * 2 + 1}")))
        appending.finish(note(number))
        table = appending.table
    assert table is not None
    return table.refresh()


def compacted(catalog: Any, tmp_path: Path, count: int = 4) -> Table:
    """A table whose first commits were compacted."""
    table = append(catalog, tmp_path, count)
    compact(catalog, table, KEEP_ONE, spill_dir=tmp_path, pause=no_pause)
    return table.refresh()


def on_disk(table: Table) -> set[str]:
    """All files in a table's folder."""
    folder = Path(unquote(table.location().removeprefix("file://")))
    return {f"file://{path}" for path in folder.rglob("*") if path.is_file()}


def named(table: Table) -> set[str]:
    """All files that a table names, as pyiceberg reads it."""
    found = {table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)}
    for snapshot in table.snapshots():
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            found.add(manifest.manifest_path)
            found |= {entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io)}
    return found


def expire_all(catalog: Any, table: Table, policy: Policy = KEEP_ONE) -> Expired:
    """Expire as if it were the day after tomorrow."""
    return expire(catalog, table, policy, now_ms=TOMORROW, pause=no_pause)


# ---- expiry ------------------------------------------------------------------------------------------------


def test_exactly_the_files_go_that_only_old_snapshots_reach(tmp_path: Path) -> None:
    """What is left is what the table names, no more and no less."""
    catalog = sql_catalog(tmp_path)
    table = compacted(catalog, tmp_path)
    properties, expected = table.properties, names(table)
    current = table.metadata.current_snapshot_id
    done = expire_all(catalog, table)
    table = table.refresh()
    assert done.snapshots == 4
    # four data files, a manifest and a list for each append; the manifest that marks them as removed stays
    assert (done.files_deleted, done.files_failed) == (12, 0)
    assert table.metadata.current_snapshot_id == current
    assert table.properties == properties
    assert on_disk(table) == named(table)
    assert names(table) == expected
    assert len(duckdb_rows(table)) == len(expected)
    assert expire_all(catalog, table) == Expired()


def test_files_that_a_younger_snapshot_still_has_stay(tmp_path: Path) -> None:
    """Appends share the files of those before."""
    catalog = sql_catalog(tmp_path)
    table = append(catalog, tmp_path, 5)
    done = expire_all(catalog, table)
    assert (done.snapshots, done.files_deleted) == (4, 4)  # manifest lists only
    assert len(names(table)) == 10
    assert on_disk(table.refresh()) == named(table)


def test_tags_branches_and_young_snapshots_stay(tmp_path: Path) -> None:
    """And their rows can be read."""
    catalog = sql_catalog(tmp_path)
    table = append(catalog, tmp_path, 6)
    ids = [snapshot.snapshot_id for snapshot in table.snapshots()]
    table.manage_snapshots().create_tag(ids[1], "kept").create_branch(ids[2], "old").commit()
    compact(catalog, table.refresh(), KEEP_ONE, spill_dir=tmp_path, pause=no_pause)
    table = table.refresh()
    assert expiry_plan(table, KEEP_ONE, int(time.time() * 1000)).snapshots == ()
    done = expire_all(catalog, table)
    table = table.refresh()
    left = {snapshot.snapshot_id for snapshot in table.snapshots()}
    assert left == {ids[1], ids[2], table.metadata.current_snapshot_id}
    assert done.snapshots == 4
    assert table.scan(snapshot_id=ids[1]).to_arrow().num_rows == 4
    assert table.scan(snapshot_id=ids[2]).to_arrow().num_rows == 6
    assert on_disk(table) == named(table)


def test_a_table_that_says_so_keeps_its_files(tmp_path: Path) -> None:
    """`gc.enabled=false`: its files may be those of another table too."""
    catalog = sql_catalog(tmp_path)
    table = compacted(catalog, tmp_path)
    before = on_disk(table)
    done = expire_all(catalog, table, Policy(expire_age_ms=1, expire_keep=1, delete_allowed=False))
    assert (done.snapshots, done.files_deleted) == (4, 0)
    assert before <= on_disk(table)


def test_statistics_go_with_their_snapshots(tmp_path: Path) -> None:
    """Those of a snapshot that stays are no orphans either."""
    catalog = sql_catalog(tmp_path)
    table = append(catalog, tmp_path, 2)
    old, new = (snapshot.snapshot_id for snapshot in table.snapshots())
    paths = {}
    for id_ in (old, new):
        paths[id_] = put(table, f"metadata/{id_}.stats")
        file = StatisticsFile(
            snapshot_id=id_,
            statistics_path=paths[id_],
            file_size_in_bytes=9,
            file_footer_size_in_bytes=1,
            blob_metadata=[],
        )
        with table.update_statistics() as update:
            update.set_statistics(file)
    assert find(catalog, table.refresh()).files == 0
    assert expire_all(catalog, table.refresh()).snapshots == 1
    table = table.refresh()
    assert paths[old] not in on_disk(table)
    assert paths[new] in on_disk(table)
    assert find(catalog, table).files == 0
    assert paths[new] in on_disk(table)


def test_a_commit_meanwhile_is_seen(tmp_path: Path) -> None:
    """Somebody appends, or tags what was about to go: it is planned again."""
    catalog: FaultyCatalog = sql_catalog(tmp_path, FaultyCatalog)
    table = compacted(catalog, tmp_path)
    oldest = table.snapshots()[0].snapshot_id

    def act() -> None:
        append(catalog, tmp_path, 1, users(catalog), first=5)
        users(catalog).manage_snapshots().create_tag(oldest, "now").commit()

    catalog.faults = [meanwhile(act)]
    done = expire_all(catalog, table)
    table = table.refresh()
    assert done.snapshots == 4  # the tag keeps one, the compaction goes instead
    assert table.scan(snapshot_id=oldest).to_arrow().num_rows == 2
    assert len(names(table)) == 10
    assert on_disk(table) == named(table)


def test_a_lost_answer_of_an_expiry(tmp_path: Path) -> None:
    """It landed: the files go."""
    catalog: FaultyCatalog = sql_catalog(tmp_path, FaultyCatalog)
    table = compacted(catalog, tmp_path)
    catalog.faults = [fail_after(ConnectionError("the line is dead"))]
    assert expire_all(catalog, table).snapshots == 4
    assert on_disk(table.refresh()) == named(table.refresh())


def test_a_crash_of_an_expiry_leaves_files_that_orphans_finds(tmp_path: Path) -> None:
    """The table can be read, and nothing is left over in the end."""
    catalog = sql_catalog(tmp_path)
    table = compacted(catalog, tmp_path)
    expected = names(table)
    with crash_at(0, "snapshots-expired") as point:
        expire_all(catalog, table)
    assert point.hit is not None
    table = table.refresh()
    assert names(table) == expected
    assert on_disk(table) > named(table)
    found = find(catalog, table)
    assert (found.deleted, found.failed) == (12, 0)
    assert on_disk(table) == named(table)
    assert names(table) == expected


def test_files_that_are_gone_already_are_no_hindrance(tmp_path: Path) -> None:
    """A manifest list, a manifest and a data file of an old snapshot were deleted by somebody."""
    catalog = sql_catalog(tmp_path)
    table = compacted(catalog, tmp_path)
    first, second, third, *_ = table.snapshots()
    for path in (
        first.manifest_list,
        second.manifests(table.io)[0].manifest_path,
        third.manifests(table.io)[0].fetch_manifest_entry(table.io)[0].data_file.file_path,
    ):
        table.io.delete(path)
    done = expire_all(catalog, table)
    assert (done.snapshots, done.files_failed) == (4, 0)
    assert len(names(table)) == 8


# ---- orphans -----------------------------------------------------------------------------------------------

AGE = Policy(orphan_age_ms=DAY_MS)


def find(catalog: Any, table: Table, *, dry_run: bool = False, **more: Any) -> Orphans:
    """Look for orphans as if it were the day after tomorrow."""
    return orphans(catalog, table, AGE, survey(catalog), dry_run=dry_run, **({"now_ms": TOMORROW} | more))


def put(table: Table, name: str, content: bytes = b"left over") -> str:
    """A file in the table's folder that nothing names."""
    location = f"{table.location()}/{name}"
    Path(unquote(location.removeprefix("file://"))).parent.mkdir(parents=True, exist_ok=True)
    with table.io.new_output(location).create() as sink:
        sink.write(content)
    return location


def test_exactly_the_orphans_go(tmp_path: Path) -> None:
    """Files of all kinds; a dry run only counts them."""
    catalog = sql_catalog(tmp_path)
    table = compacted(catalog, tmp_path)
    lost = {
        put(table, name)
        for name in (
            "data/lost.parquet",
            "data/day=1/lost.orc",
            "data/_airbyte_day=1/lost.parquet",
            "metadata/lost.avro",
            "metadata/00000-lost.metadata.json",
            "data/lost.puffin",
        )
    }
    spared = {
        put(table, name) for name in ("README.txt", "data/_temporary/x.parquet", "data/.hidden.parquet")
    }
    spared |= {put(table, "metadata/version-hint.text")}
    before = on_disk(table)
    found = find(catalog, table, dry_run=True)
    assert (found.files, found.bytes, found.deleted) == (len(lost), 9 * len(lost), 0)
    assert set(found.examples) == lost
    assert on_disk(table) == before
    found = find(catalog, table)
    assert (found.files, found.deleted, found.failed) == (len(lost), len(lost), 0)
    assert on_disk(table) == named(table) | spared
    assert len(names(table)) == 8
    assert find(catalog, table).files == 0


def test_young_files_stay(tmp_path: Path) -> None:
    """They may be those of a sync that has not committed yet: here one has not."""
    catalog = sql_catalog(tmp_path)
    table = append(catalog, tmp_path, 2)
    old = put(table, "data/old.parquet")
    long_ago = time.time() - 3 * 86_400
    os.utime(unquote(old.removeprefix("file://")), (long_ago, long_ago))
    staging = writer(catalog, "append", tmp_path, table=table, row_group_rows=1, target_file_bytes=1)
    staging.write(rows((100, "n100"), (101, "n101")))
    found = find(catalog, table, now_ms=None)
    assert (found.files, found.examples) == (1, (old,))
    staging.finish(note(3))
    assert (100, "n100") in names(table)


def test_an_age_that_is_not_safe_is_refused(tmp_path: Path) -> None:
    """Unless it is forced."""
    catalog = sql_catalog(tmp_path)
    table = append(catalog, tmp_path, 1)
    put(table, "data/lost.parquet")
    policy = Policy(orphan_age_ms=DAY_MS - 1)
    with pytest.raises(ConfigurationFailed, match="younger than a day") as refused:
        orphans(catalog, table, policy, survey(catalog))
    assert refused.value.code == "orphan-age"
    found = orphans(catalog, table, Policy(orphan_age_ms=0), survey(catalog), force=True, now_ms=TOMORROW)
    assert found.deleted == 1


@pytest.mark.parametrize("inline", [True, False])
def test_files_that_another_table_promises_stay(tmp_path: Path, inline: bool) -> None:
    """A shared checkpoint that was begun: the leader's note names files in the folder of the other table."""
    catalog = sql_catalog(tmp_path)
    leader, other = append(catalog, tmp_path, 1), users(catalog, name="other")
    staged = [put(other, f"data/{uuid.uuid4()}.parquet") for _ in range(3 if inline else 400)]
    lost = put(other, "data/lost.parquet")
    files = tuple(PromisedFile(path, 1, 9) for path in staged)
    promise = Promise(
        table=tuple(other.name()),
        table_uuid=str(other.metadata.table_uuid),
        before=None,
        number=1,
        files=files,
    )
    kept = keep_aside(leader, promise)
    assert (kept.files_in is None) is inline
    noted = Note(run_id="r", attempt=1, number=2, shared=1, leads=True, promises=(kept,))
    with leader.transaction() as transaction:
        transaction.set_properties(note_update(JOB, noted))
    found = find(catalog, other)
    assert (found.deleted, found.examples) == (1, (lost,))
    assert find(catalog, leader.refresh()).files == 0  # the list of the promise lies there
    assert read_note(leader.refresh(), JOB) == noted
    if kept.files_in is not None:  # the promise was kept, and the list deleted
        leader.io.delete(kept.files_in.path)
        assert find(catalog, other).deleted == 400


def test_a_note_that_cannot_be_read_keeps_everything(tmp_path: Path) -> None:
    """It may promise anything."""
    catalog = sql_catalog(tmp_path)
    table = append(catalog, tmp_path, 1)
    with users(catalog, name="other").transaction() as transaction:
        transaction.set_properties({"airberg.checkpoint.x": "?"})
    with pytest.raises(ConfigurationFailed, match="checkpoint note"):
        find(catalog, table)


def nested(catalog: Any, where: str, name: str = "inner") -> Table:
    """A table in a folder of the test's choice."""
    schema = users(catalog).schema()
    return catalog.create_table((*NAMESPACE, name), schema, location=where)  # type: ignore[no-any-return]  # untyped


def test_tables_inside_a_tables_folder(tmp_path: Path) -> None:
    """Those of the catalog, and those that only look like tables, are left out."""
    catalog = sql_catalog(tmp_path)
    outer = append(catalog, tmp_path, 1)
    inner = nested(catalog, f"{outer.location()}/data/inner")
    put(inner, "data/lost.parquet")
    put(outer, "elsewhere/metadata/00000-x.metadata.json")
    put(outer, "elsewhere/data/x.parquet")
    lost = put(outer, "data/lost.parquet")
    found = find(catalog, outer)
    assert (found.deleted, found.examples) == (1, (lost,))
    with pytest.raises(
        ConfigurationFailed, match=r"shop\.inner lies in the folder of shop\.users"
    ) as refused:
        find(catalog, inner)
    assert refused.value.code == "shared-location"


def test_two_tables_in_one_folder_are_refused(tmp_path: Path) -> None:
    """However the location is written."""
    catalog = sql_catalog(tmp_path)
    table = append(catalog, tmp_path, 1)
    nested(catalog, table.location().replace("file://", "file:") + "/", "twin")
    with pytest.raises(ConfigurationFailed, match="lies in the folder of"):
        find(catalog, table)


def test_metadata_that_writes_paths_in_another_way(tmp_path: Path) -> None:
    """A link to the folder in the table's location: the files are still its own."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    catalog = sql_catalog(tmp_path)
    table = nested(catalog, f"file://{tmp_path}/link/t", "linked")
    appending = writer(catalog, "append", tmp_path, table=table)
    appending.write(rows((1, "a")))
    appending.finish(note(1))
    table = table.refresh()
    lost = put(table, "data/lost.parquet")
    with table.update_location() if hasattr(table, "update_location") else _relocated(table, tmp_path):
        pass
    found = find(catalog, table.refresh())
    assert found.deleted == 1
    assert names(table) == [(1, "a")]
    assert not Path(lost.removeprefix("file://")).exists()


def _relocated(table: Table, tmp_path: Path) -> Any:
    from pyiceberg.table.update import SetLocationUpdate

    transaction = table.transaction()
    transaction._stage((SetLocationUpdate(location=f"file://{tmp_path}/real/t"),))
    return transaction


def test_what_is_committed_while_orphans_are_looked_for_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old files that a run commits late: the table is looked at again before anything is deleted."""
    catalog = sql_catalog(tmp_path)
    table = append(catalog, tmp_path, 1)
    lost = put(table, "data/lost.parquet")
    staging = writer(catalog, "append", tmp_path, table=table, row_group_rows=1, target_file_bytes=1)
    staging.write(rows((100, "n100"), (101, "n101")))
    late = len(on_disk(table))
    read = FolderReader.read

    def then_commit(reader: FolderReader, location: str) -> Any:
        folder = read(reader, location)
        if location.endswith("/data") and staging.staged_rows:
            staging.finish(note(2))
        return folder

    monkeypatch.setattr(FolderReader, "read", then_commit)
    found = find(catalog, table)
    assert found.files >= 2
    assert found.deleted == 1
    assert late
    assert not Path(lost.removeprefix("file://")).exists()
    assert {(100, "n100"), (101, "n101")} <= set(names(table))


def test_storage_of_fsspec_lists_the_same(tmp_path: Path) -> None:
    """Folders, sizes and times."""
    catalog = sql_catalog(tmp_path)
    table = append(catalog, tmp_path, 2)
    put(table, "data/a b%20#c.parquet")
    for place in ("", "/data", "/metadata", "/nowhere"):
        ours = FolderReader(PyArrowFileIO()).read(table.location() + place)
        theirs = FolderReader(FsspecFileIO({})).read(table.location() + place)
        assert ours.folders == theirs.folders
        by_name = {file.location: file for file in theirs.files}
        assert len(ours.files) == len(by_name)
        for file in ours.files:
            assert by_name[file.location].bytes == file.bytes
            assert abs((by_name[file.location].changed_at_ms or 0) - (file.changed_at_ms or 0)) < 1000


def test_a_table_whose_files_do_not_match_its_folder_is_refused(tmp_path: Path) -> None:
    """Then paths are written in a way that is not understood, and everything would look like an orphan."""
    catalog = sql_catalog(tmp_path)
    table = append(catalog, tmp_path, 1)
    moved = tmp_path / "moved"
    moved.mkdir()
    transaction = table.transaction()
    from pyiceberg.table.update import SetLocationUpdate

    transaction._stage((SetLocationUpdate(location=f"file://{moved}"),))
    transaction.commit_transaction()
    (moved / "data").mkdir()
    lost = moved / "data" / "x.parquet"
    lost.write_bytes(b"x")
    table = table.refresh()
    found = find(catalog, table)
    assert found.deleted in (0, 1)
    assert names(table) == [(2, "n2"), (3, "n3")]
