"""The service has DataHub told of deleted jobs, by a process of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airberg.cli.app import app
from airberg.governance.datahub_settings import DataHubSettings
from airberg.governance.ends import EndsOfJobs
from airberg.jobs.migrate import upgrade
from airberg.jobs.model import Job, RunReport, RunStatus
from airberg.jobs.open import open_store
from airberg.jobs.sql import SqlJobStore
from airberg.keys.kek import ensure_master_key
from airberg.settings import Settings
from airberg.testing.datahub import DataHubDouble, Fault, serve_datahub
from support.conditions import eventually
from support.governed_tables import make_job
from support.jobs import at


@dataclass
class Ground:
    """A store with a job that DataHub knows, and the environment of the process."""

    settings: Settings
    store: SqlJobStore
    job: Job

    def ends(self) -> EndsOfJobs:
        """As the service has it, but for its patience."""
        return EndsOfJobs(self.store, self.settings, again_s=(0.2, 1.0))

    @property
    def flow(self) -> str:
        """Urn of the job's flow."""
        return f"urn:li:dataFlow:(airflow,{self.job.flow_id},prod)"


@pytest.fixture
def datahub() -> DataHubDouble:
    """Known by its address, and not there until it is served again."""
    with serve_datahub() as double:
        return double


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, datahub: DataHubDouble) -> Iterator[Ground]:
    """A run of the job was told."""
    about = {"server": datahub.url, "token": datahub.token, "retries": 0}
    settings = Settings(home=tmp_path, datahub=DataHubSettings.model_validate(about))
    for name, value in about.items():
        monkeypatch.setenv(f"AIRBERG_DATAHUB__{name.upper()}", str(value))
    monkeypatch.setenv("AIRBERG_HOME", str(tmp_path))
    # Who deletes a job has no catalog to be asked.
    monkeypatch.setenv("AIRBERG_CATALOG__NAME", "of somebody else")
    ensure_master_key(settings)
    upgrade(settings.database_url)
    store = open_store(settings)
    job = store.add_job(make_job(), {})
    run = store.start_run(job.id, "r1", 1, at(1))
    store.end_run(run.id, RunStatus.COMPLETED, at(2), report=RunReport(metadata=datahub.url))
    yield Ground(settings, store, job)
    store.close()


def test_an_outage_ends_and_then_it_is_told(
    ground: Ground, datahub: DataHubDouble, caplog: pytest.LogCaptureFixture
) -> None:
    """By the loop alone; what went wrong is logged, without the token."""
    ends, stop = ground.ends(), threading.Event()
    assert not ends.look(stop), "nothing is due"
    ground.store.delete_job(ground.job.id, at(3))
    with caplog.at_level(logging.INFO, logger="airberg.governance.ends"):
        thread = threading.Thread(target=ends.loop, args=(stop, 0.05))
        thread.start()
        try:
            assert eventually(lambda: "gave no answer" in caplog.text, 60.0)
            assert ground.store.metadata_due.deleted_jobs()
            with serve_datahub(datahub):
                datahub.fault = Fault(status=503, times=1)
                assert eventually(lambda: not ground.store.metadata_due.deleted_jobs(), 60.0)
        finally:
            stop.set()
            thread.join(20)
    assert not thread.is_alive()
    assert datahub.aspect(ground.flow, "status") == {"removed": True}
    assert f'"job": "{ground.job.id}", "outcome": "removed"' in caplog.text
    assert datahub.token not in caplog.text


def test_a_flow_that_is_still_there_may_tell_the_contrary(ground: Ground, datahub: DataHubDouble) -> None:
    """A task of it may be at work: it is told when the flow is withdrawn."""
    ground.store.set_flow_hash(ground.job.id, "as published")
    ground.store.delete_job(ground.job.id, at(3))
    ends, stop = ground.ends(), threading.Event()
    assert not ends.look(stop)
    ground.store.set_flow_hash(ground.job.id, None)
    with serve_datahub(datahub):
        assert ends.look(stop)
    assert not ground.store.metadata_due.deleted_jobs()


def test_it_is_not_tried_all_the_time(ground: Ground) -> None:
    """After each failure later, up to a limit."""
    ground.store.delete_job(ground.job.id, at(3))
    ends, stop = EndsOfJobs(ground.store, ground.settings, again_s=(3600.0, 7200.0)), threading.Event()
    assert ends.look(stop)
    assert not ends.look(stop)


def test_a_service_that_stops_waits_for_nobody(ground: Ground, datahub: DataHubDouble) -> None:
    """The process is ended, and the deletion stays due."""
    ground.store.delete_job(ground.job.id, at(3))
    ends, stop = ground.ends(), threading.Event()
    with serve_datahub(datahub):
        datahub.fault = Fault(delay_s=600)
        thread = threading.Thread(target=ends.loop, args=(stop, 0.05))
        thread.start()
        assert eventually(lambda: bool(datahub.calls), 60.0)
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
    assert ground.store.metadata_due.deleted_jobs()


def test_without_datahub_there_is_no_loop(tmp_path: Path, ground: Ground) -> None:
    """It returns at once."""
    settings = Settings(home=tmp_path, datahub=DataHubSettings())
    EndsOfJobs(ground.store, settings).loop(threading.Event(), 3600.0)


def test_deleted_jobs_are_told_without_runs() -> None:
    """What chooses runs does not go with it."""
    done = CliRunner().invoke(app, ["governance", "replay", "--deleted", "--from-files"])
    assert done.exit_code == 2
    assert "--job and --json only" in " ".join(done.output.split())
