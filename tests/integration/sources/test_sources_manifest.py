"""Declarative manifests: the one of the documentation, against a loopback API, into Iceberg."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from airberg.errors import ConfigurationFailed, InvalidRequest, TransientFailed, Unavailable
from airberg.jobs.model import Job
from airberg.plan.model import IngestRequest
from airberg.plan.preparation import prepare
from airberg.settings import Settings
from airberg.sources.installed import installed_versions
from airberg.sources.launch import LaunchDescription, installed, resolve
from airberg.sources.preflight import preflight
from airberg.sources.registry import load_registry
from airberg.sources.verbs import check
from support.deployment import Deployment
from support.orders_api import TOKEN, OrdersApi, an_order
from support.pages import Page
from support.served import served

pytestmark = [pytest.mark.connector, pytest.mark.xdist_group("connector"), pytest.mark.timeout(600)]

NAME = "source-orders-api"
[MANIFEST] = [b.text for b in Page("docs/how-to/declare-a-connector.md").blocks if b.language == "yaml"]
CODE = 'raise SystemExit("code of the manifest ran")'


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, pyairbyte_dir: Path, connectors_dir: Path
) -> Deployment:
    """A deployment with the manifest of the page; its environment is kept between the tests."""
    made = Deployment(tmp_path_factory.mktemp("manifest") / "home", pyairbyte_dir, connectors_dir)
    declare(made, MANIFEST)
    return made


@pytest.fixture
def api() -> Iterator[tuple[OrdersApi, str]]:
    """The API and its address; 5 orders, pages of 2."""
    orders = OrdersApi()
    orders.orders = [an_order(n, n, None if n == 3 else "Kyiv") for n in range(1, 6)]
    with served(orders.app) as url:
        yield orders, url


def declare(deployment: Deployment, manifest: str, more: str = "") -> None:
    """Declare the connector with this manifest."""
    (deployment.home / "orders-api.yaml").write_text(manifest.replace("page_size: 50", "page_size: 2"))
    deployment.settings.connectors_file.write_text(
        f'[connectors.{NAME}]\nmanifest = "orders-api.yaml"\n{more}'
    )


def config(url: str, **changes: Any) -> dict[str, Any]:
    """A configuration."""
    return {"api_url": url, "token": TOKEN, "start_date": "2026-01-02T00:00:00Z"} | changes


def soon() -> float:
    """A deadline that leaves time to install the CDK."""
    return time.monotonic() + 400


def launch_of(settings: Settings) -> LaunchDescription:
    """How the declared connector is started now."""
    return resolve(load_registry(settings).find(NAME), settings, deadline=soon())


def make_job(deployment: Deployment, url: str) -> Job:
    """A job that appends the orders."""
    request = IngestRequest(
        name=str(uuid4()), source_name=NAME, schema_name=f"s{uuid4().hex}", mode="append", owner_id="ann"
    )
    prepared = prepare(request, config(url), deployment.settings, deployment.keys, deadline=soon())
    job = Job(
        id=uuid4(),
        owner_id="ann",
        created_by="test|ann",
        request=request.pinned(prepared.connector),
        plan=prepared.plan,
        public_config=prepared.public_config,
        created_at=datetime.now(UTC),
    )
    return deployment.store.add_job(job, config(url))


def test_state_is_kept_between_runs(deployment: Deployment, api: tuple[OrdersApi, str]) -> None:
    """All pages arrive, objects become columns, and the second run asks for what is new only."""
    orders, url = api
    job = make_job(deployment, url)
    schema = job.request.schema_name
    orders.asked.clear()
    first = deployment.run(job, "run-1")
    assert [s.rows_written for s in first.report.streams] == [4]  # the first is older than the start date
    assert [q["page"] for q in orders.asked] == ["1", "2", "3"]
    assert {q["updated_since"] for q in orders.asked} == {"2026-01-02T00:00:00Z"}
    rows = deployment.table("orders", schema).scan().to_arrow().to_pylist()
    assert {r["id"]: r["customer"] for r in rows} == {
        n: {"name": f"Customer {n}", "city": None if n == 3 else "Kyiv"} for n in range(2, 6)
    }
    assert rows[0]["updated_at"].tzinfo is not None
    orders.orders += [an_order(6, 7), an_order(7, 8)]
    orders.asked.clear()
    second = deployment.run(job, "run-2")
    assert {q["updated_since"] for q in orders.asked} == {"2026-01-05T12:00:00Z"}
    # The API's cursor is inclusive, so the newest one comes again.
    assert sum(s.rows_written for s in second.report.streams) == 3
    ids = sorted(r["id"] for r in deployment.table("orders", schema).scan().to_arrow().to_pylist())
    assert ids == [2, 3, 4, 5, 5, 6, 7]


def test_specification_is_the_manifests(deployment: Deployment, api: tuple[OrdersApi, str]) -> None:
    """A wrong configuration is refused by the manifest's own section, a wrong token by its check."""
    _, url = api
    entry = load_registry(deployment.settings).find(NAME)
    assert launch_of(deployment.settings).spec["properties"]["token"]["airbyte_secret"] is True
    with pytest.raises(InvalidRequest) as caught:
        preflight(entry, {"api_url": url, "token": 1}, deployment.settings, soon())
    assert {p.pointer for p in caught.value.problems} == {"/source_config/token", "/source_config/start_date"}
    with pytest.raises(InvalidRequest) as caught:
        preflight(entry, config(url, token="wrong-token-9"), deployment.settings, soon())
    assert caught.value.code == "check-failed"
    assert "wrong-token-9" not in str(caught.value)


