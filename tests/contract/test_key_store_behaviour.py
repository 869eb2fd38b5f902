"""What every key store does, whatever it keeps its keys in."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from airberg.errors import ConfigurationFailed, Conflict, InvalidRequest, NotFound
from airberg.jobs.engine import engine_of
from airberg.jobs.migrate import upgrade
from airberg.keys.kek import LocalKek
from airberg.keys.memory import MemoryKeyStore
from airberg.keys.port import DataKey, KeyStore
from airberg.keys.sql import SqlKeyStore
from airberg.keys.tables import metadata
from support.at_once import at_once


class OtherKek(LocalKek):
    """Another key-encryption key, with a URI of its own."""

    uri = "local://other"


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyStore]:
    """Each adapter, empty."""
    if request.param == "memory":
        yield MemoryKeyStore()
        return
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "airberg.db")
        url = f"sqlite:///{tmp_path / 'airberg.db'}"
    else:
        url = request.getfixturevalue("postgresql_server").url
        upgrade(url)
    engine = engine_of(url)
    yield SqlKeyStore(engine, LocalKek([bytes(32)]))
    if request.param == "postgresql":
        with engine.begin() as c:
            c.execute(sa.text(f"TRUNCATE {', '.join(t.name for t in metadata.sorted_tables)}"))
    engine.dispose()


def states(store: KeyStore, name: str = "a") -> list[str]:
    """The states of a key's versions, oldest first."""
    return [v.state for v in store.describe(name).versions]


def with_versions(store: KeyStore, count: int) -> list[DataKey]:
    """A key `a` with some versions."""
    return [store.create("a"), *(store.rotate("a", actor="ann") for _ in range(count - 1))]


# ---- creating and reading --------------------------------------------------------------------------------


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


def test_a_key_describes_itself(store: KeyStore) -> None:
    """What may be told: who may use it, its versions with ids, states, times and what wraps them."""
    key = store.create("a", owners={"ann@example.com"}, roles={"crm", "legal"})
    found = store.describe("a")
    (version,) = found.versions
    assert (found.name, found.owners, found.roles) == (
        "a",
        frozenset({"ann@example.com"}),
        frozenset({"crm", "legal"}),
    )
    assert found.restricted
    assert (found.state, found.primary) == ("enabled", version)
    assert (version.version, version.key_id, version.state) == (1, key.key_id, "primary")
    assert abs(version.created_at - datetime.now(UTC)) < timedelta(hours=1)
    assert version.kek
    assert not store.describe(store.create("b").name).restricted


def test_creating_twice_conflicts(store: KeyStore) -> None:
    """A second create is refused and changes nothing."""
    key = store.create("a")
    with pytest.raises(Conflict) as e:
        store.create("a", owners={"eve"})
    assert e.value.code == "key-exists"
    assert store.primary("a") == key
    assert not store.describe("a").restricted


def test_exist_ok_gives_the_primary_version(store: KeyStore) -> None:
    """`exist_ok` returns what is there, also after a rotation, and changes nothing of it."""
    newest = with_versions(store, 2)[-1]
    assert store.create("a", owners={"eve"}, exist_ok=True) == newest
    assert not store.describe("a").restricted


def test_unknown_keys_are_not_found(store: KeyStore) -> None:
    """What was never created is not there, for any verb."""
    assert not store.exists("nope")
    none: frozenset[str] = frozenset()
    verbs: list[Callable[[], Any]] = [
        lambda: store.primary("nope"),
        lambda: store.versions("nope"),
        lambda: store.describe("nope"),
        lambda: store.rotate("nope", actor="ann"),
        lambda: store.allow("nope", actor="ann", owners=none, roles=none),
        lambda: store.disable("nope", actor="ann"),
        lambda: store.enable("nope", actor="ann"),
        lambda: store.destroy("nope", actor="ann"),
        lambda: store.record("ann", "export", "nope"),
    ]
    for verb in verbs:
        with pytest.raises(NotFound) as e:
            verb()
        assert e.value.code == "unknown-key"
    assert list(store.audit()) == []


