"""Going back to an earlier run: tables and state together, whatever the kind of state, and then on again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pyiceberg.exceptions import CommitFailedException

from airberg.errors import Conflict, InvalidRequest
from airberg.jobs.audit import Act
from airberg.jobs.model import Job, Run
from airberg.lake.note import read_note
from airberg.lake.snapshots import FileChanges, prepare
from airberg.lake.upkeep.expire import expire
from airberg.lake.upkeep.policy import Policy
from airberg.settings import SyncSettings
from airberg.sync.job_tables_here import JobTablesHere
from support.crash_points import crash_at
from support.deployment import Deployment, write_scenario
from support.duckdb_reader import duckdb_rows

ACT = Act(actor="ann", action="job.rewind", kind="job", target="x")


@pytest.fixture
def deployment(tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path) -> Deployment:
    """A deployment that makes a checkpoint at every state."""
    return Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir, SyncSettings(checkpoint_seconds=0.0))


@pytest.fixture
def here(deployment: Deployment) -> JobTablesHere:
    """Who looks after its tables."""
    return JobTablesHere(deployment.settings, deployment.store, deployment.catalog, deployment.store.sealer)


def stream(name: str, count: int, **members: Any) -> dict[str, Any]:
    """A stream of numbered records, a state after each five."""
    return {
        "name": name,
        "cursor": "id",
        "primary_key": [["id"]],
        "state_every": 5,
        "generate": {"count": count, "from": 1, "fields": {"id": "$i", "item": f"{name} $i"}},
    } | members


def source(folder: Path, count: int, *names: str, common: bool = False, **members: Any) -> Path:
    """A source that has so many records of each stream now."""
    streams = [stream(name, count, **members) for name in names]
    return write_scenario(folder, {"streams": streams, "read": {"global_state": common}})


def three_runs(
    deployment: Deployment, folder: Path, mode: str, *names: str, common: bool = False, **changes: Any
) -> tuple[Job, list[Run]]:
    """A job with three runs; the source had 8, 16, 24 records of each stream."""
    job = deployment.job(source(folder, 8, *names, common=common), mode, **changes)
    runs = [deployment.run(job, "run-1")]
    for number in (2, 3):
        source(folder, 8 * number, *names, common=common)
        runs.append(deployment.run(job, f"run-{number}"))
    return job, runs


def ids(deployment: Deployment, table: str) -> list[int]:
    """The ids in a table as DuckDB reads them, sorted."""
    return sorted(row["id"] for row in duckdb_rows(deployment.table(table)))


def states(deployment: Deployment, job_id: UUID, *tables: str) -> list[Any]:
    """The state in each table."""
    notes = [read_note(deployment.table(t), job_id, deployment.store.sealer) for t in tables]
    return [None if note is None else note.state for note in notes]


@pytest.mark.parametrize("common", [False, True], ids=["own state", "common state"])
@pytest.mark.parametrize("mode", ["append", "merge"])
def test_three_runs_back_to_the_first_and_on(
    deployment: Deployment, here: JobTablesHere, tmp_path: Path, mode: str, common: bool
) -> None:
    """The next run goes on from the state of the first, and the tables are what they would be anyway."""
    job, runs = three_runs(deployment, tmp_path, mode, "a", "b", common=common)
    plain = {name: ids(deployment, name) for name in ("a", "b")}
    asked = here.rewind(job.id, runs[0].id, force=False, dry_run=True, act=None)
    assert [(t.table, t.rows_before, t.rows_after) for t in asked.tables] == [
        ("shop.a", 24, 8),
        ("shop.b", 24, 8),
    ]
    assert {c.who for t in asked.tables for c in t.lost} == {"run-2", "run-3"}
    assert {name: ids(deployment, name) for name in ("a", "b")} == plain, "a dry run changes nothing"
    assert here.rewind(job.id, runs[0].id, force=False, dry_run=False, act=ACT).done
    for name in ("a", "b"):
        assert ids(deployment, name) == list(range(1, 9))
    now = here.state(job.id)
    assert now.unfinished == ()
    assert [s.state for s in now.streams] == [t.state_after for t in asked.tables]
    assert len(now.states) == (1 if common else 2)
    again = deployment.run(job, "run-4")
    assert [s.rows_read for s in again.report.streams] == [16, 16]
    assert {name: ids(deployment, name) for name in ("a", "b")} == plain
    assert [e.action for e in deployment.store.audit.entries()] == ["job.rewind"]


def test_a_rewind_can_be_taken_back(deployment: Deployment, here: JobTablesHere, tmp_path: Path) -> None:
    """To a newer run than the one that the tables stand at; numbers of checkpoints only grow."""
    job, runs = three_runs(deployment, tmp_path, "merge", "a", "b", common=True)
    after_third = states(deployment, job.id, "a", "b")
    numbers = [s.checkpoint for s in here.state(job.id).streams]
    for back_to in (0, 2, 1, 2):
        here.rewind(job.id, runs[back_to].id, force=False, dry_run=False, act=None)
        assert ids(deployment, "a") == ids(deployment, "b") == list(range(1, 8 * back_to + 9))
        newer = [s.checkpoint for s in here.state(job.id).streams]
        assert all(n > before for n, before in zip(newer, numbers, strict=True))
        numbers = newer
    assert states(deployment, job.id, "a", "b") == after_third
    deployment.run(job, "run-4")
    assert ids(deployment, "a") == list(range(1, 25))


@pytest.mark.parametrize("how", ["next run", "again", "another"])
@pytest.mark.parametrize("common", [False, True], ids=["own state", "common state"])
def test_a_crash_between_tables_of_a_rewind(
    deployment: Deployment, here: JobTablesHere, tmp_path: Path, common: bool, how: str
) -> None:
    """Whoever comes next completes it: the next run, or the same call; or another rewind replaces it."""
    job, runs = three_runs(deployment, tmp_path, "append", "a", "b", "c", common=common)
    with crash_at(0, "between-tables") as point:
        here.rewind(job.id, runs[0].id, force=False, dry_run=False, act=None)
    assert point.hit is not None
    assert len(ids(deployment, "a")) == 8
    assert len(ids(deployment, "c")) == 24
    assert here.state(job.id).unfinished == ("b", "c")
    with pytest.raises(Conflict) as refused:
        here.set_state(job.id, here.state(job.id).states[:1], act=None)
    assert refused.value.code == "checkpoint-unfinished"
    if how != "next run":
        target = runs[0] if how == "again" else runs[1]
        here.rewind(job.id, target.id, force=False, dry_run=False, act=None)
        assert [len(ids(deployment, n)) for n in "abc"] == [8 if how == "again" else 16] * 3
        assert here.state(job.id).unfinished == ()
    run = deployment.run(job, "run-4")
    assert [s.rows_read for s in run.report.streams] == [8 if how == "another" else 16] * 3
    for name in "abc":
        assert ids(deployment, name) == list(range(1, 25))


def test_full_copies_go_back_too(deployment: Deployment, here: JobTablesHere, tmp_path: Path) -> None:
    """The whole copy of then is the table again, and the next run makes a newer one."""
    job = deployment.job(source(tmp_path, 5, "a", cursor=None), "overwrite")
    first = deployment.run(job, "run-1")
    source(tmp_path, 9, "a", cursor=None)
    deployment.run(job, "run-2")
    generation = here.state(job.id).streams[0].generation_id
    here.rewind(job.id, first.id, force=False, dry_run=False, act=None)
    assert ids(deployment, "a") == [1, 2, 3, 4, 5]
    assert here.state(job.id).streams[0].generation_id == generation - 1
    deployment.run(job, "run-3")
    assert ids(deployment, "a") == list(range(1, 10))


def test_columns_that_came_later_stay(deployment: Deployment, here: JobTablesHere, tmp_path: Path) -> None:
    """The schema is kept; the rows of then have no value in them. A table that came later has no rows."""
    job = deployment.job(source(tmp_path, 5, "a"))
    first = deployment.run(job, "run-1")
    wider = stream("a", 9, generate={"count": 9, "from": 1, "fields": {"id": "$i", "item": "x", "more": "m"}})
    write_scenario(tmp_path, {"streams": [wider, stream("late", 3)]})
    deployment.settings.sources.__dict__["rediscover_after_s"] = 0.0
    deployment.run(job, "run-2")
    assert ids(deployment, "late") == [1, 2, 3]
    done = here.rewind(job.id, first.id, force=False, dry_run=False, act=None)
    assert [(t.table, t.rows_after, t.state_after is None) for t in done.tables] == [
        ("shop.a", 5, False),
        ("shop.late", 0, True),
    ]
    assert {(r["id"], r["more"]) for r in duckdb_rows(deployment.table("a"))} == {
        (i, None) for i in range(1, 6)
    }
    assert ids(deployment, "late") == []
    deployment.run(job, "run-3")
    assert ids(deployment, "a") == list(range(1, 10))
    assert ids(deployment, "late") == [1, 2, 3]


def test_commits_of_others_are_not_lost_unasked(
    deployment: Deployment, here: JobTablesHere, tmp_path: Path
) -> None:
    """Another writer's only with `force`, another job's never; what upkeep did is no reason."""
    job, runs = three_runs(deployment, tmp_path, "append", "a")
    table = deployment.table("a")
    prepare(table, FileChanges(always=True), {}, {"airberg.upkeep": "compact"}).send()
    here.rewind(job.id, runs[1].id, force=False, dry_run=True, act=None)
    prepare(table.refresh(), FileChanges(always=True), {}, {"engine-name": "spark"}).send()
    with pytest.raises(Conflict, match="spark") as refused:
        here.rewind(job.id, runs[1].id, force=False, dry_run=True, act=None)
    assert refused.value.code == "rewind-other-writer"
    here.rewind(job.id, runs[1].id, force=True, dry_run=False, act=None)
    assert ids(deployment, "a") == list(range(1, 17))
    other = deployment.job(source(tmp_path, 3, "a"))
    deployment.run(other, "other-1")
    with pytest.raises(Conflict, match=str(other.id)) as refused:
        here.rewind(job.id, runs[0].id, force=True, dry_run=False, act=None)
    assert refused.value.code == "rewind-other-job"


def test_what_cannot_be_gone_back_to(deployment: Deployment, here: JobTablesHere, tmp_path: Path) -> None:
    """An expired snapshot, a metadata log that is short, a run that has not completed."""
    job, runs = three_runs(deployment, tmp_path, "append", "a")
    expire(deployment.catalog, deployment.table("a"), Policy(expire_age_ms=0, expire_keep=1))
    with pytest.raises(Conflict) as refused:
        here.rewind(job.id, runs[0].id, force=False, dry_run=False, act=ACT)
    assert refused.value.code == "rewind-expired"
    assert "AIRBERG_UPKEEP__EXPIRE_AGE_DAYS" in refused.value.guidance
    assert deployment.store.audit.entries() == []
    with deployment.table("a").transaction() as transaction:
        transaction.set_properties({"write.metadata.previous-versions-max": "1"})
    with deployment.table("a").transaction() as transaction:
        transaction.set_properties({"x": "y"})
    with pytest.raises(Conflict) as refused:
        here.rewind(job.id, runs[0].id, force=False, dry_run=False, act=None)
    assert refused.value.code == "rewind-forgotten"
    open_run = deployment.store.start_run(job.id, "run-9", 1, runs[0].created_at)
    with pytest.raises(Conflict) as refused:
        here.rewind(job.id, open_run.id, force=False, dry_run=False, act=None)
    assert refused.value.code == "run-not-completed"


def test_protected_states_stay_sealed(deployment: Deployment, here: JobTablesHere, tmp_path: Path) -> None:
    """Going back keeps the state of an encrypted cursor sealed, and shows it to nobody."""
    rule = {
        "stream": "a",
        "column": "id",
        "transformation_type": "encrypt",
        "encryption_mode": "deterministic",
    }
    job, runs = three_runs(deployment, tmp_path, "append", "a", column_transformations=[rule])
    done = here.rewind(job.id, runs[0].id, force=False, dry_run=False, act=None)
    assert (done.tables[0].protected, done.tables[0].state_after) == (True, None)
    shown = here.state(job.id)
    assert (shown.states, shown.streams[0].protected, shown.streams[0].state) == ((), True, None)
    assert [json.loads(s)["stream"]["stream_state"] for s in states(deployment, job.id, "a")] == [
        {"cursor": 8}
    ]
    run = deployment.run(job, "run-4")
    assert [s.rows_read for s in run.report.streams] == [16]
    body = {"type": "STREAM", "stream": {"stream_descriptor": {"name": "a"}, "stream_state": {"cursor": 20}}}
    assert here.set_state(job.id, [body], act=None).streams[0].state is None
    assert [s.rows_read for s in deployment.run(job, "run-5").report.streams] == [4]


# ---- state -------------------------------------------------------------------------------------------------


def own(name: str, cursor: int | None) -> dict[str, Any]:
    """The state of one stream."""
    return {
        "type": "STREAM",
        "stream": {"stream_descriptor": {"name": name}, "stream_state": {"cursor": cursor}},
    }


def test_a_state_that_is_set_is_gone_on_from(
    deployment: Deployment, here: JobTablesHere, tmp_path: Path
) -> None:
    """Of one stream; the others stay where they are. What GET shows can be sent back."""
    job, _ = three_runs(deployment, tmp_path, "merge", "a", "b")
    before = here.state(job.id)
    changed = here.set_state(job.id, [own("a", 20)], act=ACT)
    assert [s.state["stream"]["stream_state"]["cursor"] for s in changed.streams] == [20, 24]
    assert [s.rows_read for s in deployment.run(job, "run-4").report.streams] == [4, 0]
    assert ids(deployment, "a") == list(range(1, 25))
    again = here.set_state(job.id, before.states, act=None)
    assert again.states == before.states


def test_a_common_state_is_set_for_all(deployment: Deployment, here: JobTablesHere, tmp_path: Path) -> None:
    """One of another kind is refused: the source would not know what to do with it."""
    job, _ = three_runs(deployment, tmp_path, "merge", "a", "b", common=True)
    streams = [{"stream_descriptor": {"name": n}, "stream_state": {"cursor": 10}} for n in ("a", "b")]
    common = {"type": "GLOBAL", "global": {"shared_state": {"lsn": 1}, "stream_states": streams}}
    with pytest.raises(InvalidRequest) as refused:
        here.set_state(job.id, [own("a", 3)], act=None)
    assert [(p.pointer, p.code) for p in refused.value.problems] == [("/states/0", "state-kind-differs")]
    changed = here.set_state(job.id, [common], act=None)
    assert changed.states == (common,)
    assert len({s.shared for s in changed.streams}) == 1
    assert [s.rows_read for s in deployment.run(job, "run-4").report.streams] == [14, 14]


@pytest.mark.parametrize("common", [False, True], ids=["own state", "common state"])
def test_a_state_that_is_deleted_means_from_the_start(
    deployment: Deployment, here: JobTablesHere, tmp_path: Path, common: bool
) -> None:
    """Of one stream, then of all; merged rows are the same afterwards."""
    job, _ = three_runs(deployment, tmp_path, "merge", "a", "b", common=common)
    gone = here.delete_state(job.id, ["b"], act=None)
    assert [s.kind for s in gone.streams][1] is None
    assert [s.rows_read for s in deployment.run(job, "run-4").report.streams] == [0, 24]
    assert here.delete_state(job.id, None, act=None).states == ()
    assert [s.rows_read for s in deployment.run(job, "run-5").report.streams] == [24, 24]
    assert ids(deployment, "a") == ids(deployment, "b") == list(range(1, 25))


def test_nothing_changes_while_a_run_is_at_work(
    deployment: Deployment, here: JobTablesHere, tmp_path: Path
) -> None:
    """The lease says so; the answer comes at once. Nothing is recorded, as nothing was done."""
    job, runs = three_runs(deployment, tmp_path, "append", "a")
    lease = deployment.store.acquire_lease(job.id, "a run", 60.0)
    for change in (
        lambda: here.set_state(job.id, [own("a", 1)], act=ACT),
        lambda: here.delete_state(job.id, None, act=ACT),
        lambda: here.rewind(job.id, runs[0].id, force=False, dry_run=False, act=ACT),
    ):
        with pytest.raises(Conflict) as refused:
            change()
        assert refused.value.code == "job-running"
    assert deployment.store.audit.entries() == []
    deployment.store.release_lease(lease)
    here.delete_state(job.id, None, act=ACT)
    assert deployment.store.lease(job.id) is None


def test_a_commit_that_was_begun_before_cannot_land(
    deployment: Deployment, here: JobTablesHere, tmp_path: Path
) -> None:
    """Though the table has the rows again that it was made on: its snapshot is another one."""
    job, runs = three_runs(deployment, tmp_path, "append", "a")
    here.rewind(job.id, runs[0].id, force=False, dry_run=False, act=None)
    late = prepare(deployment.table("a"), FileChanges(always=True), {}, {})
    only_state = prepare(deployment.table("a"), FileChanges(), {"x": "y"}, {})
    deployment.run(job, "run-4")
    here.rewind(job.id, runs[0].id, force=False, dry_run=False, act=None)
    for attempt in (late, only_state):
        with pytest.raises(CommitFailedException):
            attempt.send()
    assert ids(deployment, "a") == list(range(1, 9))


@pytest.fixture(autouse=True)
def _no_lease_left(deployment: Deployment) -> Iterator[None]:
    """Whatever happened, no job is held."""
    yield
    for job in deployment.store.jobs():
        assert deployment.store.lease(job.id) is None
