"""From the master key to a key service and back: keys, sealed configurations and states, and real runs."""

from __future__ import annotations

import base64
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from airberg.errors import ConfigurationFailed, TransientFailed
from airberg.jobs.engine import engine_of
from airberg.jobs.migrate import upgrade
from airberg.jobs.open import open_store
from airberg.keys.cipher import decrypt_value
from airberg.keys.kek import ensure_master_key, master_key_path
from airberg.keys.open import open_kek, open_keys
from airberg.keys.port import KeyStore
from airberg.keys.ring import KekRing
from airberg.keys.seal import Sealer
from airberg.keys.system import SystemKeys
from airberg.settings import KeySettings, Settings
from support.at_once import at_once
from support.deployment import Deployment, write_scenario
from support.jobs import a_job
from support.kek_cases import SERVICES, KekCase, local_case, opened
from support.postgresql import Server

NEW_MASTER = SecretStr(base64.b64encode(b"n" * 32).decode())
SECRET = "hunter2-hunter2"


def rewrapped(settings: Settings) -> int:
    """What `airberg keys rewrap` does."""
    return open_keys(settings).rewrap(open_kek(settings).current, actor="ann")


def keks_of(keys: KeyStore) -> set[str]:
    """Identities of what the versions of all keys are wrapped by."""
    return {version.kek for name in keys.names() for version in keys.describe(name).versions}


def moved(keys: KeySettings, **changes: Any) -> KeySettings:
    """Settings with some changes, checked again."""
    return KeySettings(**(dict(keys) | changes))


@pytest.fixture
def home(tmp_path: Path, migrated_sqlite: Path) -> Path:
    """That of a deployment with a master key and an empty database."""
    ensure_master_key(Settings(home=tmp_path / "home"))
    shutil.copy(migrated_sqlite, tmp_path / "home" / "airberg.db")
    return tmp_path / "home"


@pytest.mark.parametrize("kek_case", SERVICES, indirect=True)
def test_keys_move_to_a_service_and_back(kek_case: KekCase, home: Path) -> None:
    """Keys stay what they are, whichever wraps them; at the service, the deployment needs no master key."""
    local = Settings(home=home)
    crm = open_keys(local).create("crm")
    store = open_store(local)
    job = store.add_job(a_job(), {"password": SECRET})

    both = Settings(home=home, keys=moved(kek_case.settings, previous_keks=("local",)))
    assert open_keys(both).primary("crm") == crm
    uri = open_kek(both).uri
    assert rewrapped(both) == 4  # default, crm, and two of the system: the master key, and a new one
    master_key_path(local).unlink()

    service = Settings(home=home, keys=kek_case.settings)
    held = open_keys(service)
    second = held.rotate("crm", actor="ann")
    assert list(held.versions("crm")) == [crm, second]
    assert keks_of(held) == {uri}
    assert open_store(service).source_config(job.id) == {"password": SECRET}
    later = open_store(service).add_job(a_job("later"), {"password": SECRET})
    assert ensure_master_key(service) is None
    assert not master_key_path(service).exists()

    back = Settings(
        home=home, keys=moved(kek_case.settings, kek="local", previous_keks=(kek_case.settings.kek,))
    )
    back_keys = moved(back.keys, master_key=NEW_MASTER)
    assert rewrapped(Settings(home=home, keys=back_keys)) == 5
    alone = Settings(home=home, keys=KeySettings(master_key=NEW_MASTER))
    assert list(open_keys(alone).versions("crm")) == [crm, second]
    for sealed in (job.id, later.id):
        assert open_store(alone).source_config(sealed) == {"password": SECRET}
    with pytest.raises(ConfigurationFailed) as e:
        open_keys(service).primary("crm")
    assert e.value.code == "kek-not-configured"
    assert "local://master" in e.value.message
    assert uri in e.value.message


