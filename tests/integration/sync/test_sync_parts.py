"""Runs whose streams are synced side by side: planned by one process, each part done by another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from airberg.errors import ConfigurationFailed, LeaseHeld, RunError, TransientFailed
from airberg.flows.planned_parts import VARIABLE, write_parts
from airberg.jobs.changes import JobChange
from airberg.jobs.model import Job, JobStatus, Run, RunPart, RunReport, RunRequest, RunStatus
from airberg.settings import SyncSettings
from support.deployment import Deployment, write_scenario
from support.deployment import numbered_stream as stream
from support.duckdb_reader import duckdb_rows

STREAMS = ("a", "b", "c")


@pytest.fixture
def deployment(tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path) -> Deployment:
    """A deployment that makes a checkpoint at every state."""
    return Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir, SyncSettings(checkpoint_seconds=0.0))


def scenario(folder: Path, *streams: dict[str, Any], **read: Any) -> Path:
    """A source with these streams."""
    return write_scenario(folder, {"streams": list(streams), "read": read})


def ids(deployment: Deployment, table: str) -> list[int]:
    """The ids in a table, sorted."""
    return [row[0] for row in sorted(deployment.rows(table, "id"))]


def child(
    deployment: Deployment,
    verb: str,
    job: Job,
    *arguments: str,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.Popen[str]:
    """Start a command as a task of a flow does."""
    sources = deployment.settings.sources
    own = {
        "AIRBERG_HOME": str(deployment.home),
        "AIRBERG_SOURCES__PYAIRBYTE_DIR": str(sources.pyairbyte_dir),
        "AIRBERG_SOURCES__CONNECTORS_DIR": str(sources.connectors_dir),
        "AIRBERG_SYNC__CHECKPOINT_SECONDS": "0",
    }
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("AIRBERG_")}
    return subprocess.Popen(
        [sys.executable, "-m", "airberg.cli", verb, str(job.id), "--flow-run-id", "run-1", *arguments],
        env={**inherited, **own, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def statuses(run: Run) -> list[str]:
    """Of the parts."""
    return [part.status.value for part in run.report.parts]


def test_each_stream_is_a_part_and_the_parts_can_be_done_at_once(
    deployment: Deployment, tmp_path: Path
) -> None:
    """The run is complete with the last of them, and looks as one that one process did."""
    job = deployment.job(scenario(tmp_path, *map(stream, STREAMS)), "merge")
    run = deployment.plan(job)
    assert [part.tables for part in run.report.parts] == [("a",), ("b",), ("c",)]
    assert run.status is RunStatus.RUNNING
    assert [a.status for a in run.report.attempts] == [RunStatus.COMPLETED]
    children = [child(deployment, "sync", job, "--part", str(number)) for number in range(3)]
    for process in children:
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
    stored = deployment.store.run(run.id)
    assert (stored.status, statuses(stored)) == (RunStatus.COMPLETED, ["completed"] * 3)
    assert deployment.store.job(job.id).status is JobStatus.COMPLETED
    assert {
        s.table: (s.rows_read, s.rows_written, s.complete) for s in stored.report.streams
    } == dict.fromkeys(STREAMS, (12, 12, True))
    for name in STREAMS:
        rows = duckdb_rows(deployment.table(name))
        assert sorted((r["id"], r["item"]) for r in rows) == [(i, f"{name} {i}") for i in range(1, 13)]
    lines = deployment.store.run_logs.read(run.id, limit=5000)
    assert sum("completed: 12 rows written" in line.message for line in lines) == 3


def test_the_next_run_goes_on_from_the_tables(deployment: Deployment, tmp_path: Path) -> None:
    """Whether one process does it or several: a run of either kind continues the other's."""
    job = deployment.job(scenario(tmp_path, *map(stream, STREAMS)))
    deployment.plan(job)
    for number in (2, 0, 1):
        deployment.part(job, number)
    scenario(tmp_path, *(stream(name, 20) for name in STREAMS))
    whole = deployment.run(job, "run-2")
    assert [s.rows_written for s in whole.report.streams] == [8, 8, 8]
    scenario(tmp_path, *(stream(name, 30) for name in STREAMS))
    deployment.plan(job, "run-3")
    parts = [deployment.part(job, number, "run-3") for number in range(3)]
    assert [p.report.streams[0].rows_written for p in parts] == [10, 10, 10]
    for name in STREAMS:
        assert ids(deployment, name) == list(range(1, 31))


