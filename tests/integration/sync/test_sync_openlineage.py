"""Real runs tell their lineage to a listener that checks every event against the specification."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from airberg.errors import ConfigurationFailed, LeaseHeld, TransientFailed
from airberg.jobs.model import Run, RunStatus
from airberg.settings import SyncSettings
from support.conditions import eventually
from support.deployment import Deployment, write_scenario
from support.lineage_listener import API_KEY, LineageListener, lineage_listener

PASSWORD = "pl4nted-s3cret/val"


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[LineageListener]:
    """A listener that the settings name, for runs of this process and of children."""
    with lineage_listener() as found:
        monkeypatch.setenv("AIRBERG_OPENLINEAGE__URL", found.url)
        monkeypatch.setenv("AIRBERG_OPENLINEAGE__API_KEY", API_KEY)
        monkeypatch.setenv("AIRBERG_OPENLINEAGE__TIMEOUT_S", "30")
        yield found


@pytest.fixture
def deployment(
    listener: LineageListener, tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path
) -> Deployment:
    """A deployment that makes a checkpoint at every state, and whose leases end soon."""
    sync = SyncSettings(checkpoint_seconds=0.0, lease_seconds=2.0)
    return Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir, sync)


def users(count: int, **members: Any) -> dict[str, Any]:
    """A stream with a column that will be encrypted."""
    fields = {"id": "$i", "email": "user$i@plaintext.example"}
    base = {"name": "users", "cursor": "id", "primary_key": [["id"]], "state_every": 10}
    return base | {"generate": {"count": count, "from": 1, "fields": fields}} | members


ENCRYPTED = [{"column": "email", "transformation_type": "encrypt", "stream": "users"}]


def test_a_run_tells_what_it_does(deployment: Deployment, listener: LineageListener, tmp_path: Path) -> None:
    """Start and end with the table, its columns, and what was written; no value, no secret."""
    scenario = write_scenario(tmp_path, {"streams": [users(25)]})
    job = deployment.job(scenario, column_transformations=ENCRYPTED, password=PASSWORD)
    first = deployment.run(job, "scheduled__2026-11-23T03:00:00+00:00")
    assert first.report.lineage_error is None
    (start, start_id), (end, end_id) = listener.told()
    assert (start, end, start_id == end_id) == ("START", "COMPLETE", True)
    table = deployment.table("users")
    [found] = listener.events[1]["outputs"]
    assert "file://" + found["name"] == table.metadata.location
    assert found["outputFacets"]["outputStatistics"]["rowCount"] == 25
    assert found["outputFacets"]["outputStatistics"]["size"] == first.report.streams[0].bytes_written
    assert found["facets"]["version"]["datasetVersion"] == str(table.metadata.current_snapshot_id)
    assert found["facets"]["lifecycleStateChange"]["lifecycleStateChange"] == "CREATE"
    names = [f["name"] for f in found["facets"]["schema"]["fields"]]
    assert names == [f.name for f in table.schema().fields]
    lineage = found["facets"]["columnLineage"]["fields"]["email"]["inputFields"][0]
    assert lineage["namespace"] == "airbyte://source-scripted"
    assert lineage["transformations"][0]["masking"] is True
    assert "nominalTime" in listener.events[0]["run"]["facets"]
    text = json.dumps(listener.events)
    for secret in (PASSWORD, "plaintext.example", API_KEY):
        assert secret not in text
    deployment.run(job, "run-2")
    assert [state for state, _ in listener.told()] == ["START", "COMPLETE"] * 2
    assert listener.events[3]["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 0


def test_a_failure_and_its_retry_are_two_runs(
    deployment: Deployment, listener: LineageListener, tmp_path: Path
) -> None:
    """Each counts what it has committed itself; the reason of the failure is told without secrets."""
    error = {"message": f"refused {PASSWORD}", "failure_type": "transient_error"}
    fails = {"after": 15, "once": str(tmp_path / "flag"), "steps": [{"trace_error": error}, {"exit": 1}]}
    scenario = write_scenario(tmp_path, {"streams": [users(25, at=[fails])]})
    job = deployment.job(scenario, password=PASSWORD)
    with pytest.raises(TransientFailed):
        deployment.run(job, "run-1", 1)
    deployment.run(job, "run-1", 2)
    told = listener.told()
    assert [state for state, _ in told] == ["START", "FAIL", "START", "COMPLETE"]
    assert told[0][1] == told[1][1] != told[2][1] == told[3][1]
    counts = [e["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] for e in listener.events[1::2]]
    assert counts == [10, 15]
    message = listener.events[1]["run"]["facets"]["errorMessage"]["message"]
    assert "refused" in message
    assert PASSWORD not in json.dumps(listener.events)


def test_a_failure_before_there_are_tables(
    deployment: Deployment, listener: LineageListener, tmp_path: Path
) -> None:
    """The stream has gone from the source: told as a run that failed, with no table."""
    job = deployment.job(write_scenario(tmp_path, {"streams": [users(5)]}), streams=("users",))
    assert job.plan is not None
    deployment.store.set_plan(job.id, msgspec.structs.replace(job.plan, discovered_at=0.0))
    write_scenario(tmp_path, {"streams": [users(5, name="others")]})
    with pytest.raises(ConfigurationFailed, match="users"):
        deployment.run(job)
    assert [state for state, _ in listener.told()] == ["START", "FAIL"]
    assert listener.events[1]["outputs"] == []
    assert "users" in listener.events[1]["run"]["facets"]["errorMessage"]["message"]


@pytest.mark.parametrize("status", [503, 401])
def test_a_listener_that_refuses_fails_nothing(
    deployment: Deployment, listener: LineageListener, tmp_path: Path, status: int
) -> None:
    """The rows are there, and the run shows what happened."""
    listener.status = status
    job = deployment.job(write_scenario(tmp_path, {"streams": [users(5)]}))
    run = deployment.run(job)
    assert run.status is RunStatus.COMPLETED
    assert len(deployment.rows("users", "id")) == 5
    stored = deployment.store.run(run.id)
    assert "OpenLineage" in (stored.report.lineage_error or "")
    assert API_KEY not in (stored.report.lineage_error or "")


def test_a_killed_run_is_told_by_the_next_attempt(
    deployment: Deployment, listener: LineageListener, tmp_path: Path
) -> None:
    """SIGKILL after the start was told: the attempt is aborted, then the next one begins."""
    waits = {"after": 15, "once": str(tmp_path / "flag"), "steps": [{"sleep": 300}]}
    job = deployment.job(write_scenario(tmp_path, {"streams": [users(25, at=[waits])]}))
    command = [sys.executable, "-m", "airberg.cli", "sync", str(job.id), "--flow-run-id", "run-1"]
    settings = deployment.settings
    environment = os.environ | {
        "AIRBERG_HOME": str(settings.home),
        "AIRBERG_SYNC__CHECKPOINT_SECONDS": "0",
        "AIRBERG_SYNC__LEASE_SECONDS": "2",
        "AIRBERG_SOURCES__PYAIRBYTE_DIR": str(settings.sources.pyairbyte_dir),
        "AIRBERG_SOURCES__CONNECTORS_DIR": str(settings.connectors_dir),
    }
    child = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: listener.events and (tmp_path / "flag").exists(), 120.0)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()

    def again() -> Run | None:
        try:
            return deployment.run(job, "run-1", 2)
        except LeaseHeld:
            return None

    run = eventually(again, 60.0, every_s=0.3)
    assert run is not None
    assert run.status is RunStatus.COMPLETED
    told = listener.told()
    assert [state for state, _ in told] == ["START", "ABORT", "START", "COMPLETE"]
    assert told[0][1] == told[1][1] != told[2][1] == told[3][1]
