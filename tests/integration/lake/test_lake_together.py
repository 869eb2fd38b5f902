"""Commits to several tables that belong together, with a crash at each of their steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airberg.errors import ConfigurationFailed, LeaseHeld
from airberg.lake import promise as promises
from airberg.lake.note import Note, read_note
from airberg.lake.together import Member, commit_together, is_open, keep, unkept
from airberg.lake.writers import TableWriter
from support.crash_points import crash_at
from support.duckdb_reader import duckdb_rows
from support.lake_tables import (
    JOB,
    FaultyCatalog,
    fail_after,
    meanwhile,
    names,
    rows,
    sql_catalog,
    users,
    writer,
)

TABLES = ("a", "b", "c")
Batch = dict[str, list[tuple[Any, ...]]]
"""The rows of each table that one state of the source covers."""


class Job:
    """A job that reads a source with one state for several tables; the state counts the batches."""

    def __init__(self, folder: Path, source: list[Batch], mode: str = "append") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.source = source
        self.mode = mode
        self.catalog: FaultyCatalog = sql_catalog(folder, FaultyCatalog)
        self.tables = sorted({name for batch in source for name in batch})
        self.attempts = 0
        self.guard: Callable[[], None] = lambda: None

    def notes(self) -> dict[str, Note | None]:
        """The notes as they are."""
        return {name: read_note(users(self.catalog, name=name), JOB) for name in self.tables}

    def writer(self, name: str) -> TableWriter:
        """A writer that starts from the note in its table."""
        table = users(self.catalog, name=name)
        guard = lambda: self.guard()  # noqa: E731 - looked up at each call: tests replace it
        return writer(self.catalog, self.mode, self.folder / name, table=table, guard=guard, row_group_rows=2)

    def keep_promises(self) -> None:
        """What a run does before it reads."""
        notes = self.notes()
        for note, promise in unkept(notes.values()):
            name = promise.table[-1]
            if is_open(promise, users(self.catalog, name=name), notes[name]):
                kept = self.writer(name)
                keep(note, promise, kept)
                kept.discard()

    def run(self) -> None:
        """One attempt, to the end; nothing is cleaned up when it crashes."""
        self.attempts += 1
        self.keep_promises()
        notes = self.notes()
        states = [note.state if note else 0 for note in notes.values()]
        begin = min(states)
        # Over batches without rows tables may stand at different states: each is true.
        assert not any(rows for batch in self.source[begin : max(states)] for rows in batch.values())
        writers = {name: self.writer(name) for name in self.tables}
        for number in range(begin, len(self.source)):
            for name, batch in self.source[number].items():
                if batch:
                    writers[name].write(rows(*batch))
            self.commit(writers, number + 1)
        for each in writers.values():
            each.discard()

    def commit(self, writers: dict[str, TableWriter], state: int) -> None:
        """One shared checkpoint."""
        notes = self.notes()
        members = []
        for name, each in writers.items():
            each.mark()
            before = notes[name]
            note = Note(
                run_id="run-1",
                attempt=self.attempts,
                number=1 + (before.number if before else 0),
                state=state,
                shared=state,
            )
            members.append(Member(each, note, lambda _: None))
        commit_together(members)

    def expected(self, name: str, states: int) -> list[tuple[Any, Any]]:
        """What a table holds after so many states."""
        batches = [row for batch in self.source[:states] for row in batch.get(name, [])]
        if self.mode == "append":
            return sorted(((row[0], row[1]) for row in batches), key=repr)
        return sorted({row[0]: (row[0], row[1]) for row in batches}.values(), key=repr)

    def check(self, *, complete: bool = False) -> None:
        """Each table holds exactly the rows of the state that it notes."""
        for name, note in self.notes().items():
            states = note.state if note else 0
            assert names(users(self.catalog, name=name)) == self.expected(name, states)
            assert not complete or states == len(self.source)


SOURCE: list[Batch] = [
    {"a": [(1, "a1", 1)], "b": [(1, "b1", 1), (2, "b2", 1), (3, "b3", 1)], "c": []},
    {"a": [], "b": [(1, "B1", 2)], "c": [(1, "c1", 1)]},
    {"a": [(1, "A1", 2), (2, "a2", 1)], "b": [], "c": [(1, "C1", 2), (2, "c2", 1)]},
]


@pytest.mark.parametrize(("mode", "stride"), [("append", 7), ("merge", 9)])
def test_a_crash_at_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, stride: int
) -> None:
    """Whatever step it is (some of them), the next run completes what was begun: no row lost, none twice.

    Lists of files are kept in the note and next to the table in turns.
    """
    hits = set()
    for n in itertools.count(0, stride):
        monkeypatch.setattr(promises, "INLINE_BYTES", 8192 * (n % 2))
        job = Job(tmp_path / str(n), SOURCE, mode)
        with crash_at(n) as point:
            job.run()
        if point.hit is None:
            break
        hits.add(point.hit[0])
        job.check()
        job.run()
        job.check(complete=True)
        job.catalog.close()
    job.check(complete=True)
    assert len(hits) >= 5


batches = st.fixed_dictionaries({name: st.integers(0, 3) for name in TABLES})


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    counts=st.lists(batches, min_size=1, max_size=4),
    crashes=st.lists(st.integers(0, 40), max_size=4),
    inline=st.sampled_from([8192, 0]),
)
def test_any_source_any_crashes(
    tmp_path_factory: pytest.TempPathFactory, counts: list[dict[str, int]], crashes: list[int], inline: int
) -> None:
    """Crash after crash, also while a promise is kept: in the end the tables hold the source."""
    ids = itertools.count()
    source = [{name: [(i := next(ids), f"r{i}") for _ in range(n)] for name, n in c.items()} for c in counts]
    job = Job(tmp_path_factory.mktemp("job"), source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promises, "INLINE_BYTES", inline)
        for n in crashes:
            with crash_at(n):
                job.run()
            job.check()
        job.run()
    job.check(complete=True)
    job.catalog.close()


def crashed(tmp_path: Path, step: str = "between-tables", n: int = 0, mode: str = "append") -> Job:
    """A job whose first run crashed at a step of its first checkpoint."""
    job = Job(tmp_path, SOURCE, mode)
    with crash_at(n, step) as point:
        job.run()
    assert point.hit is not None
    return job


def test_nothing_has_happened_before_the_first_commit_lands(tmp_path: Path) -> None:
    """Without the leader's commit there is no promise, and the files are garbage."""
    job = crashed(tmp_path, "sending")
    assert set(job.notes().values()) == {None}
    job.run()
    job.check(complete=True)