def test_names_are_sorted_and_single(store: KeyStore) -> None:
    """Each name is listed once."""
    for name in ("b", "a", "c"):
        store.create(name)
    store.rotate("a", actor="ann")
    assert list(store.names()) == ["a", "b", "c"]
    keys = store.keys()
    assert [(k.name, len(k.versions)) for k in keys] == [("a", 2), ("b", 1), ("c", 1)]
    assert list(keys) == [store.describe(n) for n in "abc"]


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
    """The repr of a key, of its description and of its audit entries has no key bytes."""
    key = store.create("a")
    for shown in (repr(key), repr(store.describe("a")), repr(store.audit())):
        assert key.raw.hex() not in shown
        assert repr(key.raw) not in shown


# ---- versions and their states ---------------------------------------------------------------------------


def test_rotation_adds_a_primary_version_and_keeps_the_old(store: KeyStore) -> None:
    """After a rotation both versions decrypt, oldest first, and the new one encrypts."""
    first, second, third = with_versions(store, 3)
    assert [k.version for k in (first, second, third)] == [1, 2, 3]
    assert len({k.raw for k in (first, second, third)}) == 3
    assert store.primary("a") == third
    assert list(store.versions("a")) == [first, second, third]
    assert states(store) == ["active", "active", "primary"]


def test_a_disabled_key_does_nothing_until_it_is_enabled(store: KeyStore) -> None:
    """A key as a whole goes out of use and comes back as it was."""
    keys = with_versions(store, 2)
    assert [v.state for v in store.disable("a", actor="ann").versions] == ["disabled", "disabled"]
    assert store.describe("a").state == "disabled"
    assert not store.exists("a")
    for verb in (store.primary, store.versions, lambda n: store.create(n, exist_ok=True)):
        with pytest.raises(ConfigurationFailed) as e:
            verb("a")
        assert e.value.code == "key-disabled"
    with pytest.raises(Conflict) as refused:
        store.rotate("a", actor="ann")
    assert refused.value.code == "key-disabled"
    assert [v.state for v in store.enable("a", actor="ann").versions] == ["active", "primary"]
    assert list(store.versions("a")) == keys


def test_a_disabled_version_no_longer_decrypts(store: KeyStore) -> None:
    """One version goes out of use; the others do their work."""
    first, second = with_versions(store, 2)
    store.disable("a", actor="ann", version=1)
    assert states(store) == ["disabled", "primary"]
    assert (list(store.versions("a")), store.primary("a")) == ([second], second)
    store.enable("a", actor="ann", version=1)
    assert list(store.versions("a")) == [first, second]


def test_without_its_newest_version_a_key_only_decrypts(store: KeyStore) -> None:
    """No older version takes the place of a disabled one; a rotation ends that, and the old one is active."""
    first, second = with_versions(store, 2)
    store.disable("a", actor="ann", version=2)
    assert states(store) == ["active", "disabled"]
    assert list(store.versions("a")) == [first]
    assert not store.exists("a")
    with pytest.raises(ConfigurationFailed) as e:
        store.primary("a")
    assert e.value.code == "key-disabled"
    third = store.rotate("a", actor="ann")
    assert store.primary("a") == third
    store.enable("a", actor="ann", version=2)
    assert states(store) == ["active", "active", "primary"]
    assert list(store.versions("a")) == [first, second, third]


def test_a_destroyed_key_is_gone_but_for_its_name(store: KeyStore) -> None:
    """Nothing brings it back, and its name is not given again."""
    with_versions(store, 2)
    store.disable("a", actor="ann", version=1)
    assert [v.state for v in store.destroy("a", actor="ann").versions] == ["destroyed", "destroyed"]
    assert store.describe("a").state == "destroyed"
    assert not store.exists("a")
    assert list(store.names()) == ["a"]
    for verb in (store.primary, store.versions, lambda n: store.create(n, exist_ok=True)):
        with pytest.raises(ConfigurationFailed) as e:
            verb("a")
        assert e.value.code == "key-destroyed"
    changes: list[Callable[..., Any]] = [store.rotate, store.disable, store.enable]
    for change in changes:
        with pytest.raises(Conflict) as refused:
            change("a", actor="ann")
        assert refused.value.code == "key-destroyed"
    with pytest.raises(Conflict) as taken:
        store.create("a")
    assert taken.value.code == "key-exists"
    assert store.destroy("a", actor="ann") == store.describe("a")


