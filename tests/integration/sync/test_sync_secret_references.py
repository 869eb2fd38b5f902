"""Runs whose configuration refers to secrets."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from airberg.errors import ConfigurationFailed, TransientFailed
from airberg.jobs.model import Job, RunStatus
from airberg.sources.secret_settings import SecretRule, SecretSettings
from support.deployment import Deployment, write_scenario

REFERENCE = "secret://env/SALES_DB"
VALUE = "value-of-the-reference"
STREAM = {"name": "users", "records": [{"id": 1, "name": "a"}]}


@pytest.fixture
def deployment(
    tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Deployment:
    """A deployment where ann, who owns the jobs, may use the secrets that begin with SALES_."""
    monkeypatch.setenv("AIRBERG_SECRET_SALES_DB", VALUE)
    made = Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir)
    allow(made, "SALES_")
    return made


def allow(deployment: Deployment, prefix: str) -> None:
    """Make this the only rule."""
    rule = SecretRule(owner="ann@example.com", scheme="env", prefix=prefix)
    deployment.settings = deployment.settings.model_copy(update={"secrets": SecretSettings(rules=(rule,))})
    deployment.parts = dataclasses.replace(deployment.parts, settings=deployment.settings)


def referring_job(deployment: Deployment, folder: Path, *steps: object) -> Job:
    """A job whose password is a reference; its read plays the steps, the checks before do not."""
    scenario = write_scenario(folder, {"streams": [STREAM], "read": {"steps": list(steps)}})
    return deployment.job(scenario, password=REFERENCE)


def test_the_connector_gets_the_value_and_the_store_the_reference(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run resolves it anew: a secret that was changed is used from the next run on."""
    report = tmp_path / "report.json"
    job = referring_job(deployment, tmp_path, {"report": str(report)})
    assert job.public_config["password"] == REFERENCE
    for run, value in (("run-1", VALUE), ("run-2", "another-value-of-it")):
        monkeypatch.setenv("AIRBERG_SECRET_SALES_DB", value)
        assert deployment.run(job, run).status is RunStatus.COMPLETED
        assert json.loads(report.read_text())["config"]["password"] == value
    assert deployment.store.source_config(job.id)["password"] == REFERENCE


def test_the_value_is_in_no_log_and_no_error(
    deployment: Deployment, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the specification does not call it a secret."""
    scenario = write_scenario(
        tmp_path, {"streams": [STREAM], "read": {"steps": [{"stderr": f"using {VALUE}\n"}, {"exit": 3}]}}
    )
    config = {"scenario": str(scenario), "password": "x", "host": REFERENCE}
    job = deployment.job_of("source-scripted", config)
    with pytest.raises(TransientFailed) as caught:
        deployment.run(job)
    assert "using **********" in caplog.text + caught.value.message
    assert VALUE not in caplog.text + caught.value.sentence()
    assert VALUE not in str(deployment.store.runs(job.id))


def test_references_survive_a_new_configuration(deployment: Deployment, tmp_path: Path) -> None:
    """A connector that hands out what it was given, with a change, does not put the value into the store."""
    changed = {"scenario": str(tmp_path / "scenario.json"), "password": VALUE, "cursor": f"after {VALUE}"}
    job = referring_job(deployment, tmp_path, {"control": changed})
    assert deployment.run(job).status is RunStatus.COMPLETED
    assert deployment.store.source_config(job.id) == changed | {"password": REFERENCE}
    public = deployment.store.job(job.id).public_config
    assert public["password"] == REFERENCE
    assert public["cursor"] == "**********"


def test_a_rule_that_was_taken_away_ends_the_run(deployment: Deployment, tmp_path: Path) -> None:
    """A person has to change something; the connector is not started."""
    report = tmp_path / "report.json"
    job = referring_job(deployment, tmp_path, {"report": str(report)})
    allow(deployment, "HR_")
    with pytest.raises(ConfigurationFailed) as caught:
        deployment.run(job)
    assert caught.value.code == "secret-not-allowed"
    assert not report.exists()


def test_a_connector_cannot_ask_for_other_secrets(deployment: Deployment, tmp_path: Path) -> None:
    """A reference that it writes itself would be resolved for it in the next run."""
    changed = {"scenario": str(tmp_path / "scenario.json"), "password": "secret://env/SALES_OTHER"}
    job = referring_job(deployment, tmp_path, {"control": changed})
    with pytest.raises(ConfigurationFailed) as caught:
        deployment.run(job)
    assert caught.value.code == "connector-config-refused"
    assert deployment.store.source_config(job.id)["password"] == REFERENCE