def test_job_goes_on_with_its_manifest(deployment: Deployment, api: tuple[OrdersApi, str]) -> None:
    """What the file has become is for new jobs; also when it is no manifest any more."""
    _, url = api
    job = make_job(deployment, url)
    try:
        declare(deployment, MANIFEST.replace("name: orders", "name: bills").replace("[orders]", "[bills]"))
        assert launch_of(deployment.settings).version != job.request.source_version
        deployment.run(job)
        declare(deployment, "spec: 1")
        with pytest.raises(Unavailable, match="no section `spec`") as caught:
            launch_of(deployment.settings)
        assert caught.value.code == "manifest-broken"
    finally:
        declare(deployment, MANIFEST)
    ids = deployment.table("orders", job.request.schema_name).scan().to_arrow().column("id")
    assert sorted(ids.to_pylist()) == [2, 3, 4, 5]


def test_lost_manifest_of_a_job_is_told(deployment: Deployment, tmp_path: Path) -> None:
    """A worker that has never seen the job's manifest does not run another one in its place."""
    entry = load_registry(deployment.settings).find(NAME)
    sources = deployment.settings.sources.model_copy(update={"connectors_dir": tmp_path})
    elsewhere = deployment.settings.model_copy(update={"sources": sources})
    declare(deployment, MANIFEST + "\n# changed\n")
    try:
        with pytest.raises(Unavailable, match="not the one that was asked for") as caught:
            resolve(entry, elsewhere, deadline=soon())
        assert caught.value.code == "connector-missing"
        assert "airberg sources upgrade" in caught.value.guidance
    finally:
        declare(deployment, MANIFEST)


# ---- code --------------------------------------------------------------------------------------------------


def test_custom_components_are_refused_unless_allowed(
    deployment: Deployment, api: tuple[OrdersApi, str]
) -> None:
    """Before anything runs; where they are allowed, they are loaded."""
    _, url = api
    custom = MANIFEST.replace(
        "type: BearerAuthenticator",
        "type: CustomAuthenticator\n          class_name: source_declarative_manifest.components.Own",
    )
    (deployment.home / "components.py").write_text(CODE)
    try:
        declare(deployment, custom, 'components = "components.py"\n')
        with pytest.raises(ConfigurationFailed, match=r"components\.Own") as caught:
            launch_of(deployment.settings)
        assert caught.value.code == "custom-components"
        sources = deployment.settings.sources.model_copy(update={"custom_components": True})
        allowed = deployment.settings.model_copy(update={"sources": sources})
        launch = launch_of(allowed)
        assert launch.spec["required"] == ["api_url", "token", "start_date"]
        with pytest.raises(TransientFailed, match="code of the manifest ran"):
            check(launch, config(url), 60)
    finally:
        declare(deployment, MANIFEST)


def test_configuration_brings_no_code(deployment: Deployment, api: tuple[OrdersApi, str]) -> None:
    """What the CDK would take from a configuration, manifest and code, is taken out of it."""
    _, url = api
    code = "raise SystemExit('code of the caller ran')"
    injected = {
        "__injected_declarative_manifest": {"version": "1"},
        "__injected_components_py": code,
        "__injected_components_py_checksums": {"md5": "0"},
    }
    launch = launch_of(deployment.settings)
    unsafe = msgspec.structs.replace(launch, env=launch.env | {"AIRBYTE_ENABLE_UNSAFE_CODE": "true"})
    assert check(unsafe, config(url) | injected, 60).ok


def test_it_is_listed_as_installed(deployment: Deployment) -> None:
    """By its version, like others; and whoever asks without installing finds how it is started."""
    launch = launch_of(deployment.settings)
    assert launch.version in installed_versions(deployment.settings.connectors_dir)[NAME]
    entry = load_registry(deployment.settings).find(NAME)
    assert installed(entry, deployment.settings) == launch
    assert entry in load_registry(deployment.settings).entries()


MIGRATION = """
  config_normalization_rules:
    type: ConfigNormalizationRules
    config_migrations:
      - type: ConfigMigration
        description: The token had another name.
        transformations:
          - type: ConfigAddFields
            fields: [{type: AddedFieldDefinition, path: [token], value: "{{ config['old_token'] }}"}]
            condition: "{{ 'old_token' in config }}"
"""


def test_migrated_configuration_does_not_hold_the_manifest(
    deployment: Deployment, api: tuple[OrdersApi, str]
) -> None:
    """A manifest may change the configuration; what is to be stored then is a configuration."""
    _, url = api
    old = {"api_url": url, "old_token": TOKEN, "start_date": "2026-01-02T00:00:00Z"}
    stored: list[dict[str, Any]] = []
    try:
        declare(
            deployment, MANIFEST.replace("spec:\n  type: Spec", f"spec:\n  type: Spec{MIGRATION.rstrip()}")
        )
        assert check(launch_of(deployment.settings), old, 60, stored.append).ok
    finally:
        declare(deployment, MANIFEST)
    assert stored
    assert all(new == old | {"token": TOKEN} for new in stored)
