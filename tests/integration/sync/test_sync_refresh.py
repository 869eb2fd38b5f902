"""Runs that are asked for more than a plain one: some streams only, or everything from the beginning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airberg.errors import ConfigurationFailed, TransientFailed
from airberg.jobs.model import RunRequest, RunStatus
from airberg.lake.note import read_note
from airberg.settings import SyncSettings
from support.deployment import Deployment, write_scenario
from support.duckdb_reader import duckdb_rows

REFRESH = RunRequest(full_refresh=True)


@pytest.fixture
def deployment(tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path) -> Deployment:
    """A deployment that makes a checkpoint at every state."""
    return Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir, SyncSettings(checkpoint_seconds=0.0))


def stream(name: str, *numbers: int, item: str = "item", **members: Any) -> dict[str, Any]:
    """A stream of records with these ids."""
    records = [{"id": n, "item": f"{item} {n}"} for n in numbers]
    keys = {"cursor": "id", "primary_key": [["id"]], "state_every": 2}
    return {"name": name, "records": records} | keys | members


def scenario(folder: Path, *streams: dict[str, Any], **read: Any) -> Path:
    """A source with these streams."""
    return write_scenario(folder, {"streams": list(streams), "read": read})


def rows(deployment: Deployment, table: str) -> list[tuple[Any, ...]]:
    """What another engine reads."""
    return sorted((r["id"], r["item"]) for r in duckdb_rows(deployment.table(table)))


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_refresh_makes_the_table_what_the_source_has(
    deployment: Deployment, tmp_path: Path, mode: str
) -> None:
    """Rows that changed without their cursor are read again, rows that the source lost go, in one snapshot.

    The next run goes on from where the refresh ended.
    """
    job = deployment.job(scenario(tmp_path, stream("orders", 1, 2, 3, 4, 5)), mode)
    deployment.run(job, "run-1")
    scenario(tmp_path, stream("orders", 1, 2, 5, 6, item="new"))
    snapshots = len(deployment.table("orders").snapshots())
    run = deployment.run(job, "run-2", asked=REFRESH)
    assert rows(deployment, "orders") == [(n, f"new {n}") for n in (1, 2, 5, 6)]
    assert len(deployment.table("orders").snapshots()) == snapshots + 1
    (report,) = run.report.streams
    assert (report.rows_read, report.rows_written, report.rows_deleted) == (4, 4, 5)
    assert (report.state_before, report.state_changed, run.asked) == (None, True, REFRESH)

    scenario(tmp_path, stream("orders", 1, 2, 5, 6, 7, item="newer"))
    later = deployment.run(job, "run-3")
    assert [s.rows_written for s in later.report.streams] == [1]
    assert rows(deployment, "orders") == [*((n, f"new {n}") for n in (1, 2, 5, 6)), (7, "newer 7")]


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_the_old_rows_stay_until_a_refresh_has_everything(
    deployment: Deployment, tmp_path: Path, mode: str
) -> None:
    """An attempt that fails changes nothing; the next one of the run begins anew and completes it."""
    job = deployment.job(scenario(tmp_path, stream("orders", 1, 2, 3)), mode)
    deployment.run(job, "run-1")
    before = deployment.table("orders").metadata_location
    fails = {"after": 5, "once": str(tmp_path / "failed"), "steps": [{"exit": 1}]}
    scenario(tmp_path, stream("orders", 1, 2, 3, 4, 5, 6, item="new", at=[fails]))
    with pytest.raises(TransientFailed):
        deployment.run(job, "run-2", asked=REFRESH)
    assert deployment.table("orders").metadata_location == before
    deployment.run(job, "run-2", 2)
    assert rows(deployment, "orders") == [(n, f"new {n}") for n in range(1, 7)]
    again = deployment.run(job, "run-2", 3)
    assert again.status is RunStatus.COMPLETED
    assert rows(deployment, "orders") == [(n, f"new {n}") for n in range(1, 7)]


def test_a_refresh_of_a_source_that_is_empty_by_now(deployment: Deployment, tmp_path: Path) -> None:
    """Empties the table, in either mode."""
    for mode in ("append", "merge"):
        job = deployment.job(scenario(tmp_path, stream(mode, 1, 2, 3)), mode)
        deployment.run(job, "run-1")
        schema = {"type": "object", "properties": {"id": {"type": "integer"}, "item": {"type": "string"}}}
        scenario(tmp_path, stream(mode, json_schema=schema))
        deployment.run(job, "run-2", asked=REFRESH)
        assert rows(deployment, mode) == []


def test_a_merge_that_is_refreshed_keeps_the_newest_of_each_key(
    deployment: Deployment, tmp_path: Path
) -> None:
    """The source may send several versions of a row from its beginning."""
    versions = [{"id": n % 3, "at": n, "item": f"version {n}"} for n in range(12)]
    events = {
        "name": "events",
        "cursor": "at",
        "primary_key": [["id"]],
        "state_every": 2,
        "records": versions,
    }
    job = deployment.job(scenario(tmp_path, events), "merge")
    deployment.run(job, "run-1")
    deployment.run(job, "run-2", asked=REFRESH)
    assert rows(deployment, "events") == [(n, f"version {9 + n}") for n in range(3)]
    note = read_note(deployment.table("events"), str(job.id), deployment.parts.sealer)
    assert note is not None
    assert note.generation_id == 1


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_a_refresh_of_streams_with_a_common_state(deployment: Deployment, tmp_path: Path, mode: str) -> None:
    """Their tables come out of one read, also when the first attempt ends between them."""
    first, last = stream("a", 1, 2, 3), stream("b", 1, 2, 3)
    job = deployment.job(scenario(tmp_path, first, last, global_state=True), mode)
    deployment.run(job, "run-1")
    new = [stream(name, 2, 3, 4, item="new") for name in ("a", "b")]
    scenario(tmp_path, *new, global_state=True)
    deployment.run(job, "run-2", asked=REFRESH)
    for name in ("a", "b"):
        assert rows(deployment, name) == [(n, f"new {n}") for n in (2, 3, 4)]
    scenario(tmp_path, *(stream(name, 2, 3, 4, 5, item="newer") for name in ("a", "b")), global_state=True)
    deployment.run(job, "run-3")
    for name in ("a", "b"):
        assert rows(deployment, name) == [*((n, f"new {n}") for n in (2, 3, 4)), (5, "newer 5")]


def test_only_the_streams_that_are_asked_for(deployment: Deployment, tmp_path: Path) -> None:
    """The others stay as they are, and go on from there."""
    job = deployment.job(scenario(tmp_path, stream("a", 1), stream("b", 1)))
    run = deployment.run(job, "run-1", asked=RunRequest(streams=("b",)))
    assert [s.stream for s in run.report.streams] == ["b"]
    assert (rows(deployment, "a"), rows(deployment, "b")) == ([], [(1, "item 1")])
    deployment.run(job, "run-2")
    assert (rows(deployment, "a"), rows(deployment, "b")) == ([(1, "item 1")], [(1, "item 1")])


def test_a_refresh_of_one_stream(deployment: Deployment, tmp_path: Path) -> None:
    """The others are not read."""
    job = deployment.job(scenario(tmp_path, stream("a", 1, 2), stream("b", 1, 2)))
    deployment.run(job, "run-1")
    scenario(tmp_path, stream("a", 1, 2, item="new"), stream("b", 1, 2, item="new"))
    deployment.run(job, "run-2", asked=RunRequest(streams=("a",), full_refresh=True))
    assert rows(deployment, "a") == [(1, "new 1"), (2, "new 2")]
    assert rows(deployment, "b") == [(1, "item 1"), (2, "item 2")]


def test_a_stream_that_the_job_does_not_have(deployment: Deployment, tmp_path: Path) -> None:
    """Is named, with the one that may be meant; nothing is read."""
    job = deployment.job(scenario(tmp_path, stream("orders", 1)))
    with pytest.raises(ConfigurationFailed, match='Did you mean "orders"') as caught:
        deployment.run(job, "run-1", asked=RunRequest(streams=("order",)))
    assert caught.value.code == "unknown-stream"
    assert rows(deployment, "orders") == []


def test_some_of_the_streams_of_a_common_state(deployment: Deployment, tmp_path: Path) -> None:
    """Would be read beyond the others' position: refused."""
    job = deployment.job(scenario(tmp_path, stream("a", 1), stream("b", 1), global_state=True))
    deployment.run(job, "run-1")
    with pytest.raises(ConfigurationFailed) as caught:
        deployment.run(job, "run-2", asked=RunRequest(streams=("a",)))
    assert caught.value.code == "shared-state"