def test_a_part_that_fails_is_tried_again_alone(deployment: Deployment, tmp_path: Path) -> None:
    """Its checkpoints stay; the others are not touched, and the run completes after all."""
    fails = {"after": 7, "once": str(tmp_path / "failed"), "steps": [{"exit": 1}]}
    job = deployment.job(scenario(tmp_path, stream("a"), stream("b", at=[fails])))
    run = deployment.plan(job)
    with pytest.raises(TransientFailed):
        deployment.part(job, 1)
    assert statuses(deployment.store.run(run.id)) == ["queued", "failed"]
    deployment.part(job, 0)
    stored = deployment.store.run(run.id)
    assert stored.status is RunStatus.FAILED
    assert stored.error is not None
    assert stored.error.startswith("1 of 2 parts did not succeed. b: ")
    assert stored.error_code == stored.report.parts[1].error_code
    snapshots = {name: deployment.table(name).snapshots() for name in ("a", "b")}
    assert ids(deployment, "b") == list(range(1, 6))

    part = deployment.part(job, 1, attempt=2)
    assert [a.status for a in part.report.attempts] == [RunStatus.FAILED, RunStatus.COMPLETED]
    stored = deployment.store.run(run.id)
    assert (stored.status, stored.error, statuses(stored)) == (RunStatus.COMPLETED, None, ["completed"] * 2)
    assert ids(deployment, "b") == list(range(1, 13))
    assert deployment.table("a").snapshots() == snapshots["a"]
    assert deployment.table("b").snapshots()[: len(snapshots["b"])] == snapshots["b"]


def test_parts_and_whole_runs_keep_apart(deployment: Deployment, tmp_path: Path) -> None:
    """A part is not begun twice, nor beside a whole run, nor the other way round."""
    waits = threading.Event()
    job = deployment.job(scenario(tmp_path, *map(stream, STREAMS)))
    deployment.plan(job)
    lease = deployment.store.acquire_lease(job.id, "another", 2, tables=["b"])

    def keep_alive() -> None:
        alive = lease
        while not waits.wait(0.2):
            alive = deployment.store.renew_lease(alive, 2)

    keeper = threading.Thread(target=keep_alive)
    keeper.start()
    try:
        with pytest.raises(LeaseHeld):
            deployment.part(job, 1)
        with pytest.raises(LeaseHeld):
            deployment.run(job, "run-2")
        assert deployment.part(job, 0).status is RunStatus.COMPLETED
    finally:
        waits.set()
        keeper.join()
    assert deployment.store.find_run(job.id, "run-2") is None


def test_streams_of_change_data_capture_stay_in_one_part(deployment: Deployment, tmp_path: Path) -> None:
    """The catalog says so before anything is read: the cursor is the source's, and the columns are there."""
    fields = {"id": "$i", "item": "a $i", "_ab_cdc_lsn": "$i"}
    streams = [stream("a", generate={"count": 12, "from": 1, "fields": fields}), stream("b")]
    job = deployment.job(scenario(tmp_path, *streams, global_state=True), "merge")
    run = deployment.plan(job)
    assert [part.tables for part in run.report.parts] == [("a", "b")]
    deployment.part(job, 0)
    assert [ids(deployment, name) for name in ("a", "b")] == [list(range(1, 13))] * 2
    assert deployment.store.run(run.id).status is RunStatus.COMPLETED


def test_a_common_state_that_nobody_announced(deployment: Deployment, tmp_path: Path) -> None:
    """The part that meets it fails before it commits a row under it, and the next run has one part."""
    job = deployment.job(scenario(tmp_path, *map(stream, STREAMS), global_state=True))
    deployment.plan(job)
    for number in range(3):
        with pytest.raises(ConfigurationFailed) as caught:
            deployment.part(job, number)
        assert caught.value.code == "shared-state"
    assert deployment.store.find_run(job.id, "run-1").error_code == "shared-state"  # type: ignore[union-attr]
    assert [ids(deployment, name) for name in STREAMS] == [[], [], []]
    for run_id, count in (("run-2", 12), ("run-3", 20)):
        scenario(tmp_path, *(stream(name, count) for name in STREAMS), global_state=True)
        run = deployment.plan(job, run_id)
        assert [part.tables for part in run.report.parts] == [STREAMS]
        deployment.part(job, 0, run_id)
        assert [ids(deployment, name) for name in STREAMS] == [list(range(1, count + 1))] * 3