def test_the_columns_have_changed_since(tmp_path: Path) -> None:
    """Promised rows fit the table as it has become: an added, a dropped and a renamed column."""
    job = crashed(tmp_path)
    with users(job.catalog, name="b").update_schema() as update:
        update.delete_column("version")
        update.rename_column("name", "title")
    job.keep_promises()
    found = users(job.catalog, name="b").scan().to_arrow().to_pylist()
    assert sorted((row["id"], row["title"]) for row in found) == [(1, "b1"), (2, "b2"), (3, "b3")]


def test_a_table_that_was_dropped_is_left_alone(tmp_path: Path) -> None:
    """The promise meant another table; the new one begins at the beginning, and the others are completed."""
    job = crashed(tmp_path)
    job.catalog.drop_table(("shop", "b"))
    job.keep_promises()
    assert job.notes()["b"] is None
    assert names(users(job.catalog, name="b")) == []
    assert job.notes()["c"] is not None


def test_the_leader_was_dropped(tmp_path: Path) -> None:
    """The second table repeats what is promised to the third."""
    job = crashed(tmp_path, "between-tables", 1)
    job.catalog.drop_table(("shop", "a"))
    assert [note is None for note in job.notes().values()] == [True, False, True]
    job.keep_promises()
    assert [note is None for note in job.notes().values()] == [True, False, False]


def test_a_note_that_somebody_removed_or_replaced_is_left_alone(tmp_path: Path) -> None:
    """Only the note that the promise was made on is replaced."""
    job = Job(tmp_path, SOURCE)
    with crash_at(2, "between-tables"):
        job.run()
    table = users(job.catalog, name="b")
    with table.transaction() as transaction:
        transaction.remove_properties(f"airberg.checkpoint.{JOB}")
    before = names(table)
    job.keep_promises()
    assert names(table) == before
    assert job.notes()["b"] is None


