"""Secrets from Vault and AWS Secrets Manager, asked over HTTP as the services are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from airberg.errors import AirbergError, ConfigurationFailed, InvalidRequest, Unavailable
from airberg.sources.references import resolve_references
from airberg.sources.secret_settings import SecretRule, SecretSettings
from support.free_ports import free_ports
from support.moto_kms import REGION, wait_for_moto
from support.vault_double import ROLE_ID, SECRET_ID, TOKEN, VaultDouble, running_vault

RULES = (
    SecretRule(owner="ann", scheme="vault", prefix="kv/sales/"),
    SecretRule(owner="ann", scheme="vault", prefix="legacy/sales/"),
    SecretRule(owner="ann", scheme="vault", prefix="team/legacy/"),
    SecretRule(owner="ann", scheme="aws-sm", prefix="sales/"),
)
DB = "secret://vault/kv/sales/db#password"
AWS = "secret://aws-sm/sales/db"


@pytest.fixture(scope="module")
def vault() -> Iterator[VaultDouble]:
    """A Vault with two secrets."""
    with running_vault() as vault:
        vault.secrets["kv", "sales/db"] = {"password": "from-the-vault", "port": 5432}
        vault.secrets["kv", "hr/db"] = {"password": "not-for-ann"}
        vault.old_secrets["legacy", "sales/db"] = {"password": "from-version-1", "port": 5432}
        vault.old_secrets["team/legacy", "data/db"] = {"password": "deeper"}
        yield vault


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an AWS with a text, a JSON object and a binary."""
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (tmp_path_factory.mktemp("moto") / "log").open("wb") as log:
        server = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        wait_for_moto(url, server)
        client = boto3.client(
            "secretsmanager",
            endpoint_url=url,
            region_name=REGION,
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        client.create_secret(Name="sales/db", SecretString='{"password": "from-aws"}')
        client.create_secret(Name="sales/plain", SecretString="a plain text")
        client.create_secret(Name="sales/bytes", SecretBinary=b"\x00\x01")
        yield url
    finally:
        server.terminate()
        server.wait(20)


def resolved(reference: str, **settings: Any) -> object:
    """The value of a reference."""
    return resolve_references({"x": reference}, "ann", SecretSettings(rules=RULES, **settings)).config["x"]


def failure(reference: str, **settings: Any) -> AirbergError:
    """Why a reference has no value."""
    with pytest.raises(AirbergError) as caught:
        resolved(reference, **settings)
    return caught.value


def test_vault_fields(vault: VaultDouble) -> None:
    """Fields of a secret, which is asked for once however many of them are used."""
    settings = SecretSettings(rules=RULES, vault_url=vault.url, vault_token=TOKEN)
    config = {"password": DB, "port": "secret://vault/kv/sales/db#port"}
    vault.calls.clear()
    assert resolve_references(config, "ann", settings).config == {"password": "from-the-vault", "port": 5432}
    assert vault.calls == ["/v1/kv/data/sales/db"]


OLD = "secret://vault/legacy/sales/db#password"
OLD_MOUNTS = ("legacy", "/team/legacy/")


def test_vault_engine_of_version_1(vault: VaultDouble) -> None:
    """Where the deployment says so: another address, another form of answer, also of a mount with a slash."""
    settings: dict[str, Any] = {"vault_url": vault.url, "vault_token": TOKEN, "vault_kv1_mounts": OLD_MOUNTS}
    vault.calls.clear()
    assert resolved(OLD, **settings) == "from-version-1"
    assert resolved("secret://vault/legacy/sales/db#port", **settings) == 5432
    assert resolved("secret://vault/team/legacy/data/db#password", **settings) == "deeper"
    assert resolved(DB, **settings) == "from-the-vault"
    assert vault.calls == [
        "/v1/legacy/sales/db",
        "/v1/legacy/sales/db",
        "/v1/team/legacy/data/db",
        "/v1/kv/data/sales/db",
    ]
    assert failure("secret://vault/legacy/sales/missing#password", **settings).code == "secret-not-found"
    refused = failure(OLD, **settings | {"vault_token": "hvs.stale-token"})
    assert (refused.code, "legacy/PATH" in str(refused.guidance)) == ("secrets-refused", True)


def test_vault_engine_of_the_other_version(vault: VaultDouble) -> None:
    """Nothing is found, and no other address is tried."""
    settings: dict[str, Any] = {"vault_url": vault.url, "vault_token": TOKEN}
    vault.calls.clear()
    assert failure(OLD, **settings).code == "secret-not-found"
    assert failure(DB, **settings, vault_kv1_mounts=("kv",)).code == "secret-not-found"
    assert vault.calls == ["/v1/legacy/data/sales/db", "/v1/kv/sales/db"]


def test_vault_logins(vault: VaultDouble, tmp_path: Path) -> None:
    """A file that an agent writes, or an AppRole."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert resolved(DB, vault_url=vault.url, vault_token_file=tmp_path / "token") == "from-the-vault"
    role = {"vault_role_id": ROLE_ID, "vault_secret_id": SECRET_ID}
    assert resolved(DB, vault_url=vault.url, **role) == "from-the-vault"


@pytest.mark.parametrize("name", ["sales/missing#password", "sales/db#missing"])
def test_vault_secret_that_is_not_there(name: str, vault: VaultDouble) -> None:
    """No secret, or no such field: the reference is wrong."""
    error = failure(f"secret://vault/kv/{name}", vault_url=vault.url, vault_token=TOKEN)
    assert isinstance(error, InvalidRequest)
    assert error.code == "secret-not-found"


def test_vault_is_not_asked_for_what_is_not_allowed(vault: VaultDouble) -> None:
    """Not even whether it exists."""
    vault.calls.clear()
    for name in ("hr/db", "hr/missing"):
        error = failure(f"secret://vault/kv/{name}#password", vault_url=vault.url, vault_token=TOKEN)
        assert error.code == "secret-not-allowed"
    assert vault.calls == []


def test_vault_refuses_the_deployment(vault: VaultDouble) -> None:
    """A token that does not hold, or no address, is no fault of the job; no token is in the message."""
    for settings in ({"vault_url": vault.url, "vault_token": "hvs.stale-token"}, {}):
        error = failure(DB, **settings)
        assert isinstance(error, ConfigurationFailed)
        assert error.code == "secrets-refused"
        assert "stale" not in error.sentence()


def test_vault_that_is_away_may_come_back(vault: VaultDouble) -> None:
    """Sealed, or nobody listens: to be tried again. A short failure is not seen."""
    settings: dict[str, Any] = {"vault_url": vault.url, "vault_token": TOKEN}
    vault.failing, vault.failures = 503, 1
    assert resolved(DB, **settings) == "from-the-vault"
    vault.failures = None
    try:
        error = failure(DB, **settings)
    finally:
        vault.failing = None
    assert isinstance(error, Unavailable)
    [closed] = free_ports(1)
    away = failure(DB, vault_url=f"http://127.0.0.1:{closed}", vault_token=TOKEN)
    assert isinstance(away, Unavailable)
    assert {error.code, away.code} == {"secrets-unavailable"}


def test_aws_secrets(aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text whole, or a field of one that is JSON; what is missing or no text is told as such."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    settings: dict[str, Any] = {"aws_endpoint": aws, "aws_region": REGION}
    assert resolved(f"{AWS}#password", **settings) == "from-aws"
    assert resolved("secret://aws-sm/sales/plain", **settings) == "a plain text"
    for name in ("sales/missing", "sales/bytes", "sales/plain#field"):
        assert failure(f"secret://aws-sm/{name}", **settings).code == "secret-not-found"


def test_aws_that_is_away_or_has_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one may pass, the other needs a person."""
    [closed] = free_ports(1)
    settings: dict[str, Any] = {"aws_endpoint": f"http://127.0.0.1:{closed}", "aws_region": REGION}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    assert failure(AWS, **settings, attempts=1).code == "secrets-unavailable"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    error = failure(AWS, **settings, aws_profile="nobody")
    assert isinstance(error, ConfigurationFailed)
    assert error.code == "secrets-refused"
