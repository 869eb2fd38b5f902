"""`airberg sources upgrade` on real jobs, tables and connector processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airberg.cli.source_upgrade import upgrade_jobs
from airberg.errors import ConfigurationFailed, InvalidRequest, RunError, TransientFailed
from airberg.jobs.model import Job
from airberg.settings import SyncSettings
from airberg.sources.secret_settings import SecretRule, SecretSettings
from airberg.sync.lease import job_lease
from support.connectors.scenarios import SPEC
from support.deployment import SCRIPTED, Deployment, write_scenario

NAME = "source-scripted"
ORDERS = {"name": "orders", "records": [{"id": 1, "item": "a"}]}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of the scripted source: the second takes `region`, the third demands it."""
    folder = tmp_path_factory.mktemp("programs")
    region = SPEC | {"properties": SPEC["properties"] | {"region": {"type": "string"}}}
    specs = {"1": SPEC, "2": region, "3": region | {"required": ["scenario", "region"]}}
    for version, spec in specs.items():
        (folder / f"{version}.json").write_text(json.dumps(spec))
        program = folder / f"source-{version}"
        program.write_text(f'#!/bin/sh\nSCRIPTED_SPEC={folder}/{version}.json exec {SCRIPTED} "$@"\n')
        program.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is remembered of the three, so that PyAirbyte is asked once for each."""
    return tmp_path_factory.mktemp("known")


@pytest.fixture
def deployment(tmp_path: Path, pyairbyte_dir: Path, known: Path, programs: Path) -> Deployment:
    """A deployment whose jobs are made with version 1."""
    made = Deployment(tmp_path / "home", pyairbyte_dir, known, SyncSettings(lease_seconds=0.6))
    made.settings.connectors_file.write_text(
        f"""
        [connectors.{NAME}]
        version = "1"
        executable = "{programs}/source-1"
        [connectors.{NAME}.versions.2]
        executable = "{programs}/source-2"
        [connectors.{NAME}.versions.3]
        executable = "{programs}/source-3"
        """
    )
    return made


def upgrade(deployment: Deployment, job: Job | None = None, version: str = "2", **options: Any) -> None:
    """The command."""
    said: dict[str, Any] = {"dry_run": False, "force": False} | options
    job_id = job.id if job else None
    upgrade_jobs(deployment.settings, NAME, job=job_id, every=job is None, version=version, **said)


def version_of(deployment: Deployment, job: Job) -> str | None:
    """The version that the job has now."""
    return deployment.store.job(job.id).request.source_version


def test_job_is_moved_after_a_look(
    deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What changes is shown first; then the job runs with the new version and its tables follow."""
    job = deployment.job(write_scenario(tmp_path, {"streams": [ORDERS]}))
    deployment.run(job, "run-1")
    more = {"name": "orders", "records": [{"id": 2, "item": "b", "note": "new"}]}
    write_scenario(tmp_path, {"streams": [more, {"name": "refunds", "records": [{"id": 1}]}]})
    upgrade(deployment, job, dry_run=True)
    assert capsys.readouterr().out.splitlines() == [
        f"{job.request.name} ({job.id}): source-scripted 1 → 2",
        "  specification:",
        "    + region string",
        "  streams:",
        "    + refunds, into a new table refunds",
        "    orders: + note string",
        "  tables:",
        "    shop.orders: add note string",
        "    shop.refunds: is made",
        "  would be moved",
    ]
    assert version_of(deployment, job) == "1"
    upgrade(deployment, job)
    assert capsys.readouterr().out.endswith("  moved\n")
    moved = deployment.store.job(job.id)
    assert moved.plan is not None
    assert (moved.request.source_version, moved.plan.connector_version) == ("2", "2")
    assert deployment.store.source_config(job.id)["password"] == "hunter2-hunter2"
    assert moved.public_config["password"] != "hunter2-hunter2"
    deployment.run(job, "run-2")
    assert deployment.rows("orders", "id", "note") == [(1, None), (2, "new")]
    upgrade(deployment, job)
    assert capsys.readouterr().out.endswith("  nothing to do\n")