def test_an_old_version_is_destroyed_for_good(store: KeyStore) -> None:
    """The version is gone whoever asks for it; the newer one does its work."""
    _, second = with_versions(store, 2)
    store.destroy("a", actor="ann", version=1)
    assert states(store) == ["destroyed", "primary"]
    assert list(store.versions("a")) == [second]
    for change in (store.enable, store.disable):
        with pytest.raises(Conflict) as e:
            change("a", actor="ann", version=1)
        assert e.value.code == "key-destroyed"
    assert states(store) == ["destroyed", "primary"]
    store.disable("a", actor="ann")
    store.enable("a", actor="ann")
    assert states(store) == ["destroyed", "primary"]


def test_the_newest_version_is_destroyed_last(store: KeyStore) -> None:
    """An older version, rotated out, would have to encrypt again; the only one left may go."""
    with_versions(store, 2)
    for state in ("primary", "disabled"):
        assert states(store)[1] == state
        with pytest.raises(Conflict) as e:
            store.destroy("a", actor="ann", version=2)
        assert e.value.code == "key-version-newest"
        store.disable("a", actor="ann", version=2)
    store.destroy("a", actor="ann", version=1)
    store.destroy("a", actor="ann", version=2)
    assert store.describe("a").state == "destroyed"


@pytest.mark.parametrize("version", [0, 2, -1])
def test_versions_that_are_not_there(store: KeyStore, version: int) -> None:
    """Another number than those that were given is not found."""
    store.create("a")
    for change in (store.disable, store.enable, store.destroy):
        with pytest.raises(NotFound) as e:
            change("a", actor="ann", version=version)
        assert e.value.code == "unknown-key-version"
    assert states(store) == ["primary"]


# ---- who may use them ------------------------------------------------------------------------------------


def test_who_may_use_a_key_is_replaced_as_a_whole(store: KeyStore) -> None:
    """`allow` says all that may; nobody listed is everybody. The versions stay."""
    store.create("a", owners={"ann"}, roles={"crm"})
    store.create("b", owners={"bob"})
    key = store.allow("a", actor="ann", owners={"eve"}, roles=frozenset())
    assert (key.owners, key.roles, len(key.versions)) == (frozenset({"eve"}), frozenset(), 1)
    assert store.describe("a") == key
    assert not store.allow("a", actor="ann", owners=frozenset(), roles=frozenset()).restricted
    assert store.describe("b").owners == frozenset({"bob"})


# ---- rewrapping ------------------------------------------------------------------------------------------


def test_rewrapping_changes_what_wraps_and_nothing_else(store: KeyStore) -> None:
    """All versions but the destroyed ones get the new wrapping; they encrypt and decrypt as before."""
    with_versions(store, 3)
    other = store.create("b")
    store.destroy("a", actor="ann", version=1)
    store.disable("a", actor="ann", version=2)
    primary, before = store.primary("a"), states(store)
    old = store.describe("a").versions[0].kek
    assert store.rewrap(OtherKek([b"x" * 32]), actor="ann") == 3
    assert [v.kek for v in store.describe("a").versions] == [old, "local://other", "local://other"]
    assert states(store) == before
    if isinstance(store, SqlKeyStore):  # a store of before cannot unwrap what another key has wrapped
        with pytest.raises(ConfigurationFailed, match="local://other"):
            store.primary("a")
        store = SqlKeyStore(store._engine, OtherKek([b"x" * 32]))
    assert (store.primary("a"), store.primary("b")) == (primary, other)
    store.enable("a", actor="ann", version=2)
    assert [k.version for k in store.versions("a")] == [2, 3]


# ---- audit -----------------------------------------------------------------------------------------------


