"""Compaction beside others that write, and where it ends in the middle: no row is lost or comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.transforms import BucketTransform

from airberg.errors import TransientFailed
from airberg.lake.live import has_delete_files, live_files
from airberg.lake.upkeep.compact import Compacted
from support.compacting import append, both_read, run, three
from support.crash_points import crash_at
from support.lake_tables import (
    NAMESPACE,
    FailingFileIO,
    FaultyCatalog,
    Killed,
    data_paths,
    delete_positions,
    fail_after,
    fail_before,
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
from support.partitions import (
    assert_partitions_hold,
    data_files,
)

# ---- others write meanwhile --------------------------------------------------------------------------------


def faulty(tmp_path: Path) -> FaultyCatalog:
    """A catalog that does something else at its next commits."""
    opened: FaultyCatalog = sql_catalog(tmp_path, FaultyCatalog)
    return opened


def test_rows_that_come_meanwhile_are_kept(tmp_path: Path) -> None:
    """The commit is made again on the new snapshot; what was written is used."""
    catalog = faulty(tmp_path)
    table = three(catalog, tmp_path)
    catalog.faults = [
        meanwhile(lambda: append(catalog, tmp_path, rows((50, "n50")), table=users(catalog), first=4))
    ]
    done = run(catalog, table, tmp_path)
    assert (done.files_before, done.groups_lost, len(done.snapshots)) == (3, 0, 1)
    both_read(table, [*((n, f"n{n}") for n in range(9)), (50, "n50")])
    assert files_on_disk(tmp_path / "warehouse") == files_referenced(table.refresh())


def merge_meanwhile(catalog: Any, tmp_path: Path) -> Callable[[], None]:
    """A merge that replaces row 4 and deletes row 7."""

    def act() -> None:
        merging = writer(
            catalog, "merge", tmp_path / "other", table=catalog.load_table((*NAMESPACE, "users"))
        )
        merging.write(rows((4, "new", 1), (7, "n7", 1, 1)))
        merging.finish(note(4))

    return act


@pytest.mark.parametrize("how", ["merge", "another engine"])
def test_deletes_that_come_meanwhile_are_not_lost(tmp_path: Path, how: str) -> None:
    """Files that got deletes after they were read are written anew, not committed."""
    catalog = faulty(tmp_path)
    (tmp_path / "other").mkdir()
    table = three(catalog, tmp_path)
    expected = [(n, f"n{n}") for n in range(9)]
    if how == "merge":
        catalog.faults = [meanwhile(merge_meanwhile(catalog, tmp_path))]
        expected[4] = (4, "new")
        del expected[7]
    else:
        path = min(live_files(table), key=lambda live: live.entry.sequence_number or 0).file.file_path
        catalog.faults = [meanwhile(lambda: delete_positions(users(catalog), path, [1]))]
        del expected[1]
    done = run(catalog, table, tmp_path)
    both_read(table, expected)
    assert done.groups_lost == 0
    assert not has_delete_files(table.refresh())
    assert files_on_disk(tmp_path / "warehouse") == files_referenced(table.refresh())


def test_a_group_that_always_loses_is_left_for_the_next_time(tmp_path: Path) -> None:
    """Somebody deletes a row of the files each time; compaction gives up, and says so."""
    catalog = faulty(tmp_path)
    table = three(catalog, tmp_path)
    left = list(range(9))

    def act() -> None:
        found = live_files(users(catalog))[0]
        gone = {p for file in found.delete_files for p in range(file.record_count)}
        if len(gone) < 3:
            row = delete_positions(users(catalog), found.file.file_path, [len(gone)])
            left[:] = [r["id"] for r in row.scan().to_arrow().to_pylist()]

    catalog.faults = [f for _ in range(3) for f in (meanwhile(act), None)]
    done = run(catalog, table, tmp_path)
    assert (done.groups_lost, done.snapshots) == (1, ())
    both_read(table, [(n, f"n{n}") for n in left])
    assert files_on_disk(tmp_path / "warehouse") == files_referenced(table.refresh())


def test_an_overwrite_meanwhile_wins(tmp_path: Path) -> None:
    """The files are gone: nothing of them comes back."""
    catalog = faulty(tmp_path)
    table = three(catalog, tmp_path)

    def act() -> None:
        copying = writer(catalog, "overwrite", tmp_path, table=users(catalog))
        copying.write(rows((100, "only")))
        copying.finish(note(4))

    catalog.faults = [meanwhile(act)]
    assert run(catalog, table, tmp_path) == Compacted()
    both_read(table, [(100, "only")])


def test_new_partitions_meanwhile(tmp_path: Path) -> None:
    """Files that were written for the old ones are not committed."""
    catalog = faulty(tmp_path)
    table = three(catalog, tmp_path)

    def act() -> None:
        append(catalog, tmp_path, rows((50, "n50")), table=users(catalog), first=4)
        with users(catalog).update_spec() as update:
            update.add_field("id", BucketTransform(2), "id_bucket")

    catalog.faults = [meanwhile(act)]
    run(catalog, table, tmp_path)
    table = table.refresh()
    assert {file.spec_id for file in data_files(table)} == {table.metadata.default_spec_id}
    assert_partitions_hold(table)
    both_read(table, [*((n, f"n{n}") for n in range(9)), (50, "n50")])


@pytest.mark.parametrize("landed", [True, False])
def test_an_answer_that_is_lost(tmp_path: Path, landed: bool) -> None:
    """The table is looked at: the commit is there, or it is made again."""
    catalog = faulty(tmp_path)
    table = three(catalog, tmp_path)
    fault = fail_after if landed else fail_before
    catalog.faults = [fault(ConnectionError("the line is dead"))]
    done = run(catalog, table, tmp_path)
    assert (done.files_before, len(done.snapshots)) == (3, 1)
    both_read(table, [(n, f"n{n}") for n in range(9)])
    assert files_on_disk(tmp_path / "warehouse") == files_referenced(table.refresh())


def test_an_outcome_that_stays_unknown_deletes_nothing(tmp_path: Path) -> None:
    """The commit landed, and the catalog is away: its files must stay."""
    catalog = faulty(tmp_path)
    table = three(catalog, tmp_path)

    def fault(commit: Callable[[], Any]) -> Any:
        commit()
        catalog.loads_fail = True
        raise ConnectionError("the line is dead")

    catalog.faults = [fault]
    with pytest.raises(TransientFailed) as unknown:
        run(catalog, table, tmp_path)
    assert unknown.value.code == "commit-outcome-unknown"
    catalog.loads_fail = False
    both_read(users(catalog), [(n, f"n{n}") for n in range(9)])
    assert len(data_paths(users(catalog))) == 1


def test_a_table_that_changes_all_the_time(tmp_path: Path) -> None:
    """Compaction gives way, and leaves no file behind."""
    catalog = faulty(tmp_path)
    table = three(catalog, tmp_path)
    count = 0

    def act() -> None:
        nonlocal count
        count += 1
        append(catalog, tmp_path, rows((100 + count, "more")), table=users(catalog), first=3 + count)

    catalog.faults = [f for _ in range(8) for f in (meanwhile(act), None)]
    with pytest.raises(TransientFailed) as gave_up:
        run(catalog, table, tmp_path)
    assert gave_up.value.code == "commit-conflict"
    table = table.refresh()
    assert len(names(table)) == 9 + count
    assert files_on_disk(tmp_path / "warehouse") == files_referenced(table)


# ---- crashes -----------------------------------------------------------------------------------------------


def test_a_crash_at_any_step_leaves_the_rows_as_they_were(tmp_path: Path) -> None:
    """Then the next compaction does what is left to do."""
    steps = 0
    while True:
        folder = tmp_path / str(steps)
        folder.mkdir()
        catalog = sql_catalog(folder)
        table = three(catalog, folder)
        delete_positions(table, data_paths(table)[0], [0])
        expected = names(table)
        with crash_at(steps) as point:
            run(catalog, table, folder)
        both_read(table, expected)
        run(catalog, table.refresh(), folder)
        both_read(table, expected)
        assert len(data_paths(table)) == 1
        if point.hit is None:
            break
        steps += 1
    assert steps >= 5


def test_storage_that_fails_at_any_file_leaves_nothing_behind(tmp_path: Path) -> None:
    """A full disk in the middle: an error that may pass, and no files of the attempt."""
    for number in range(40):
        folder = tmp_path / str(number)
        folder.mkdir()
        catalog = sql_catalog(folder, **{"py-io-impl": "support.lake_tables.FailingFileIO"})
        table = three(catalog, folder)
        expected = names(table)
        before = files_on_disk(folder / "warehouse")
        FailingFileIO.fail_at(number, OSError("no space left on device"))
        try:
            run(catalog, table, folder)
        except TransientFailed:
            assert files_on_disk(folder / "warehouse") <= before + 1  # the catalog's own metadata file
            failed = True
        else:
            failed = FailingFileIO.left is None
        FailingFileIO.fail_at(None, Killed())
        both_read(table, expected)
        if not failed:
            break
    assert number > 5
