"""A run and its task `register`, with a DataHub that fails in every way, and then is there again."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airberg.cli.parent import PR_SET_PDEATHSIG
from airberg.cli.tasks import register_tables
from airberg.errors import RunError
from airberg.governance.datahub_settings import DataHubSettings
from airberg.jobs.model import Job, Run, RunStatus
from airberg.settings import Settings
from airberg.testing.datahub import DataHubDouble, Fault, serve_datahub
from support.deployment import Deployment, write_scenario

pytestmark = pytest.mark.xdist_group("governance-flow")  # one job is loaded for all
RUN = "run-1"
TABLE = "urn:li:dataset:(urn:li:dataPlatform:iceberg,shop.orders,PROD)"
HUMAN = {"tag": "urn:li:tag:human"}
BOB = {"owner": "urn:li:corpuser:bob", "type": "BUSINESS_OWNER"}
ORDERS = {
    "name": "orders",
    "cursor": "id",
    "primary_key": [["id"]],
    "generate": {"count": 25, "from": 1, "fields": {"id": "$i", "item": "item $i"}},
}


@dataclass
class Loaded:
    """A job whose run has loaded its table, before anything was registered."""

    deployment: Deployment
    job: Job

    def settings(self, datahub: DataHubDouble, **more: Any) -> Settings:
        """Those of Airflow's worker."""
        about = {"server": datahub.url, "token": datahub.token, "timeout_s": 20, "retries": 0} | more
        chosen = DataHubSettings.model_validate(about)
        return self.deployment.settings.model_copy(update={"datahub": chosen})

    def register(self, settings: Settings) -> None:
        """The task, in this process."""
        register_tables(settings, self.job.id, RUN, 1)

    def run(self) -> Run:
        """The run as callers see it."""
        run = self.deployment.store.find_run(self.job.id, RUN)
        assert run is not None
        return run


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, pyairbyte_dir: Path, connectors_dir: Path) -> Loaded:
    """Loaded once: registering changes nothing of it."""
    folder: Path = tmp_path_factory.mktemp("flow")
    deployment = Deployment(folder / "home", pyairbyte_dir, connectors_dir)
    scenario = write_scenario(folder, {"streams": [ORDERS]})
    job = deployment.job(scenario, tags=("pii",))
    assert deployment.run(job, RUN).status is RunStatus.COMPLETED
    return Loaded(deployment, job)