def test_configuration_that_does_not_fit_stands_in_the_way(
    deployment: Deployment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The source is not even asked; only force moves the job."""
    job = deployment.job(write_scenario(tmp_path, {"streams": [ORDERS]}))
    with pytest.raises(ConfigurationFailed) as caught:
        upgrade(deployment, job, "3")
    assert caught.value.code == "upgrade-refused"
    out = capsys.readouterr().out
    assert "    + region string, required\n" in out
    assert "  in the way:\n    /source_config/region: `region` is missing.\n" in out
    assert version_of(deployment, job) == "1"
    upgrade(deployment, job, "3", force=True)
    assert "moved, in spite of" in capsys.readouterr().out
    assert version_of(deployment, job) == "3"
    deployment.run(job)  # this connector does without: its next run plans anew
    plan = deployment.store.job(job.id).plan
    assert plan is not None
    assert plan.connector_version == "3"


@pytest.mark.parametrize(
    ("streams", "reason"),
    [
        ([{"name": "orders", "records": [{"id": "one", "item": "a"}]}], "shop.orders: "),
        ([{"name": "bills", "records": [{"id": 1}]}], "The stream orders is gone"),
        ([], "no streams"),
    ],
    ids=["type", "gone", "none"],
)
def test_table_that_cannot_follow_stands_in_the_way(
    deployment: Deployment,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    streams: list[dict[str, Any]],
    reason: str,
) -> None:
    """A column of another type, a stream that is gone, a source without streams."""
    job = deployment.job(write_scenario(tmp_path, {"streams": [ORDERS]}))
    deployment.run(job)
    write_scenario(tmp_path, {"streams": streams})
    with pytest.raises(ConfigurationFailed):
        upgrade(deployment, job)
    in_the_way = capsys.readouterr().out.partition("in the way:\n")[2]
    assert reason in in_the_way
    assert version_of(deployment, job) == "1"


def test_all_jobs_that_can_follow_are_moved(deployment: Deployment, tmp_path: Path) -> None:
    """One that cannot does not keep the others back; the command fails and names it."""
    second = tmp_path / "second"
    second.mkdir()
    good = deployment.job(write_scenario(tmp_path, {"streams": [ORDERS]}), name="good")
    bad = deployment.job(write_scenario(second, {"streams": [ORDERS]}), name="bad", schema_name="other")
    write_scenario(second, {"streams": []})
    with pytest.raises(ConfigurationFailed, match=r"1 of the jobs cannot be moved.*: bad"):
        upgrade(deployment)
    assert (version_of(deployment, good), version_of(deployment, bad)) == ("2", "1")


def test_job_that_runs_is_left_alone(deployment: Deployment, tmp_path: Path) -> None:
    """A run may be renewing the configuration that the source would be asked with."""
    job = deployment.job(write_scenario(tmp_path, {"streams": [ORDERS]}))
    with job_lease(deployment.store, job.id, "a run", 0.6), pytest.raises(TransientFailed):
        upgrade(deployment, job)
    assert version_of(deployment, job) == "1"


def test_renewed_configuration_is_kept_also_by_a_look(deployment: Deployment, tmp_path: Path) -> None:
    """The source takes the old token no more, whether the job was moved or not."""
    scenario = write_scenario(tmp_path, {"streams": [ORDERS]})
    job = deployment.job(scenario)
    renewed = {"scenario": str(scenario), "password": "renewed-password-9"}
    write_scenario(tmp_path, {"streams": [ORDERS], "discover": {"steps": [{"control": renewed}]}})
    upgrade(deployment, job, dry_run=True)
    assert deployment.store.source_config(job.id) == renewed
    assert "renewed-password-9" not in str(deployment.store.job(job.id).public_config)


def test_what_is_meant_must_be_said(deployment: Deployment, tmp_path: Path) -> None:
    """One job or all, of that connector, to a version that there is."""
    job = deployment.job(write_scenario(tmp_path, {"streams": [ORDERS]}))
    said: dict[str, Any] = {"version": None, "dry_run": False, "force": False}
    wrong: list[tuple[str, dict[str, Any]]] = [
        (NAME, {"job": None, "every": False}),
        (NAME, {"job": job.id, "every": True}),
        ("source-faker", {"job": job.id, "every": False}),
    ]
    for name, which in wrong:
        with pytest.raises(RunError) as caught:
            upgrade_jobs(deployment.settings, name, **said, **which)
        assert caught.value.code == "jobs-not-named"
    with pytest.raises(InvalidRequest) as refused:
        upgrade(deployment, job, "4")
    assert refused.value.code == "unknown-source-version"


def test_references_to_secrets_stay(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new version is asked with their values, as the job's owner may use them; the job keeps them."""
    monkeypatch.setenv("AIRBERG_SECRET_SALES_DB", "value-of-the-reference")
    rule = SecretRule(owner="ann@example.com", scheme="env", prefix="SALES_")
    secrets = SecretSettings(rules=(rule,))
    deployment.settings = deployment.settings.model_copy(update={"secrets": secrets})
    scenario = write_scenario(tmp_path, {"streams": [ORDERS]})
    job = deployment.job(scenario, password="secret://env/SALES_DB")
    given = {"scenario": str(scenario), "password": "value-of-the-reference", "region": "eu"}
    given["cursor"] = "after value-of-the-reference"
    write_scenario(tmp_path, {"streams": [ORDERS], "discover": {"steps": [{"control": given}]}})
    upgrade(deployment, job)
    assert version_of(deployment, job) == "2"
    kept = given | {"password": "secret://env/SALES_DB"}
    assert deployment.store.source_config(job.id) == kept
    assert deployment.store.job(job.id).public_config == kept | {"cursor": "**********"}