def test_every_change_leaves_an_entry(store: KeyStore) -> None:
    """Who did what to which versions, newest first; reading leaves nothing."""
    store.create("a", actor="ann")
    store.rotate("a", actor="bob")
    store.disable("a", actor="cat", version=1)
    store.enable("a", actor="dan", version=1)
    store.allow("a", actor="eve", owners={"x", "w"}, roles={"y"})
    store.rewrap(OtherKek([b"x" * 32]), actor="fay")
    store.destroy("a", actor="gus")
    store.names(), store.keys(), store.describe("a"), store.exists("a")
    seen = [(e.actor, e.action, e.versions) for e in store.audit() if e.action != "rewrap"]
    assert seen == [
        ("gus", "destroy", (1, 2)),
        ("eve", "allow", ()),
        ("dan", "enable", (1,)),
        ("cat", "disable", (1,)),
        ("bob", "rotate", (2,)),
        ("ann", "create", (1,)),
    ]
    rewrapped = [e for e in store.audit() if e.action == "rewrap"]
    assert sorted(v for e in rewrapped for v in e.versions) == [1, 2]
    assert {(e.actor, e.detail) for e in rewrapped} == {("fay", "with local://other")}
    assert next(e.detail for e in store.audit() if e.action == "allow") == "owners w, x; roles y"
    assert next(e.detail for e in store.audit() if e.action == "create") == "everybody"
    store.create("b", actor="ann", owners={"x"}, roles={"y"})
    assert store.audit("b")[0].detail == "owners x; roles y"
    times = [e.at for e in store.audit()]
    assert times == sorted(times, reverse=True)
    assert times[0].utcoffset() == timedelta(0)


def test_a_refused_or_empty_change_leaves_no_entry(store: KeyStore) -> None:
    """What did not happen is not in the log."""
    with_versions(store, 2)
    for change in (
        lambda: store.create("a", actor="eve"),
        lambda: store.destroy("a", actor="eve", version=2),
        lambda: store.disable("a", actor="eve", version=7),
    ):
        with pytest.raises((Conflict, NotFound)):
            change()
    store.enable("a", actor="eve")
    assert [e.action for e in store.audit()] == ["rotate", "create"]


def test_others_may_add_entries(store: KeyStore) -> None:
    """Exports and decrypting reads are noted, by key, as many as are asked for."""
    store.create("a", actor="ann")
    store.create("b", actor="ann")
    store.record("bob", "export", "a", (1,), "as hex")
    store.record("bob", "decrypt", "b")
    (first, second) = store.audit("a")
    assert (first.actor, first.action, first.key, first.versions, first.detail) == (
        "bob",
        "export",
        "a",
        (1,),
        "as hex",
    )
    assert second.action == "create"
    assert [e.key for e in store.audit(limit=2)] == ["b", "a"]
    assert list(store.audit("nope")) == []


# ---- at the same time ------------------------------------------------------------------------------------


def test_many_creators_at_once_get_one_key(store: KeyStore) -> None:
    """Whoever comes first creates; all others get the same key."""
    keys = at_once(*(lambda: store.create("a", exist_ok=True) for _ in range(8)))
    assert set(keys) == {store.primary("a")}
    assert len(store.versions("a")) == 1
    assert [e.action for e in store.audit()] == ["create"]


def test_many_rotations_at_once_are_all_kept(store: KeyStore) -> None:
    """Rotations at the same time give as many versions, of which one is primary."""
    store.create("a")
    made = at_once(*(lambda: store.rotate("a", actor="ann") for _ in range(6)))
    assert sorted(k.version for k in made if isinstance(k, DataKey)) == [2, 3, 4, 5, 6, 7]
    assert states(store) == ["active"] * 6 + ["primary"]
    assert set(store.versions("a")) >= set(made)


def test_destroying_and_rotating_at_once_leaves_nothing_alive(store: KeyStore) -> None:
    """A rotation comes before the end of the key or is refused; it never outlives it."""
    store.create("a")
    calls: list[Callable[[], object]] = [lambda: store.rotate("a", actor="ann") for _ in range(4)]
    results = at_once(*calls, lambda: store.destroy("a", actor="ann"))
    refused = [r for r in results if isinstance(r, Exception)]
    assert {type(r) for r in refused} <= {Conflict}
    assert set(states(store)) == {"destroyed"}
    assert len(states(store)) == 1 + 4 - len(refused)


def test_rewrapping_and_destroying_at_once_brings_nothing_back(store: KeyStore) -> None:
    """Bytes that are erased stay erased, whichever comes first."""
    with_versions(store, 3)
    results = at_once(
        lambda: store.rewrap(OtherKek([b"x" * 32]), actor="ann"),
        lambda: store.destroy("a", actor="bob"),
    )
    assert not [r for r in results if isinstance(r, Exception)]
    assert states(store) == ["destroyed"] * 3
    with pytest.raises(ConfigurationFailed) as e:
        store.versions("a")
    assert e.value.code == "key-destroyed"
