"""What every key store does, whatever it keeps its keys in."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from airberg.errors import Conflict, InvalidRequest, NotFound
from airberg.keys.kek import LocalKek
from airberg.keys.memory import MemoryKeyStore
from airberg.keys.port import KeyStore
from airberg.keys.sql import SqlKeyStore, metadata


@pytest.fixture(params=["memory", "sql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyStore]:
    """Each adapter, empty."""
    if request.param == "memory":
        yield MemoryKeyStore()
        return
    engine = create_engine(f"sqlite:///{tmp_path / 'keys.db'}")
    metadata.create_all(engine)
    yield SqlKeyStore(engine, LocalKek([bytes(32)]))
    engine.dispose()


def test_a_new_key_is_primary_and_usable(store: KeyStore) -> None:
    """Creating gives version 1, with a fresh 32-byte key that is found again."""
    key = store.create("crm-pii")
    assert (key.name, key.version, len(key.raw)) == ("crm-pii", 1, 32)
    assert 0 < key.key_id < 2**32
    assert store.primary("crm-pii") == key
    assert list(store.versions("crm-pii")) == [key]
    assert store.exists("crm-pii")


def test_keys_differ(store: KeyStore) -> None:
    """No two keys share bytes or ids."""
    a, b = store.create("a"), store.create("b")
    assert a.raw != b.raw
    assert a.key_id != b.key_id


def test_creating_twice_conflicts(store: KeyStore) -> None:
    """A second create is refused and changes nothing."""
    key = store.create("a")
    with pytest.raises(Conflict) as e:
        store.create("a")
    assert e.value.code == "key-exists"
    assert store.primary("a") == key


def test_exist_ok_gives_the_primary_version(store: KeyStore) -> None:
    """`exist_ok` returns what is there, also after a rotation."""
    store.create("a")
    newest = store.rotate("a")
    assert store.create("a", exist_ok=True) == newest


def test_rotation_adds_a_primary_version_and_keeps_the_old(store: KeyStore) -> None:
    """After a rotation both versions decrypt, oldest first, and the new one encrypts."""
    first = store.create("a")
    second = store.rotate("a")
    third = store.rotate("a")
    assert [k.version for k in (first, second, third)] == [1, 2, 3]
    assert len({k.raw for k in (first, second, third)}) == 3
    assert store.primary("a") == third
    assert list(store.versions("a")) == [first, second, third]


def test_unknown_keys_are_not_found(store: KeyStore) -> None:
    """What was never created is not there, for any verb."""
    assert not store.exists("nope")
    for verb in (store.primary, store.versions, store.rotate):
        with pytest.raises(NotFound) as e:
            verb("nope")
        assert e.value.code == "unknown-key"


def test_names_are_sorted_and_single(store: KeyStore) -> None:
    """Each name is listed once."""
    for name in ("b", "a", "c"):
        store.create(name)
    store.rotate("a")
    assert list(store.names()) == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["", "A", "-a", ".a", "a b", "a/b", "ä", "a\n", "a" * 65])
def test_names_that_a_key_cannot_have(store: KeyStore, name: str) -> None:
    """A bad name is refused before anything is stored."""
    with pytest.raises(InvalidRequest) as e:
        store.create(name)
    assert e.value.code == "invalid-key-name"
    assert list(store.names()) == []


@pytest.mark.parametrize("name", ["a", "0", "crm-pii_v1.2", "a" * 64])
def test_names_that_a_key_can_have(store: KeyStore, name: str) -> None:
    """Good names are kept as they are."""
    assert store.create(name).name == name


def test_keys_are_not_shown(store: KeyStore) -> None:
    """The repr of a key has no key bytes."""
    key = store.create("a")
    assert key.raw.hex() not in repr(key)
    assert repr(key.raw) not in repr(key)


def test_many_creators_at_once_get_one_key(store: KeyStore) -> None:
    """Whoever comes first creates; all others get the same key."""
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: store.create("a", exist_ok=True), range(16)))
    assert set(keys) == {store.primary("a")}
    assert len(store.versions("a")) == 1


def test_many_rotations_at_once_are_all_kept(store: KeyStore) -> None:
    """Rotations at the same time give as many versions, of which one is primary."""
    store.create("a")
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: store.rotate("a"), range(6)))
    versions = store.versions("a")
    assert sorted(k.version for k in made) == [2, 3, 4, 5, 6, 7]
    assert [k.version for k in versions] == [1, 2, 3, 4, 5, 6, 7]
    assert store.primary("a") == versions[-1]