@pytest.fixture(autouse=True)
def _this_process_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A task notes whose run it is, and dies with its parent: neither is to last here."""
    monkeypatch.setattr("airberg.logs.context._of_process", {})
    yield
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 0)


def touched(datahub: DataHubDouble) -> DataHubDouble:
    """People were there before the first run was registered."""
    datahub.upsert(TABLE, "globalTags", {"tags": [HUMAN]})
    datahub.upsert(TABLE, "ownership", {"owners": [BOB]})
    return datahub


@pytest.fixture(scope="module")
def clean(loaded: Loaded) -> dict[str, Any]:
    """What DataHub has after a run without faults."""
    with serve_datahub(touched(DataHubDouble())) as datahub, pytest.MonkeyPatch.context() as patch:
        patch.setattr("airberg.logs.context._of_process", {})
        loaded.register(loaded.settings(datahub))
    run = loaded.run()
    assert (run.report.metadata, run.report.metadata_error) == (datahub.url, None)
    assert [t["tag"] for t in datahub.aspect(TABLE, "globalTags")["tags"]] == [HUMAN["tag"], "urn:li:tag:pii"]
    assert BOB in datahub.aspect(TABLE, "ownership")["owners"]
    return datahub.state()


def assert_the_load_stands(loaded: Loaded) -> None:
    """Whatever DataHub does: the run is complete, its rows are there."""
    run = loaded.run()
    assert (run.status, run.error) == (RunStatus.COMPLETED, None)
    assert run.report.streams[0].rows_written == 25
    assert len(loaded.deployment.rows("orders", "id")) == 25


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(status=503), "could not take the metadata (503)"),
        (Fault(status=503, only="/aspects"), "could not take the metadata (503)"),
        (Fault(status=429, retry_after=900), "asked again in 900 s"),
        (Fault(status=401, only="/aspects"), "AIRBERG_DATAHUB__TOKEN"),
        (Fault(delay_s=600), "nothing within 1 s"),
        (Fault(cut="before"), "gave no answer"),
        (Fault(cut="after", only="/aspects"), "gave no answer"),
        (Fault(status=422, only="/aspects"), "did not take the metadata (422)"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_a_fault_and_then_none(loaded: Loaded, clean: dict[str, Any], fault: Fault, words: str) -> None:
    """The run shows what went wrong until a later attempt works; then DataHub has what it would have had."""
    with serve_datahub(touched(DataHubDouble())) as datahub:
        settings = loaded.settings(datahub, timeout_s=1 if fault.delay_s else 20)
        datahub.fault = fault
        with pytest.raises(RunError) as caught:
            loaded.register(settings)
        assert (caught.value.exit_code, caught.value.code) == (1, "metadata-unavailable")
        error = loaded.run().report.metadata_error
        assert error is not None
        assert words in error
        assert datahub.token not in error
        assert_the_load_stands(loaded)
        datahub.fault = None
        loaded.register(settings)
        assert datahub.state() == clean
    assert loaded.run().report.metadata_error is None
    assert_the_load_stands(loaded)


def test_an_outage_that_the_command_line_sees(loaded: Loaded, clean: dict[str, Any]) -> None:
    """Nobody listens; the command of the task fails for another try, which works."""
    with serve_datahub(touched(DataHubDouble())) as datahub:
        known = loaded.settings(datahub)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AIRBERG_")} | {
        "AIRBERG_HOME": str(known.home),
        "AIRBERG_DATAHUB__SERVER": datahub.url,
        "AIRBERG_DATAHUB__TOKEN": datahub.token,
        "AIRBERG_DATAHUB__RETRIES": "0",
    }
    command = [sys.executable, "-m", "airberg.cli", "register", str(loaded.job.id), "--flow-run-id", RUN]

    def register() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    away = register()
    assert away.returncode == 1, away.stdout + away.stderr
    error = loaded.run().report.metadata_error
    assert error is not None
    assert "Connection refused" in error
    assert datahub.token not in away.stdout + away.stderr + error
    assert_the_load_stands(loaded)
    with serve_datahub(datahub):
        there = register()
    assert there.returncode == 0, there.stdout + there.stderr
    assert datahub.state() == clean
    assert (loaded.run().report.metadata, loaded.run().report.metadata_error) == (datahub.url, None)


@pytest.mark.parametrize("service", [{"old": True}, {"drops_patches": True, "version": "v1.0.0"}], ids=str)
def test_an_old_service_ends_as_a_new_one(
    loaded: Loaded, clean: dict[str, Any], service: dict[str, Any]
) -> None:
    """With an outage in between, and with tags and owners of people in it."""
    with serve_datahub(touched(DataHubDouble(**service))) as datahub:
        settings = loaded.settings(datahub)
        datahub.fault = Fault(status=503, only="/aspects", times=1)
        with pytest.raises(RunError):
            loaded.register(settings)
        loaded.register(settings)
        loaded.register(settings)
    assert without_stamps(datahub.state()) == without_stamps(clean)
    assert BOB in datahub.aspect(TABLE, "ownership")["owners"]


def without_stamps(state: dict[str, Any]) -> dict[str, Any]:
    """The service stamps owners that it patches, and orders them by their keys."""
    for value in state["latest"].values():
        if "owners" in value:
            value.pop("lastModified", None)
            value["owners"].sort(key=lambda o: o["owner"])
    return state