@pytest.mark.parametrize("kek_case", SERVICES, indirect=True)
def test_a_move_that_was_interrupted_is_completed(kek_case: KekCase, home: Path) -> None:
    """While both keys are configured, records of either open; wrapping anew again does the rest."""
    local = Settings(home=home)
    a, b = open_keys(local).create("a"), open_keys(local).create("b")
    both = Settings(home=home, keys=moved(kek_case.settings, previous_keks=("local",)))
    held = open_keys(both)

    class Interrupted(Exception):
        pass

    class Once:
        """Wraps one key and then is gone."""

        def __init__(self) -> None:
            self.kek, self.left = opened(kek_case.settings), 2
            self.uri = self.kek.uri
            self.unwrap = self.kek.unwrap

        def wrap(self, dek: bytes, context: dict[str, str]) -> bytes:
            self.left -= 1
            if self.left < 0:
                raise Interrupted
            return self.kek.wrap(dek, context)

    with pytest.raises(Interrupted):
        held.rewrap(Once(), actor="ann")
    used = keks_of(held)
    assert used == {"local://master", open_kek(both).uri}
    assert (open_keys(both).primary("a"), open_keys(both).primary("b")) == (a, b)
    rewrapped(both)
    service = open_keys(Settings(home=home, keys=kek_case.settings))
    assert (service.primary("a"), service.primary("b")) == (a, b)


# ---- runs ------------------------------------------------------------------------------------------------


def grown_source(folder: Path, count: int) -> Path:
    """A source with so many users; a run with a state reads those that it has not seen."""
    fields = {"id": "$i", "email": "user$i@example.com"}
    stream = {
        "name": "users",
        "cursor": "id",
        "primary_key": [["id"]],
        "generate": {"count": count, "from": 1, "fields": fields},
    }
    return write_scenario(folder, {"streams": [stream]})


def decrypted(deployment: Deployment) -> Counter[str]:
    """What is in the encrypted column."""
    keys = deployment.keys.versions("crm")
    values = deployment.rows("users", "email")
    return Counter(decrypt_value(keys, v, b"shop.users.email").decode() for (v,) in values)


def users(count: int) -> Counter[str]:
    """Each of so many users once."""
    return Counter(f"user{i}@example.com" for i in range(1, count + 1))


@pytest.mark.parametrize("kek_case", ["aws-kms"], indirect=True)
def test_runs_under_a_key_service(
    kek_case: KekCase, tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path
) -> None:
    """Runs before and under AWS KMS write one table; while KMS is away nothing is read or written."""

    def deployed(keys: KeySettings) -> Deployment:
        return Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir, key_settings=keys)

    local = deployed(KeySettings())
    local.keys.create("crm")
    rule = {"column": "email", "transformation_type": "encrypt", "encryption_key_name": "crm"}
    job = local.job(grown_source(tmp_path, 10), column_transformations=[rule])
    local.run(job, "run-1")
    assert decrypted(local) == users(10)

    rewrapped(deployed(moved(kek_case.settings, previous_keks=("local",))).settings)
    master_key_path(local.settings).unlink()
    under = deployed(kek_case.settings)
    under.keys.rotate("crm", actor="ann")
    assert {v.kek for v in under.keys.describe("crm").versions} == {
        under.keys.describe("default").versions[0].kek
    }
    grown_source(tmp_path, 20)
    under.run(job, "run-2")  # opens configuration and state that the master key has sealed
    assert decrypted(under) == users(20)

    assert kek_case.down is not None
    away = deployed(kek_case.down)
    grown_source(tmp_path, 30)
    with pytest.raises(TransientFailed) as e:
        away.run(job, "run-3")
    assert e.value.code == "kek-unavailable"
    assert decrypted(under) == users(20)
    under.run(job, "run-4")
    assert decrypted(under) == users(30)


def test_many_parts_begin_at_once_on_postgresql(postgresql_server: Server) -> None:
    """One makes the sealing keys, all others take them."""
    upgrade(postgresql_server.url)
    engine = engine_of(postgresql_server.url)
    kek = open_kek(Settings(keys=local_case().settings)).current

    class Elsewhere:
        """The local key under another name, which makes it one of a service."""

        uri = "test://elsewhere"
        wrap, unwrap = kek.wrap, kek.unwrap

    def sealer() -> Sealer:
        return Sealer(SystemKeys(engine, KekRing(Elsewhere()), [b"m" * 32]).loaders)

    try:
        sealed = at_once(*[lambda: sealer().seal(b"x", {"job": "1"})] * 6)
        assert [sealer().open(blob, {"job": "1"}) for blob in sealed] == [b"x"] * 6
        rows = SystemKeys(engine, KekRing(Elsewhere()), [b"m" * 32]).ensure()
        assert [(row.version, row.state) for row in rows] == [(2, "primary"), (1, "active")]
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql("TRUNCATE data_keys, key_audit")
        engine.dispose()
