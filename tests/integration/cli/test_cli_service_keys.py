"""`airberg service-keys ...`: what it prints, does and refuses, on the real store."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from airberg.cli.app import app
from airberg.errors import AirbergError, ConfigurationFailed, NotAuthenticated, NotFound
from airberg.identity.operating_system import operator
from airberg.identity.principal import Principal
from airberg.identity.service_keys import ServiceKeyVerifier
from airberg.jobs.audit import SqlAuditLog
from airberg.jobs.migrate import upgrade
from airberg.jobs.open import open_migrated
from airberg.jobs.sql_service_keys import SqlServiceKeys
from airberg.settings import Settings

GOOD = ("create", "nightly", "--scope", "ingest:read", "--owner", "data@example.com")


class Home:
    """A deployment, in the environment of the command."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(home=folder)
        upgrade(self.settings.database_url)
        self.engine = open_migrated(self.settings)
        self.keys = SqlServiceKeys(self.engine)

    def caller(self, text: str) -> Principal:
        """Whom the service sees."""
        roles = self.settings.auth.admin_roles
        return ServiceKeyVerifier(self.keys, admin_roles=roles).verify(text)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A new deployment."""
    monkeypatch.setenv("AIRBERG_HOME", str(tmp_path / "home"))
    return Home(tmp_path / "home")


def run(*arguments: str) -> str:
    """What the command prints to standard output; its errors are raised."""
    done = CliRunner().invoke(app, ["service-keys", *arguments])
    if isinstance(done.exception, AirbergError):
        assert done.output == ""
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_key_for_a_service(home: Home) -> None:
    """It is all that goes to standard output, and good at once; the identity is the service's own."""
    text = run(*GOOD, "--scope", "ingest:write", "--group", "sales", "--days", "30").rstrip("\n")
    caller = home.caller(text)
    assert (caller.key, caller.owner_id) == ("airberg|service:nightly", "data@example.com")
    assert (caller.scopes, caller.roles) == ({"ingest:read", "ingest:write"}, {"sales"})
    assert not caller.is_admin
    [key] = home.keys.keys()
    assert key.expires_at - key.created_at == timedelta(days=30)
    [act] = SqlAuditLog(home.engine).entries(target=str(key.id))
    assert (act.actor, act.action, act.kind) == (operator(), "service-key.create", "service-key")
    assert text[37:] not in str(act)
    successor = home.caller(run(*GOOD).strip())
    assert successor.key == caller.key, "the next key of that name sees the same jobs"


def test_a_key_for_somebody(home: Home) -> None:
    """It acts for the identity that is named; the role of an administrator is given, too."""
    text = run(*GOOD, "--identity", "https://i.example|7f3|x", "--group", "ingest-admin").strip()
    caller = home.caller(text)
    assert (caller.issuer, caller.subject, caller.is_admin) == ("https://i.example", "7f3|x", True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*GOOD, "--scope", "ingest:all"), "There is no scope ingest:all"),
        ((*GOOD, "--days", "91"), "90 days at most"),
        ((*GOOD, "--identity", "ann"), "ISSUER|SUBJECT"),
        ((*GOOD, "--identity", "|ann"), "ISSUER|SUBJECT"),
        (("create", " ", *GOOD[2:]), "printable"),
        (("create", "a" * 101, *GOOD[2:]), "printable"),
        ((*GOOD[:-1], "a\nb"), "printable"),
    ],
)
def test_what_is_refused(home: Home, arguments: tuple[str, ...], message: str) -> None:
    """Then there is no key."""
    with pytest.raises(ConfigurationFailed) as e:
        run(*arguments)
    assert message in e.value.message
    assert e.value.code == "bad-service-key"
    assert not home.keys.keys()


def test_none_where_they_are_turned_off(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here as over HTTP."""
    monkeypatch.setenv("AIRBERG_AUTH__SERVICE_KEY_DAYS", "0")
    with pytest.raises(ConfigurationFailed, match="turned off"):
        run(*GOOD)
    assert not home.keys.keys()


def test_the_list(home: Home) -> None:
    """As a table and as JSON, newest first; no key is in it."""
    first = run(*GOOD).strip()
    second = run("create", "other", *GOOD[2:]).strip()
    home.caller(second)
    text = run("list")
    assert [line.split()[1:3] for line in text.splitlines()] == [
        ["name", "state"],
        ["other", "active"],
        ["nightly", "active"],
    ]
    facts = [json.loads(line) for line in run("list", "--json").splitlines()]
    assert [(f["name"], f["last_used_at"] is not None) for f in facts] == [
        ("other", True),
        ("nightly", False),
    ]
    assert not any(key[37:] in text + str(facts) for key in (first, second))


def test_revoking(home: Home) -> None:
    """From the next request on; what is not there is an error."""
    text = run(*GOOD).strip()
    key_id = str(home.caller(text).service_key)
    for _ in range(2):
        assert run("revoke", key_id) == ""
    with pytest.raises(NotAuthenticated, match="revoked"):
        home.caller(text)
    assert "revoked" in run("list")
    assert [e.action for e in SqlAuditLog(home.engine).entries()] == [
        "service-key.revoke",
        "service-key.create",
    ]
    with pytest.raises(NotFound):
        run("revoke", str(uuid4()))
