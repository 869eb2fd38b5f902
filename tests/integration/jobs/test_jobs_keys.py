"""Keys in the job store's databases: migrations from before, processes that want the same, opening."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from pydantic import SecretStr

from airberg.errors import ConfigurationFailed
from airberg.jobs.engine import engine_of
from airberg.jobs.migrate import _config, pending, upgrade
from airberg.keys.kek import LocalKek
from airberg.keys.open import open_keys
from airberg.keys.sql import SqlKeyStore
from airberg.settings import KeySettings, Settings
from support.job_race import race
from support.key_race import rotate, rotate_or_destroy

KEK = LocalKek([bytes(32)])
MADE = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


def at_first_revision(url: str) -> None:
    """A database as the first version made it, with a key of two versions and one of one."""
    engine = engine_of(url)
    rows = sa.table(
        "data_keys",
        *(sa.column(n) for n in ("name", "version", "key_id", "state", "kek", "wrapped")),
        sa.column("created_at", sa.DateTime(timezone=True)),
    )
    with engine.begin() as connection:
        command.upgrade(_config(connection), "0001")
        for name, version, state in (("a", 1, "active"), ("a", 2, "primary"), ("b", 1, "primary")):
            key_id = 100 * ord(name) + version
            context = {"name": name, "version": str(version), "id": str(key_id)}
            connection.execute(
                rows.insert().values(
                    name=name,
                    version=version,
                    key_id=key_id,
                    state=state,
                    kek=KEK.uri,
                    wrapped=KEK.wrap(bytes([version]) * 32, context),
                    created_at=MADE,
                )
            )
    engine.dispose()


def test_keys_of_before_are_taken_along(database_url: str) -> None:
    """Everybody may use them, as before; they work, and take every change."""
    at_first_revision(database_url)
    assert pending(database_url)
    upgrade(database_url)
    store = SqlKeyStore(engine_of(database_url), KEK)
    assert list(store.names()) == ["a", "b"]
    known = store.keys()
    assert [(k.name, k.restricted, k.state) for k in known] == [
        ("a", False, "enabled"),
        ("b", False, "enabled"),
    ]
    assert [(v.version, v.state, v.created_at) for v in store.describe("a").versions] == [
        (1, "active", MADE),
        (2, "primary", MADE),
    ]
    assert [k.raw for k in store.versions("a")] == [b"\x01" * 32, b"\x02" * 32]
    assert store.rotate("a", actor="ann").version == 3
    assert store.destroy("a", actor="ann", version=1).versions[0].state == "destroyed"
    assert [e.action for e in store.audit()] == ["destroy", "rotate"]
    store.close()


def test_processes_may_rotate_at_once(database_url: str) -> None:
    """Three processes rotate one key: three versions, one of them primary, three entries."""
    upgrade(database_url)
    store = SqlKeyStore(engine_of(database_url), KEK)
    store.create("a")
    assert sorted(race(rotate, database_url, "a", 3)) == ["version 2", "version 3", "version 4"]
    assert [v.state for v in store.describe("a").versions] == ["active", "active", "active", "primary"]
    assert len(store.versions("a")) == 4
    assert [e.action for e in store.audit()] == ["rotate"] * 3 + ["create"]
    store.close()


def test_no_rotation_outlives_the_end_of_its_key(database_url: str) -> None:
    """One process destroys what others rotate: whatever the order, nothing is left that decrypts."""
    upgrade(database_url)
    store = SqlKeyStore(engine_of(database_url), KEK)
    store.create("a")
    told = race(rotate_or_destroy, database_url, "a", 3)
    assert told.count("destroyed") == 1
    assert {t for t in told if not t.startswith("version ")} <= {"destroyed", "key-destroyed"}
    rotated = sum(t.startswith("version ") for t in told)
    assert [v.state for v in store.describe("a").versions] == ["destroyed"] * (1 + rotated)
    store.close()


def test_a_deployment_lives_on_without_its_default_key(tmp_path: Path) -> None:
    """The key is made once; disabled or destroyed, it stays that way, and the store opens."""
    master = SecretStr(base64.b64encode(bytes(32)).decode())
    settings = Settings(home=tmp_path, keys=KeySettings(master_key=master))
    with pytest.raises(ConfigurationFailed) as e:
        open_keys(settings)
    assert e.value.code == "schema-out-of-date"
    at_first_revision(settings.database_url)
    with pytest.raises(ConfigurationFailed, match="revision 0001"):
        open_keys(settings)
    upgrade(settings.database_url)
    keys = open_keys(settings)
    assert [(x.actor, x.action) for x in keys.audit("default")] == [("system", "create")]
    keys.disable("default", actor="ann")
    keys.close()
    again = open_keys(settings)
    assert again.describe("default").state == "disabled"
    again.destroy("default", actor="ann")
    again.close()
    last = open_keys(settings)
    assert last.describe("default").state == "destroyed"
    last.close()
