"""Sealing with the key-encryption key of a service: the way there, the way back, and who may come between."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from sqlalchemy import Engine

from airberg.errors import ConfigurationFailed, InvalidRequest, NotFound, Unavailable
from airberg.jobs.engine import engine_of
from airberg.keys.kek import LocalKek
from airberg.keys.names import SYSTEM_KEY
from airberg.keys.ring import KekRing
from airberg.keys.seal import Sealer
from airberg.keys.sql import SqlKeyStore
from airberg.keys.system import SystemKeys
from support.at_once import at_once

MASTER, NEWER = b"m" * 32, b"n" * 32
HERE = {"job": "1"}


class Service(LocalKek):
    """A key that is somewhere else, and counts how often it is asked."""

    def __init__(self, uri: str = "service://one", key: bytes = b"s" * 32) -> None:
        super().__init__([key])
        self.uri = uri
        self.away = False
        self.asked = 0

    def wrap(self, dek: bytes, context: Mapping[str, str]) -> bytes:
        """See `Kek.wrap`."""
        self._ask()
        return super().wrap(dek, context)

    def unwrap(self, blob: bytes, context: Mapping[str, str]) -> bytes:
        """See `Kek.unwrap`."""
        self._ask()
        return super().unwrap(blob, context)

    def _ask(self) -> None:
        self.asked += 1
        if self.away:
            raise Unavailable("The service is away.")


@pytest.fixture
def engine(migrated_sqlite: Path, tmp_path: Path) -> Engine:
    """A database of its own."""
    shutil.copy(migrated_sqlite, tmp_path / "airberg.db")
    return engine_of(f"sqlite:///{tmp_path / 'airberg.db'}")


def sealer(engine: Engine, ring: KekRing, *master_keys: bytes) -> Sealer:
    """What a process with these keys has."""
    return Sealer(SystemKeys(engine, ring, master_keys).loaders)


def local(*keys: bytes) -> KekRing:
    """A deployment with these master keys."""
    return KekRing(LocalKek(keys))


def test_the_local_key_seals_by_itself(engine: Engine) -> None:
    """Nothing is stored, and values are those of ever."""
    blob = sealer(engine, local(MASTER), MASTER).seal(b"x", HERE)
    assert Sealer([MASTER]).open(blob, HERE) == b"x"
    assert SystemKeys(engine, local(MASTER), [MASTER]).ensure() == []


def test_with_a_service_the_master_key_does_not_seal(engine: Engine) -> None:
    """What is sealed opens without it, and not with it alone."""
    ring = KekRing(Service())
    blob = sealer(engine, ring, MASTER).seal(b"x", HERE)
    assert sealer(engine, ring).open(blob, HERE) == b"x"
    with pytest.raises(ConfigurationFailed) as e:
        Sealer([MASTER]).open(blob, HERE)
    assert e.value.code == "cannot-open-sealed"


def test_a_deployment_without_any_master_key(engine: Engine) -> None:
    """It begins with the service."""
    ring = KekRing(Service())
    blob = sealer(engine, ring).seal(b"x", HERE)
    assert sealer(engine, ring).open(blob, HERE) == b"x"
    [row] = SystemKeys(engine, ring, []).ensure()
    assert (row.name, row.state, row.kek) == (SYSTEM_KEY, "primary", "service://one")


def test_what_master_keys_have_sealed_opens_without_them(engine: Engine) -> None:
    """All that were given when the service came are taken along, once."""
    blobs = [Sealer([key]).seal(b"x", HERE) for key in (MASTER, NEWER)]
    ring = KekRing(Service())
    for _ in range(2):
        rows = SystemKeys(engine, ring, [NEWER, MASTER]).ensure()
        assert [(row.version, row.state) for row in rows] == [(3, "primary"), (2, "active"), (1, "active")]
    assert [sealer(engine, ring).open(blob, HERE) for blob in blobs] == [b"x", b"x"]
    assert MASTER not in b"".join(row.wrapped for row in rows)


def test_there_and_back_and_there_again(engine: Engine) -> None:
    """Each way, what was sealed before opens; the master key of in between is taken along too."""
    service, store = Service(), SqlKeyStore(engine, local(MASTER))
    blobs = [sealer(engine, local(MASTER), MASTER).seal(b"0", HERE)]

    there = KekRing(service, LocalKek([MASTER]))
    SystemKeys(engine, there, [MASTER]).ensure()
    SqlKeyStore(engine, there).rewrap(service, actor="ann")
    blobs.append(sealer(engine, KekRing(service)).seal(b"1", HERE))

    newer = LocalKek([NEWER])
    assert SqlKeyStore(engine, KekRing(newer, service)).rewrap(newer, actor="ann") == 2
    blobs.append(sealer(engine, local(NEWER), NEWER).seal(b"2", HERE))
    blobs.append(Sealer([NEWER]).seal(b"3", HERE))  # by a process that began before

    again = Service("service://two", b"t" * 32)
    back = KekRing(again, newer)
    SystemKeys(engine, back, [NEWER]).ensure()
    SqlKeyStore(engine, back).rewrap(again, actor="ann")
    assert [sealer(engine, KekRing(again)).open(b, HERE) for b in blobs] == [b"0", b"1", b"2", b"3"]
    assert store.names() == []


def test_a_part_that_was_not_changed_yet_says_what_is_missing(engine: Engine) -> None:
    """It cannot open what others seal; with the new key among its previous ones it can."""
    service = Service()
    old = sealer(engine, local(MASTER), MASTER)
    old.seal(b"x", HERE)
    blob = sealer(engine, KekRing(service), MASTER).seal(b"y", HERE)
    with pytest.raises(ConfigurationFailed) as e:
        old.open(blob, HERE)
    assert e.value.code == "kek-not-configured"
    assert "service://one" in e.value.message
    prepared = sealer(engine, KekRing(LocalKek([MASTER]), service), MASTER)
    assert prepared.open(blob, HERE) == b"y"


def test_a_process_finds_keys_that_came_after_it_began(engine: Engine) -> None:
    """It looks again before it gives up."""
    ring = KekRing(Service())
    begun = sealer(engine, ring)
    begun.seal(b"x", HERE)
    blob = Sealer([MASTER]).seal(b"y", HERE)
    with pytest.raises(ConfigurationFailed) as e:
        begun.open(blob, HERE)
    assert e.value.code == "cannot-open-sealed"
    SystemKeys(engine, ring, [MASTER]).ensure()
    assert begun.open(blob, HERE) == b"y"


def test_a_service_is_asked_once_for_what_it_has_given(engine: Engine) -> None:
    """A process keeps the keys that it has; those that it does not need are not unwrapped."""
    service = Service()
    SystemKeys(engine, KekRing(service), [MASTER]).ensure()
    mine = sealer(engine, KekRing(service))
    before = service.asked
    blobs = [mine.seal(b"x", HERE) for _ in range(3)]
    assert [mine.open(b, HERE) for b in blobs] == [b"x"] * 3
    assert service.asked == before + 1


def test_a_service_that_is_away(engine: Engine) -> None:
    """Nothing is sealed otherwise; when it is back, all goes on."""
    service = Service()
    mine = sealer(engine, KekRing(service), MASTER)
    service.away = True
    with pytest.raises(Unavailable):
        mine.seal(b"x", HERE)
    service.away = False
    blob = mine.seal(b"x", HERE)
    begun = sealer(engine, KekRing(service))
    service.away = True
    with pytest.raises(Unavailable):
        begun.open(blob, HERE)
    service.away = False
    assert begun.open(blob, HERE) == b"x"


def test_many_begin_at_once(engine: Engine) -> None:
    """One makes the keys, all others take them."""
    ring = KekRing(Service())
    results = at_once(*[lambda: sealer(engine, ring, MASTER).seal(b"x", HERE)] * 8)
    assert [sealer(engine, ring).open(blob, HERE) for blob in results] == [b"x"] * 8
    rows = SystemKeys(engine, ring, [MASTER]).ensure()
    assert [(row.version, row.state) for row in rows] == [(2, "primary"), (1, "active")]


def test_an_id_that_is_taken(engine: Engine) -> None:
    """A master key has several to choose from, and is known by any of them."""
    ring = KekRing(Service())
    [adopted] = [row for row in SystemKeys(engine, ring, [MASTER]).ensure() if row.state == "active"]
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM data_keys")
    SqlKeyStore(engine, ring).create("crm")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE data_keys SET key_id = ?", (adopted.key_id,))
    rows = SystemKeys(engine, ring, [MASTER]).ensure()
    assert adopted.key_id not in [row.key_id for row in rows]
    assert SystemKeys(engine, ring, [MASTER]).ensure() == rows


# ---- nobody else reaches it --------------------------------------------------------------------------------


def test_no_verb_on_keys_finds_it(engine: Engine) -> None:
    """It cannot be made, used, exported, disabled or destroyed by name, nor is it listed."""
    ring = KekRing(Service())
    SystemKeys(engine, ring, [MASTER]).ensure()
    store = SqlKeyStore(engine, ring)
    with pytest.raises(InvalidRequest) as e:
        store.create(SYSTEM_KEY)
    assert e.value.code == "invalid-key-name"
    assert not store.exists(SYSTEM_KEY)
    assert list(store.names()) == list(store.keys()) == []
    verbs = (store.describe, store.primary, store.versions)
    changes = (store.rotate, store.disable, store.enable, store.destroy)
    for call in (*verbs, *(lambda name, c=c: c(name, actor="eve") for c in changes)):
        with pytest.raises(NotFound) as missing:
            call(SYSTEM_KEY)
        assert missing.value.code == "unknown-key"
    with pytest.raises(NotFound):
        store.allow(SYSTEM_KEY, actor="eve", owners=frozenset({"eve"}), roles=frozenset())
    assert sealer(engine, ring).seal(b"x", HERE)


def test_making_and_rewrapping_it_is_in_the_audit_log(engine: Engine) -> None:
    """As for every key."""
    service = Service()
    SystemKeys(engine, KekRing(service), [MASTER]).ensure()
    store = SqlKeyStore(engine, KekRing(service))
    store.rewrap(Service("service://two"), actor="ann")
    seen = [(e.actor, e.action, e.versions, e.detail) for e in reversed(store.audit(SYSTEM_KEY))]
    assert seen == [
        ("system", "create", (1, 2), "with service://one"),
        ("ann", "rewrap", (1,), "with service://two"),
        ("ann", "rewrap", (2,), "with service://two"),
    ]
