"""Jobs keep the connector that they were made with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from airberg.errors import ConfigurationFailed
from airberg.jobs.connector import connector_of
from airberg.plan.child import ChildPlanner
from airberg.plan.model import IngestRequest
from support.deployment import SCRIPTED, Deployment, write_scenario

STREAMS = {"streams": [{"name": "orders", "records": [{"id": 1}]}]}


@pytest.fixture
def deployment(tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path) -> Deployment:
    """A deployment with the scripted source."""
    return Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir)


def declare(deployment: Deployment, text: str) -> None:
    """Write the connectors file anew."""
    deployment.settings.connectors_file.write_text(text)


def test_connectors_file_does_not_change_jobs(deployment: Deployment, tmp_path: Path) -> None:
    """A job goes on with its connector when the file names another, or none."""
    job = deployment.job(write_scenario(tmp_path, STREAMS))
    declare(deployment, '[connectors.source-scripted]\nexecutable = "not-there"\nversion = "2"\n')
    deployment.run(job, "run-1")
    declare(deployment, "[connectors]\n")
    deployment.run(job, "run-2")
    assert deployment.rows("orders", "id") == [(1,), (1,)]


def test_job_of_an_earlier_version_runs_with_what_is_known(deployment: Deployment, tmp_path: Path) -> None:
    """It keeps no connector: that of its plan's version is taken, else the one for new jobs."""
    job = deployment.job(write_scenario(tmp_path, STREAMS))
    bare = msgspec.structs.replace(job.request, connector=None, source_version=None)
    old = replace(job, request=bare)
    two = '[connectors.source-scripted]\nexecutable = "new"\nversion = "2"\n'
    declare(deployment, f'{two}[connectors.source-scripted.versions.local]\nexecutable = "{SCRIPTED}"\n')
    assert connector_of(old, deployment.settings).executable == str(SCRIPTED)
    declare(deployment, two)
    assert connector_of(old, deployment.settings).known_version == "2"


def test_job_that_is_not_checked_keeps_it_too(deployment: Deployment) -> None:
    """`?preflight=skip` asks no source, but which connector the job has is settled then."""
    declare(deployment, f'[connectors.source-scripted]\nexecutable = "{SCRIPTED}"\nversions = ["2"]\n')
    request = IngestRequest(
        name="a", source_name="source-scripted", schema_name="s", mode="append", source_version="2"
    )
    planner = ChildPlanner(deployment.settings)
    prepared = planner.prepare(request, {}, preflight=False, roles=frozenset())
    assert prepared.connector is not None
    assert prepared.connector.known_version == "2"
    kept = request.pinned(prepared.connector)
    assert msgspec.json.decode(msgspec.json.encode(kept), type=IngestRequest) == kept


def test_failed_plan_of_another_version_is_not_used(deployment: Deployment, tmp_path: Path) -> None:
    """A plan that another version was asked for is not fresh, however young."""
    job = deployment.job(write_scenario(tmp_path, STREAMS))
    assert job.plan is not None
    deployment.store.set_plan(job.id, msgspec.structs.replace(job.plan, connector_version="0.9"))
    write_scenario(tmp_path, {"streams": []})
    with pytest.raises(ConfigurationFailed) as caught:
        deployment.run(job)
    assert caught.value.code == "no-streams"
