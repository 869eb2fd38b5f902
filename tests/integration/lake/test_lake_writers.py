"""Writers on a local SQLite catalog, read back by pyiceberg and by DuckDB."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.errors import LeaseHeld, RunCancelled, TransientFailed
from airberg.lake.files import DataFileWriter
from airberg.lake.note import read_note
from airberg.lake.read import first_rows, row_count
from airberg.lake.tables import describe
from support.duckdb_reader import duckdb_rows
from support.lake_tables import (
    FIELDS,
    JOB,
    FaultyCatalog,
    data_paths,
    delete_positions,
    fail_after,
    fail_before,
    meanwhile,
    names,
    note,
    rows,
    sql_catalog,
    users,
    writer,
)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[FaultyCatalog]:
    """A SQLite catalog that can be told to fail."""
    opened = sql_catalog(tmp_path, FaultyCatalog)
    users(opened)
    yield opened
    opened.close()


def both(catalog: FaultyCatalog) -> list[tuple[int, str]]:
    """`(id, name)` of all rows, after both readers agreed on them."""
    table = users(catalog)
    by_pyiceberg = names(table)
    assert sorted(((r["id"], r["name"]) for r in duckdb_rows(table)), key=repr) == by_pyiceberg
    assert row_count(table) == len(by_pyiceberg)
    assert sorted(((r["id"], r["name"]) for r in first_rows(table, 10_000)), key=repr) == by_pyiceberg
    return by_pyiceberg


def files_on_disk(folder: Path) -> int:
    """Data files in the warehouse, committed or not."""
    return sum(1 for _ in (folder / "warehouse").rglob("*.parquet"))


# ---- marks and checkpoints ---------------------------------------------------------------------------------


def test_only_marked_rows_are_committed_and_the_rest_waits(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """Many states in one file: a commit takes the rows up to the mark, the others stay staged."""
    append = writer(catalog, "append", tmp_path)
    append.write(rows((1, "a"), (2, "b")))
    append.mark()
    append.write(rows((3, "c")))
    append.mark()
    append.write(rows((4, "d"), (5, "e")))
    assert (append.staged_rows, append.rows_since_mark) == (5, 2)
    done = append.commit(note(1))
    assert both(catalog) == [(1, "a"), (2, "b"), (3, "c")]
    assert (done.rows_written, done.files, append.staged_rows) == (3, 1, 2)
    append.write(rows((6, "f")))
    append.mark(5)
    append.commit(note(2))
    assert both(catalog) == [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")]
    append.finish(note(3))
    assert both(catalog)[-1] == (6, "f")
    assert len(describe(users(catalog)).snapshots) == 3
    assert files_on_disk(tmp_path) == len(data_paths(users(catalog)))


def test_a_mark_outside_of_what_is_staged_is_an_error(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """A mark can neither go back nor ahead of the rows."""
    append = writer(catalog, "append", tmp_path)
    append.write(rows((1, "a"), (2, "b")))
    append.mark(1)
    for wrong in (0, 3):
        with pytest.raises(ValueError, match="a mark at row"):
            append.mark(wrong)


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_state_without_rows_makes_no_snapshot(catalog: FaultyCatalog, tmp_path: Path, mode: str) -> None:
    """A new state alone is kept by a change of properties."""
    table_writer = writer(catalog, mode, tmp_path)
    done = table_writer.commit(note(1, state={"at": 1}))
    table_writer.discard()
    assert done.snapshot_id is None
    table = users(catalog)
    assert table.snapshots() == []
    found = read_note(table, JOB)
    assert found is not None
    assert found.state == {"at": 1}


def test_snapshots_name_job_run_and_checkpoint(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """The summary of a snapshot says who made it."""
    append = writer(catalog, "append", tmp_path)
    append.write(rows((1, "a")))
    append.finish(note(7))
    snapshot = users(catalog).current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    facts = snapshot.summary.additional_properties
    assert facts["airberg.job-id"] == JOB
    assert facts["airberg.run-id"] == "run-1"
    assert facts["airberg.checkpoint"] == "7"


@pytest.mark.parametrize("mode", ["append", "overwrite", "merge"])
def test_discard_leaves_no_file(catalog: FaultyCatalog, tmp_path: Path, mode: str) -> None:
    """Staged files are deleted, in open and closed files, and nothing spilled stays."""
    table_writer = writer(catalog, mode, tmp_path / "spill", row_group_rows=2, target_file_bytes=1)
    for i in range(5):
        table_writer.write(rows((i, "x")))
    table_writer.discard()
    assert files_on_disk(tmp_path) == 0
    assert list((tmp_path / "spill").glob("*")) == []


def test_files_roll_at_their_target_size(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """A stream that is larger than a file becomes several, each with its own statistics."""
    append = writer(catalog, "append", tmp_path, row_group_rows=10, target_file_bytes=1)
    for i in range(10):
        append.write(rows(*((i * 5 + j, "x") for j in range(5))))
    done = append.finish(note(1))
    assert done.files == 5
    bounds = [task.file.lower_bounds[1] for task in users(catalog).scan().plan_files()]
    assert len(set(bounds)) == 5
    assert len(both(catalog)) == 50


# ---- overwrite ---------------------------------------------------------------------------------------------


def test_random_columns_are_compressed_with_little_effort(catalog: FaultyCatalog) -> None:
    """Unless the table asks for a level. What is measured would compress, which ciphertexts do not."""
    said = {"key": "k", "mode": "random", "alg": "AES256-GCM/tink", "aad": "a", "type": "string"}
    texts = rows(*((i, hashlib.sha256(b"%d" % i).hexdigest()) for i in range(2_000)))

    def size(**properties: str) -> int:
        table = users(catalog)
        with table.transaction() as transaction:
            transaction.set_properties({name.replace("__", "."): text for name, text in properties.items()})
        files = DataFileWriter(users(catalog))
        files.write(texts)
        (file,) = files.close()
        return int(file.column_sizes[table.schema().find_field("name").field_id])

    usual = size()
    assert size(airberg__encryption__name=json.dumps({**said, "mode": "deterministic"})) == usual
    assert size(airberg__encryption__name=json.dumps(said)) > usual * 1.2
    assert size(**{"write.parquet.compression-level": "1"}) == usual


def test_an_overwrite_is_one_snapshot_and_empties_a_table(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """Each run swaps once, also a run without rows; on an empty table there is nothing to swap."""
    first = writer(catalog, "overwrite", tmp_path)
    with pytest.raises(RuntimeError, match="commits once"):
        first.commit(note(1))
    first.write(rows((1, "a"), (2, "b")))
    first.finish(note(1))
    assert both(catalog) == [(1, "a"), (2, "b")]
    done = writer(catalog, "overwrite", tmp_path).finish(note(2))
    assert done.rows_deleted == 2
    assert both(catalog) == []
    assert writer(catalog, "overwrite", tmp_path).finish(note(3)).snapshot_id is None
    assert [s.operation for s in describe(users(catalog)).snapshots] == ["append", "delete"]


def test_an_overwrite_removes_delete_files_too(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """No delete file of another engine survives the swap."""
    append = writer(catalog, "append", tmp_path)
    append.write(rows((1, "a"), (2, "b")))
    append.finish(note(1))
    delete_positions(users(catalog), data_paths(users(catalog))[0], [0])
    assert both(catalog) == [(2, "b")]
    overwrite = writer(catalog, "overwrite", tmp_path)
    overwrite.write(rows((1, "A"), (2, "B")))
    overwrite.finish(note(2))
    assert both(catalog) == [(1, "A"), (2, "B")]
    snapshot = users(catalog).current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary.additional_properties["total-delete-files"] == "0"
    assert snapshot.summary.additional_properties["total-records"] == "2"


# ---- other writers, other runs -----------------------------------------------------------------------------


def test_a_failed_commit_is_repeated_on_top_of_the_other(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """Somebody appends between our look and our commit: ours goes on top, and leaves no garbage."""
    append = writer(catalog, "append", tmp_path)
    append.write(rows((1, "mine")))

    def other() -> None:
        users(catalog).append(pa.table({"id": [2], "name": ["other"]}))

    catalog.faults = [meanwhile(other)]
    done = append.finish(note(1))
    assert both(catalog) == [(1, "mine"), (2, "other")]
    assert users(catalog).metadata.current_snapshot_id == done.snapshot_id
    manifests = {m.manifest_path for s in users(catalog).snapshots() for m in s.manifests(users(catalog).io)}
    assert sum(1 for _ in (tmp_path / "warehouse").rglob("*-m0.avro")) == len(manifests)


def test_a_zombie_is_refused_in_the_very_commit(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """Another run commits after our fence was checked: the catalog refuses, and then the fence does."""
    zombie, heir = writer(catalog, "append", tmp_path), writer(catalog, "append", tmp_path)
    zombie.write(rows((1, "zombie")))
    heir.write(rows((2, "heir")))
    catalog.faults = [meanwhile(lambda: heir.finish(note(1, run="run-2")))]
    with pytest.raises(LeaseHeld):
        zombie.finish(note(1))
    zombie.discard()
    assert both(catalog) == [(2, "heir")]
    assert files_on_disk(tmp_path) == 1


def test_a_zombie_cannot_set_its_state_over_newer_rows(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """A state without rows is fenced just as rows are."""
    zombie, heir = writer(catalog, "append", tmp_path), writer(catalog, "append", tmp_path)
    heir.write(rows((2, "heir")))
    catalog.faults = [meanwhile(lambda: heir.finish(note(1, attempt=2, state={"at": 2})))]
    with pytest.raises(LeaseHeld):
        zombie.commit(note(1, attempt=1, state={"at": 9}))
    found = read_note(users(catalog), JOB)
    assert found is not None
    assert found.state == {"at": 2}


def test_the_guard_has_the_last_word(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """A run that lost its lease does not reach the catalog; its rows can still be committed or discarded."""

    def lost() -> None:
        raise RunCancelled("lost")

    append = writer(catalog, "append", tmp_path, guard=lost)
    append.write(rows((1, "a")))
    before = catalog.commits
    with pytest.raises(RunCancelled):
        append.finish(note(1))
    assert catalog.commits == before
    append.discard()
    assert files_on_disk(tmp_path) == 0


@pytest.mark.parametrize("mode", ["append", "overwrite", "merge"])
@pytest.mark.parametrize("with_rows", [True, False])
def test_a_lost_answer_is_neither_lost_nor_doubled(
    catalog: FaultyCatalog, tmp_path: Path, mode: str, with_rows: bool
) -> None:
    """The commit landed but its answer did not arrive: the table shows it, nothing is sent again."""
    table_writer = writer(catalog, mode, tmp_path)
    if with_rows:
        table_writer.write(rows((1, "a")))
    catalog.faults = [fail_after(ConnectionError("reset"))]
    before = catalog.commits
    done = table_writer.finish(note(1, state={"at": 1}))
    table_writer.discard()
    assert catalog.commits == before + 1
    assert (done.snapshot_id is not None) == with_rows
    assert both(catalog) == ([(1, "a")] if with_rows else [])
    found = read_note(users(catalog), JOB)
    assert found is not None
    assert found.state == {"at": 1}


def test_a_commit_that_did_not_arrive_is_sent_again(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """A connection that breaks before the commit costs an attempt, not the run."""
    append = writer(catalog, "append", tmp_path)
    append.write(rows((1, "a")))
    catalog.faults = [fail_before(ConnectionError("refused")), fail_before(TimeoutError())]
    append.finish(note(1))
    assert both(catalog) == [(1, "a")]


def test_files_of_an_unknown_outcome_are_not_deleted(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """The commit landed, its answer is lost, the catalog stays away: discarding does not harm the table."""
    append = writer(catalog, "append", tmp_path)
    append.write(rows((1, "a")))

    def lose(commit: object) -> None:
        assert callable(commit)
        commit()
        catalog.loads_fail = True
        raise ConnectionError("reset")

    catalog.faults = [lose]
    with pytest.raises(TransientFailed) as caught:
        append.finish(note(1, state={"at": 1}))
    assert caught.value.code == "commit-outcome-unknown"
    append.discard()
    catalog.loads_fail = False
    assert both(catalog) == [(1, "a")]
    again = writer(catalog, "append", tmp_path)
    again.write(rows((2, "b")))
    again.finish(note(2, attempt=2))
    assert both(catalog) == [(1, "a"), (2, "b")]


def test_a_table_that_always_changes_ends_the_run(catalog: FaultyCatalog, tmp_path: Path) -> None:
    """After its attempts a commit gives up as transient, and leaves the rows of others alone."""
    from pyiceberg.exceptions import CommitFailedException

    from airberg.lake.commit import MAX_ATTEMPTS, Committer
    from airberg.lake.writers import AppendWriter

    pauses: list[float] = []
    append = AppendWriter(Committer(catalog, users(catalog), JOB, pause=pauses.append))
    append.write(rows((1, "a")))
    catalog.faults = [fail_before(CommitFailedException("busy")) for _ in range(MAX_ATTEMPTS)]
    with pytest.raises(TransientFailed) as caught:
        append.finish(note(1))
    assert caught.value.code == "commit-conflict"
    assert len(pauses) == MAX_ATTEMPTS - 1
    append.discard()
    assert both(catalog) == []
    assert files_on_disk(tmp_path) == 0


# ---- lists as the model ------------------------------------------------------------------------------------

BATCHES = st.lists(
    st.tuples(st.lists(st.integers(0, 9), max_size=5), st.booleans(), st.booleans()), min_size=1, max_size=8
)


@settings(max_examples=25, deadline=None)
@given(batches=BATCHES, mode=st.sampled_from(["append", "overwrite"]), rows_per_group=st.integers(1, 6))
def test_append_and_overwrite_equal_lists(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[tuple[list[int], bool, bool]],
    mode: str,
    rows_per_group: int,
) -> None:
    """Whatever the batches, marks, commits and file sizes: the table holds what a list would."""
    folder = tmp_path_factory.mktemp("lake")
    catalog = sql_catalog(folder)
    users(catalog, FIELDS)
    writer(catalog, "append", folder).finish(note(0))
    table_writer = writer(catalog, mode, folder, row_group_rows=rows_per_group, target_file_bytes=1)
    staged: list[int] = []
    marked: list[int] = []
    committed: list[int] = []
    for number, (ids, mark, commit) in enumerate(batches, 1):
        table_writer.write(rows(*((i, str(i)) for i in ids)))
        staged += ids
        if mark:
            table_writer.mark()
            marked = list(staged)
        if commit and mode == "append":
            table_writer.commit(note(number))
            committed = list(marked)
            assert names(users(catalog)) == sorted(((i, str(i)) for i in committed), key=repr)
    assert table_writer.staged_rows == len(staged) - len(committed)
    table_writer.finish(note(100))
    assert names(users(catalog)) == sorted(((i, str(i)) for i in staged), key=repr)
    assert files_on_disk(folder) == len(data_paths(users(catalog)))
    catalog.close()
