"""References to secrets: their form, who may use them, what of them is stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airberg.errors import ConfigurationFailed, InvalidRequest
from airberg.settings import Settings
from airberg.sources.redact import MASK
from airberg.sources.references import parse_reference, refuse_values, resolve_references
from airberg.sources.secret_fields import mask_config
from airberg.sources.secret_settings import SecretRule, SecretSettings

ANN = "ann@example.com"
RULES = (
    SecretRule(owner=ANN, scheme="env", prefix="SALES_"),
    SecretRule(owner="*", scheme="file", prefix="shared/"),
)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SecretSettings:
    """Ann may use what begins with SALES_, everybody the files in `shared`."""
    monkeypatch.setenv("AIRBERG_SECRET_SALES_DB", "correct-horse")
    monkeypatch.setenv("AIRBERG_SECRET_SALES_JSON", '{"user": "ada", "pin": 123456, "more": {"a": 1}}')
    monkeypatch.setenv("AIRBERG_SECRET_HR_DB", "not-for-ann")
    monkeypatch.setenv("SALES_DB", "a variable without our prefix")
    folder = tmp_path / "secrets"
    (folder / "shared").mkdir(parents=True)
    (folder / "shared" / "key.pem").write_text("-----BEGIN-----\nabc\n-----END-----\n")
    (folder / "own").write_text("not shared")
    return SecretSettings(rules=RULES, files_dir=folder)


def problem(config: dict[str, Any], settings: SecretSettings, owner: str = ANN) -> tuple[str, str]:
    """Pointer and code of the only problem."""
    with pytest.raises(InvalidRequest) as caught:
        resolve_references(config, owner, settings)
    (only,) = caught.value.problems
    return only.pointer, only.code


def test_values_take_the_place_of_references(settings: SecretSettings) -> None:
    """Wherever they stand, whole or a field of a JSON object; numbers stay numbers."""
    config = {
        "password": "secret://env/SALES_DB",
        "hosts": ["plain", {"user/name": "secret://env/SALES_JSON#user"}],
        "pin": "secret://env/SALES_JSON#pin",
        "key": "secret://file/shared/key.pem",
    }
    resolved = resolve_references(config, ANN, settings)
    assert resolved.config == {
        "password": "correct-horse",
        "hosts": ["plain", {"user/name": "ada"}],
        "pin": 123456,
        "key": "-----BEGIN-----\nabc\n-----END-----",
    }
    assert {"correct-horse", "ada", "123456"} <= resolved.hidden
    assert "correct-horse" not in repr(resolved)
    assert resolved.restored(resolved.config) == config


def test_without_references_nothing_changes() -> None:
    """Neither rules nor stores matter then."""
    config = {"password": "plain", "n": [1, None, {"a": True}]}
    assert resolve_references(config, ANN, SecretSettings()).config == config


@pytest.mark.parametrize(
    "reference",
    [
        "secret://env/HR_DB",
        "secret://env/HR_MISSING",
        "secret://file/own",
        "secret://file/missing",
        "secret://vault/kv/sales/db#password",
        "secret://aws-sm/SALES_DB",
    ],
)
def test_what_no_rule_allows_is_refused_alike(reference: str, settings: SecretSettings) -> None:
    """Whether it exists makes no difference; no store is asked."""
    with pytest.raises(InvalidRequest) as caught:
        resolve_references({"a": {"b/c": reference}}, ANN, settings)
    (only,) = caught.value.problems
    assert (only.pointer, only.code) == ("/source_config/a/b~1c", "secret-not-allowed")
    assert only.message == "The job's owner may not use the secret that this reference names."


def test_rules_are_of_an_owner(settings: SecretSettings) -> None:
    """Another owner has only what is everybody's; without rules nobody has anything."""
    assert (
        problem({"a": "secret://env/SALES_DB"}, settings, "ann@example.com.evil")[1] == "secret-not-allowed"
    )
    shared = {"key": "secret://file/shared/key.pem"}
    assert resolve_references(shared, "bob", settings).config["key"].startswith("-----BEGIN")
    assert problem(shared, SecretSettings(files_dir=settings.files_dir))[1] == "secret-not-allowed"


@pytest.mark.parametrize(
    "reference",
    [
        "secret://",
        "secret://env/",
        "secret://env/lower",
        "secret://env/A B",
        "secret://env/A\n",
        "secret://env/../A",
        "secret://file/shared/../own",
        "secret://file//etc/passwd",
        "secret://file/shared/./key.pem",
        "secret://file/shared/%2e%2e/own",
        "secret://vault/kv/team",
        "secret://vault/kv#field",
        "secret://vault/kv/team%2f..%2fother#x",
        "secret://aws-sm/a?b",
        "secret://azure/a",
        "secret://env/A#",
        "secret://env/A#b#c",
    ],
)
def test_malformed_references(reference: str, settings: SecretSettings) -> None:
    """They are refused before any rule or store is looked at."""
    with pytest.raises(ValueError, match=r"^(it is|a name in env|a part|one in vault)"):
        parse_reference(reference)
    assert problem({"x": [reference]}, settings) == ("/source_config/x/0", "secret-malformed")