def test_a_plan_that_fails_ends_the_run(deployment: Deployment, tmp_path: Path) -> None:
    """Nothing is made of any table when one of them cannot take its rows; then the plan is tried again."""
    job = deployment.job(scenario(tmp_path, *map(stream, STREAMS)))
    deployment.run(job, "run-1")
    before = {name: deployment.table(name).metadata_location for name in STREAMS}
    write_scenario(tmp_path, {"streams": [stream("a")], "discover": {"steps": [{"exit": 1}]}})
    assert job.plan is not None
    deployment.store.set_plan(job.id, msgspec.structs.replace(job.plan, discovered_at=0.0))
    with pytest.raises(RunError):
        deployment.plan(job, "run-2")
    failed = deployment.store.find_run(job.id, "run-2")
    assert failed is not None
    assert (failed.status, failed.report.parts) == (RunStatus.FAILED, ())
    assert {name: deployment.table(name).metadata_location for name in STREAMS} == before
    scenario(tmp_path, *map(stream, STREAMS))
    assert deployment.plan(job, "run-2", 2).status is RunStatus.RUNNING


def test_a_part_of_a_job_that_was_changed_since_does_nothing(deployment: Deployment, tmp_path: Path) -> None:
    """Its table may not be the job's any more."""
    job = deployment.job(scenario(tmp_path, *map(stream, STREAMS)))
    deployment.plan(job)
    assert job.plan is not None
    smaller = msgspec.structs.replace(job.plan, streams=job.plan.streams[:1])
    deployment.store.update(job.id, JobChange(plan=smaller, version=job.version))
    with pytest.raises(ConfigurationFailed) as caught:
        deployment.part(job, 2)
    assert caught.value.code == "job-changed"
    assert deployment.part(job, 0).status is RunStatus.COMPLETED


def test_a_part_without_a_plan(deployment: Deployment, tmp_path: Path) -> None:
    """Says what has to come first."""
    job = deployment.job(scenario(tmp_path, stream("a")))
    with pytest.raises(ConfigurationFailed) as caught:
        deployment.part(job, 0)
    assert caught.value.code == "no-part"
    deployment.plan(job)
    with pytest.raises(ConfigurationFailed, match="has no part 7"):
        deployment.part(job, 7)


def test_a_planned_run_keeps_to_what_it_is_asked(deployment: Deployment, tmp_path: Path) -> None:
    """Only those streams are parts."""
    job = deployment.job(scenario(tmp_path, *map(stream, STREAMS)))
    run = deployment.plan(job, asked=RunRequest(streams=("c", "a")))
    assert [part.tables for part in run.report.parts] == [("a",), ("c",)]
    for number in range(2):
        deployment.part(job, number)
    assert deployment.store.run(run.id).status is RunStatus.COMPLETED
    assert [ids(deployment, name) for name in STREAMS] == [list(range(1, 13)), [], list(range(1, 13))]


def test_what_the_orchestrator_is_told_of_parts(deployment: Deployment, tmp_path: Path) -> None:
    """How many there are, and names for people, in a file; the command says them too."""
    job = deployment.job(scenario(tmp_path, *map(stream, STREAMS)))
    file = tmp_path / "parts.json"
    process = child(deployment, "plan", job, "--stream", "c", "--stream=b", variables={VARIABLE: str(file)})
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert json.loads(file.read_text()) == {"parts": 2, "names": ["b", "c"]}
    assert "part 1: c" in said
    run = deployment.store.find_run(job.id, "run-1")
    assert run is not None
    assert run.asked == RunRequest(streams=("c", "b"))
    assert [part.tables for part in run.report.parts] == [("b",), ("c",)]


def test_names_of_many_parts_are_left_out(tmp_path: Path) -> None:
    """The place for a result may be small."""
    file = tmp_path / "parts.json"
    parts = [RunPart(number=n, tables=("t" * 70,), report=RunReport()) for n in range(1000)]
    write_parts(parts, {VARIABLE: str(file)})
    assert json.loads(file.read_text()) == {"parts": 1000, "names": []}
    write_parts(parts[:1], {VARIABLE: str(file)})
    (name,) = json.loads(file.read_text())["names"]
    assert len(name) == 60
    write_parts(parts, {})