@pytest.mark.parametrize("damage", ["gone", "cut", "list gone", "list changed"])
def test_a_promise_that_cannot_be_kept(tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error that names the table and what is wrong; the table stays as it is."""
    monkeypatch.setattr(promises, "INLINE_BYTES", 0 if "list" in damage else 8192)
    job = crashed(tmp_path)
    pattern = "b/metadata/airberg-promise-*" if "list" in damage else "b/data/*.parquet"
    (file,) = (tmp_path / "warehouse" / "shop").glob(pattern)
    if "gone" in damage:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ConfigurationFailed, match=r"shop\.b.*cannot be completed") as error:
        job.keep_promises()
    assert error.value.code == "promise-broken"
    assert names(users(job.catalog, name="b")) == []


def test_files_that_are_promised_outlive_the_run_that_failed(tmp_path: Path) -> None:
    """The leader's commit landed and the next one failed: giving up does not delete what is promised."""
    job = Job(tmp_path, SOURCE)
    writers = {name: job.writer(name) for name in job.tables}
    writers["a"].write(rows(*SOURCE[0]["a"]))
    writers["b"].write(rows(*SOURCE[0]["b"]))
    job.attempts = 1
    asked = itertools.count()

    def lost_after_the_first() -> None:
        if next(asked):
            raise LeaseHeld

    job.guard = lost_after_the_first
    with pytest.raises(LeaseHeld):
        job.commit(writers, 1)
    job.guard = lambda: None
    for each in writers.values():
        each.discard()
    job.check()
    job.run()
    job.check(complete=True)


def test_files_of_a_leader_that_did_not_land_are_deleted(tmp_path: Path) -> None:
    """Nobody heard the promise: giving up leaves no file behind."""
    job = Job(tmp_path, SOURCE)
    writers = {name: job.writer(name) for name in job.tables}
    writers["b"].write(rows(*SOURCE[0]["b"]))

    def lost() -> None:
        raise LeaseHeld

    job.guard = lost
    with pytest.raises(LeaseHeld):
        job.commit(writers, 1)
    for each in writers.values():
        each.discard()
    assert list((tmp_path / "warehouse" / "shop").rglob("*.parquet")) == []


def test_an_answer_that_is_lost_is_looked_up(tmp_path: Path) -> None:
    """Every commit lands and its answer does not arrive: the run goes on, and nothing is doubled."""
    job = Job(tmp_path, SOURCE)
    job.catalog.faults = [fail_after(ConnectionError("reset"))] * 9
    job.run()
    job.check(complete=True)


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_run_that_was_thought_dead_writes_too(tmp_path: Path, mode: str) -> None:
    """While the old run is about to commit the second table, a new one keeps the promise: one does."""
    job = Job(tmp_path, SOURCE, mode)
    other = Job(tmp_path, SOURCE, mode)
    job.catalog.faults = [None, meanwhile(other.keep_promises)]
    with pytest.raises(LeaseHeld):
        job.run()
    other.check()
    assert {note.state for note in other.notes().values() if note} == {1}
    other.run()
    other.check(complete=True)


def test_an_old_run_decides_late(tmp_path: Path) -> None:
    """The leader's commit of an old run lands just before the new one's: the new one is refused.

    Also where the leader brings no rows: else both would decide, each for itself.
    """
    source: list[Batch] = [{"a": [], "b": [(1, "b1")]}]
    old, new = Job(tmp_path, source), Job(tmp_path, source)
    writers = {name: old.writer(name) for name in old.tables}
    writers["b"].write(rows((1, "b1")))
    old.attempts = 1

    def old_leader_lands() -> None:
        with crash_at(0, "between-tables"):
            old.commit(writers, 1)

    new.attempts = 1
    new.catalog.faults = [meanwhile(old_leader_lands)]
    with pytest.raises(LeaseHeld):
        new.run()
    new.run()
    new.check(complete=True)


def test_a_leader_without_rows_can_be_read(tmp_path: Path) -> None:
    """Its snapshot has no files: for other engines it is a table like any other, also with rows before it."""
    job = Job(tmp_path, [{"a": [], "b": [(1, "b1")]}])
    job.run()
    assert len(users(job.catalog, name="a").snapshots()) == 1
    assert duckdb_rows(users(job.catalog, name="a")) == []
    job.source += [{"a": [(1, "a1")], "b": []}, {"a": [], "b": [(2, "b2")]}]
    job.run()
    assert len(users(job.catalog, name="a").snapshots()) == 3
    assert [row["name"] for row in duckdb_rows(users(job.catalog, name="a"))] == ["a1"]
    job.check(complete=True)


def test_without_rows_nothing_is_promised(tmp_path: Path) -> None:
    """States without rows make no snapshots: an idle source leaves the tables alone."""
    job = Job(tmp_path, [{"a": [], "b": []}, {"a": [], "b": []}])
    job.run()
    assert {len(users(job.catalog, name=name).snapshots()) for name in ("a", "b")} == {0}
    assert {note.state for note in job.notes().values() if note} == {2}