@pytest.mark.parametrize(
    "reference",
    [
        "secret://env/SALES_MISSING",
        "secret://env/SALES_DB#field",
        "secret://env/SALES_JSON#other",
        "secret://env/SALES_JSON#more",
        "secret://file/shared/missing",
        "secret://file/shared",
        "secret://file/shared/key.pem/x",
    ],
)
def test_secrets_that_are_not_there(reference: str, settings: SecretSettings) -> None:
    """Missing, no JSON object, no such field, no text."""
    settings = settings.model_copy(
        update={"rules": (*RULES, SecretRule(owner=ANN, scheme="file", prefix="shared"))}
    )
    assert problem({"p": reference}, settings) == ("/source_config/p", "secret-not-found")


def test_links_do_not_lead_out_of_the_folder(settings: SecretSettings, tmp_path: Path) -> None:
    """A link inside is followed, as Kubernetes makes them; one that leads out is no secret."""
    shared = settings.files_dir / "shared"
    (tmp_path / "outside").write_text("the master key")
    (shared / "out").symlink_to(tmp_path / "outside")
    (shared / "in").symlink_to(shared / "key.pem")
    (shared / "circle").symlink_to(shared / "circle")
    assert problem({"p": "secret://file/shared/out"}, settings)[1] == "secret-not-found"
    assert problem({"p": "secret://file/shared/circle"}, settings)[1] == "secret-not-found"
    assert "BEGIN" in resolve_references({"p": "secret://file/shared/in"}, ANN, settings).config["p"]


def test_the_settings_of_the_service_cannot_be_named(
    settings: SecretSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prefix that is put before a name leads to none of our own variables, whatever the rule."""
    monkeypatch.setenv("AIRBERG_KEYS__MASTER_KEY", "master")
    monkeypatch.setenv("AIRBERG_SECRETS__VAULT_TOKEN", "token")
    for name in ("AIRBERG_KEYS__MASTER_KEY", "KEYS__MASTER_KEY", "S__VAULT_TOKEN", "VAULT_TOKEN"):
        with pytest.raises(InvalidRequest) as caught:
            resolve_references({"p": f"secret://env/{name}"}, None, settings)
        assert caught.value.code == "secret-not-found"


def test_masks_are_no_values() -> None:
    """A configuration that was copied from an answer would store asterisks as a password."""
    with pytest.raises(InvalidRequest) as caught:
        refuse_values({"a": {"password": MASK}, "url": f"https://ada:{MASK}@db", "glob": "**/*"}, ANN, ())
    assert [(p.pointer, p.code) for p in caught.value.problems] == [
        ("/source_config/a/password", "masked-value"),
        ("/source_config/url", "masked-value"),
    ]


def test_what_a_connector_changed_is_kept_and_the_rest_is_a_reference_again(settings: SecretSettings) -> None:
    """A renewed token replaces its reference; other values go back, also where they were moved to."""
    config = {"token": "secret://env/SALES_DB", "user": "secret://env/SALES_JSON#user", "n": 1}
    resolved = resolve_references(config, ANN, settings)
    handed_out = {
        "auth": {"token": "correct-horse"},
        "token": "renewed",
        "user": "ada",
        "n": 2,
        "name": "ada",
    }
    assert resolved.restored(handed_out) == {
        "auth": {"token": "secret://env/SALES_DB"},
        "token": "renewed",
        "user": "secret://env/SALES_JSON#user",
        "n": 2,
        "name": "ada",
    }


def test_a_connector_cannot_write_references(settings: SecretSettings) -> None:
    """It would be given any secret that the owner may use, the next time."""
    resolved = resolve_references({"token": "secret://env/SALES_DB"}, ANN, settings)
    with pytest.raises(ConfigurationFailed) as caught:
        resolved.restored({"token": "correct-horse", "other": "secret://env/SALES_JSON"})
    assert caught.value.code == "connector-config-refused"


def test_references_are_shown_and_values_never(settings: SecretSettings) -> None:
    """The public part names the reference; a value that went elsewhere is hidden there too."""
    spec = {"properties": {"token": {"type": "string", "airbyte_secret": True}}}
    config = {"token": "secret://env/SALES_DB", "host": "db"}
    assert mask_config(spec, config) == config
    known = resolve_references(config, ANN, settings).hidden
    shown = mask_config(spec, {**config, "dsn": "db:correct-horse", "list": [{"a": "correct-horse"}]}, known)
    assert "correct-horse" not in json.dumps(shown)
    assert shown["host"] == "db"


def test_rules_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a JSON list; a scheme that there is not stops the start."""
    rule = {"owner": "ann", "scheme": "vault", "prefix": "kv/sales/"}
    monkeypatch.setenv("AIRBERG_SECRETS__RULES", json.dumps([rule]))
    assert Settings().secrets.rules == (SecretRule(owner="ann", scheme="vault", prefix="kv/sales/"),)
    monkeypatch.setenv("AIRBERG_SECRETS__RULES", json.dumps([rule | {"scheme": "http"}]))
    with pytest.raises(ValueError, match="scheme"):
        Settings()
