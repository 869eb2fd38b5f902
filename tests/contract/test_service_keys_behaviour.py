"""What every store of service keys does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from airberg.errors import Conflict, NotFound
from airberg.identity.service_keys import MAX_LIVING, ServiceKey, ServiceKeys, digest_of
from airberg.jobs.audit import Act
from airberg.jobs.port import JobStore
from support.at_once import at_once
from support.jobs import NOON, at


@pytest.fixture
def keys(store: JobStore) -> ServiceKeys:
    """The service keys of each job store, none yet."""
    return store.service_keys


def a_key(**changes: Any) -> ServiceKey:
    """A key of ann's for a day."""
    values: dict[str, Any] = {
        "id": uuid4(),
        "name": "nightly €",
        "scopes": frozenset({"ingest:read", "ingest:write"}),
        "groups": frozenset({"sales", "Vertrieb ä", "\ud800"}),
        "owner_id": "ann@example.com",
        "created_by": "https://issuer.example|ann",
        "created_at": NOON,
        "expires_at": NOON + timedelta(days=1),
    }
    return ServiceKey(**(values | changes))


def an_act(action: str, key: ServiceKey) -> Act:
    """Ann's act."""
    return Act(actor="ann", action=action, kind="service-key", target=str(key.id))


def test_a_key_comes_back_as_it_was(keys: ServiceKeys) -> None:
    """With its digest, which the list does not have; nothing else is found."""
    key = a_key()
    keys.add(key, digest_of("one"))
    assert keys.find(key.id) == (key, digest_of("one"))
    assert keys.find(uuid4()) is None
    assert list(keys.keys()) == [key]
    bare = a_key(groups=frozenset(), last_used_at=at(1), revoked_at=at(2))
    keys.add(bare, digest_of("two"))
    assert keys.find(bare.id) == (bare, digest_of("two"))


def test_keys_are_listed_newest_first(keys: ServiceKeys) -> None:
    """Those of one identity, or all; those out of use too."""
    made = [a_key(created_at=at(n), created_by=f"i|{n % 2}", revoked_at=NOON) for n in range(5)]
    for n in (3, 0, 4, 1, 2):
        keys.add(made[n], digest_of(str(n)))
    assert list(keys.keys()) == made[::-1]
    assert list(keys.keys(created_by="i|1")) == [made[3], made[1]]
    assert list(keys.keys(created_by="i|0", limit=2)) == [made[4], made[2]]
    assert list(keys.keys(created_by="i|2")) == []


def test_a_revoked_key_stays_revoked(keys: ServiceKeys) -> None:
    """The first time counts; others are left alone."""
    key, other = a_key(), a_key()
    keys.add(key, digest_of("one"))
    keys.add(other, digest_of("two"))
    revoked = replace(key, revoked_at=at(1))
    assert keys.revoke(key.id, at(1)) == revoked
    assert keys.revoke(key.id, at(2)) == revoked
    assert keys.find(key.id) == (revoked, digest_of("one"))
    assert keys.find(other.id) == (other, digest_of("two"))
    with pytest.raises(NotFound) as e:
        keys.revoke(uuid4(), at(1))
    assert e.value.code == "unknown-service-key"


def test_the_last_use_is_noted_once_a_minute(keys: ServiceKeys) -> None:
    """The first use at once, the next not before a minute has passed; nothing for a key that is not there."""
    key = a_key()
    keys.add(key, digest_of("one"))

    def last_used() -> Any:
        found = keys.find(key.id)
        assert found is not None
        return found[0].last_used_at

    for minutes, noted in [(0, 0), (0.99, 0), (1, 1), (1.5, 1), (0, 1), (9, 9)]:
        keys.used(key.id, at(minutes))
        assert last_used() == at(noted)
    keys.used(uuid4(), at(1))
    assert len(keys.keys()) == 1


def test_an_identity_has_no_more_keys_than_it_may(keys: ServiceKeys) -> None:
    """Only those in use count; others have their own."""
    full = [a_key() for _ in range(MAX_LIVING)]
    keys.add(a_key(revoked_at=NOON), digest_of("revoked"))
    for key in full:
        keys.add(key, digest_of(key.id.hex))
    with pytest.raises(Conflict) as e:
        keys.add(a_key(), digest_of("one more"))
    assert e.value.code == "too-many-service-keys"
    keys.add(a_key(created_by="https://issuer.example|bob"), digest_of("of bob"))
    keys.add(a_key(created_at=at(1440), expires_at=at(1441)), digest_of("when the others have expired"))
    keys.revoke(full[0].id, NOON)
    keys.revoke(full[1].id, NOON)
    keys.add(a_key(), digest_of("in its place"))


def test_two_revoke_one_key_at_once(store: JobStore) -> None:
    """It is revoked, and recorded, once."""
    key = a_key()
    store.service_keys.add(key, digest_of("one"))
    calls = [
        lambda n=n: store.service_keys.revoke(key.id, at(n), act=an_act("service-key.revoke", key))
        for n in range(4)
    ]
    found = {k.revoked_at for k in at_once(*calls) if isinstance(k, ServiceKey)}
    assert len(found) == 1
    assert len(store.audit.entries()) == 1


def test_acts_are_recorded_with_what_they_do(store: JobStore) -> None:
    """Making and revoking, once each; what is refused is not recorded."""
    key = a_key()
    store.service_keys.add(key, digest_of("one"), act=an_act("service-key.create", key))
    store.service_keys.revoke(key.id, NOON, act=an_act("service-key.revoke", key))
    store.service_keys.revoke(key.id, NOON, act=an_act("service-key.revoke", key))
    with pytest.raises(NotFound):
        store.service_keys.revoke(uuid4(), NOON, act=an_act("service-key.revoke", key))
    found = store.audit.entries()
    assert [(e.action, e.target) for e in found] == [
        ("service-key.revoke", str(key.id)),
        ("service-key.create", str(key.id)),
    ]
