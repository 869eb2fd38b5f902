"""Fixtures that several folders of tests share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airberg.jobs.migrate import upgrade
from support.airflow_stack import AirflowStack
from support.conditions import eventually
from support.live_stack import LiveStack, running_stack
from support.oidc_provider import NoProvider, OidcProvider, running_provider
from support.postgresql import NoServer, Server, running_server
from support.pyairbyte import pyairbyte_environment

if TYPE_CHECKING:  # their client libraries are loaded by the tests that use them
    from support.kek_cases import KekCase
    from support.moto_kms import MotoKms
    from support.softhsm import SoftHsm


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs Airflow, or the OpenID provider, goes to one worker each; before xdist reads the groups."""
    for item in items:
        needed = set(getattr(item, "fixturenames", ()))
        if {"live", "airflow_stack"} & needed:
            item.add_marker(pytest.mark.airflow)
            item.add_marker(pytest.mark.xdist_group("airflow"))
        elif "oidc_provider" in needed:
            item.add_marker(pytest.mark.xdist_group("oidc-provider"))


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """A real PostgreSQL, started when the first test asks for it; without one, those tests are skipped."""
    try:
        with running_server() as server:
            yield server
    except NoServer as e:
        pytest.skip(f"PostgreSQL: {e}")


@pytest.fixture(scope="session")
def _oidc_process() -> Iterator[OidcProvider]:
    """A certified OpenID provider, one for the session; without Node, those tests are skipped."""
    try:
        with running_provider() as provider:
            yield provider
    except NoProvider as e:
        pytest.skip(f"OpenID provider: {e}")


@pytest.fixture
def oidc_provider(_oidc_process: OidcProvider) -> OidcProvider:
    """The provider, listening, whatever the test before has done to it."""
    if not _oidc_process.running:
        _oidc_process.stop()
        _oidc_process.start("again", elsewhere=True)
    return _oidc_process


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with tables and no jobs, to be copied."""
    path = tmp_path_factory.mktemp("store") / "airberg.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def moto_kms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoKms]:
    """AWS KMS, as moto has it. Its user has the policy of the documentation, for all keys."""
    from support.moto_kms import running_moto
    from support.pages import Page

    policy = Page("docs/how-to/key-management.md").json_block('"kms:Encrypt"')
    policy["Statement"][0]["Resource"] = "*"
    with running_moto(tmp_path_factory.mktemp("moto"), policy) as kms:
        yield kms


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> SoftHsm:
    """A PKCS#11 token; without SoftHSM, those tests are skipped."""
    from support.softhsm import NoToken, prepared_token

    try:
        return prepared_token(tmp_path_factory.mktemp("softhsm"))
    except NoToken as e:
        pytest.skip(f"PKCS#11: {e}")


@pytest.fixture
def kek_case(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KekCase]:
    """A kind of key-encryption key, named by the parameter."""
    from support import kek_cases
    from support.gcp_kms_double import running_gcp_kms
    from support.vault_double import running_vault

    match request.param:
        case "local":
            yield kek_cases.local_case()
        case "aws-kms":
            yield kek_cases.aws_case(request.getfixturevalue("moto_kms"), monkeypatch)
        case "vault-transit":
            with running_vault() as vault:
                yield kek_cases.vault_case(vault)
        case "gcp-kms":
            with running_gcp_kms() as kms:
                yield kek_cases.gcp_case(kms, tmp_path, monkeypatch)
        case "pkcs11":
            yield kek_cases.pkcs11_case(request.getfixturevalue("softhsm"))


@pytest.fixture(scope="session")
def pyairbyte_dir(pytestconfig: pytest.Config) -> Path:
    """PyAirbyte's environment."""
    return pyairbyte_environment(pytestconfig)


@pytest.fixture(scope="session")
def connectors_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Launch descriptions of the scripted connector, shared so that PyAirbyte is asked only once."""
    return tmp_path_factory.getbasetemp().parent / "connectors"


@pytest.fixture(scope="session")
def airflow_stack(tmp_path_factory: pytest.TempPathFactory, pyairbyte_dir: Path) -> Iterator[AirflowStack]:
    """The embedded Airflow, one for the session. What its tasks run makes a checkpoint at every state.

    A run that was killed keeps the next one waiting for ten seconds.
    Jobs of ann@example.com may refer to secrets in files of the folder `e2e`.
    """
    rule = {"owner": "ann@example.com", "scheme": "file", "prefix": "e2e/"}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AIRBERG_SECRETS__FILES_DIR", str(tmp_path_factory.mktemp("secrets")))
        environment.setenv("AIRBERG_SECRETS__RULES", json.dumps([rule]))
        environment.setenv("AIRBERG_SYNC__CHECKPOINT_SECONDS", "0")
        environment.setenv("AIRBERG_SYNC__LEASE_SECONDS", "10")
        environment.setenv("AIRBERG_SOURCES__PYAIRBYTE_DIR", str(pyairbyte_dir))
        with AirflowStack(tmp_path_factory.mktemp("airflow-stack") / "home").running() as stack:
            yield stack


@pytest.fixture(autouse=True)
def _airflow_runs(request: pytest.FixtureRequest) -> None:
    """A test that needs Airflow finds it running and healthy, whatever the test before has done to it.

    Looked at when the next one begins: after the last one there is nothing to start again.
    """
    if {"live", "airflow_stack"} & set(request.fixturenames):
        stack: AirflowStack = request.getfixturevalue("airflow_stack")
        stack.start_again_if_ended()
        assert eventually(stack.orchestrator.healthy, 120.0), "Airflow runs, and is not healthy"


@pytest.fixture(scope="session")
def live(airflow_stack: AirflowStack, pyairbyte_dir: Path) -> Iterator[LiveStack]:
    """The real service on the session's one Airflow, for end-to-end tests and those of the documentation."""
    with running_stack(airflow_stack, pyairbyte_dir) as stack:
        yield stack
