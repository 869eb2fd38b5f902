"""Which service keys are good, and what they stand for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airberg.errors import NotAuthenticated, Unavailable
from airberg.identity.service_keys import (
    PATTERN,
    MemoryServiceKeys,
    ServiceKey,
    ServiceKeyVerifier,
    digest_of,
    key_facts,
    new_key,
)
from airberg.jobs.audit import MemoryAuditLog

NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)


class Clock:
    """A clock that a test moves."""

    now = NOON

    def __call__(self) -> datetime:
        """The time."""
        return self.now


class CountedKeys(MemoryServiceKeys):
    """A store that counts how often it is told of a use: each time is a write to a real one."""

    writes = 0

    def used(self, key_id: UUID, at: datetime) -> None:
        """Count, and note it."""
        self.writes += 1
        super().used(key_id, at)


class BusyKeys(MemoryServiceKeys):
    """A store that reads, and cannot be written to."""

    def used(self, key_id: UUID, at: datetime) -> None:
        """Fail."""
        raise Unavailable(f"The use of {key_id} at {at} cannot be noted.")


def made(
    keys: MemoryServiceKeys,
    *,
    groups: frozenset[str] = frozenset(),
    created_by: str = "https://i.example|ann",
) -> tuple[ServiceKey, str]:
    """A stored key for ten days, and its text."""
    key, text = new_key(
        name="loader",
        scopes=frozenset({"ingest:read"}),
        groups=groups,
        owner_id="ann@example.com",
        created_by=created_by,
        life=timedelta(days=10),
        now=NOON,
    )
    keys.add(key, digest_of(text))
    return key, text


def store() -> MemoryServiceKeys:
    """An empty one."""
    return MemoryServiceKeys(MemoryAuditLog())


def verifier(
    keys: MemoryServiceKeys, clock: Clock | None = None, *, allowed: bool = True
) -> ServiceKeyVerifier:
    """A verifier to which the role `root` is an administrator."""
    return ServiceKeyVerifier(keys, admin_roles=frozenset({"root"}), allowed=allowed, clock=clock or Clock())


def refusal(by: ServiceKeyVerifier, text: str) -> str:
    """The message with which a key is refused; the key is not in it."""
    with pytest.raises(NotAuthenticated) as e:
        by.verify(text)
    assert e.value.challenge is None, "that is a member of the challenge to a token"
    assert len(text) < 10 or text not in e.value.sentence()
    return e.value.message


def test_a_key_has_an_id_and_256_bits() -> None:
    """And is never the same twice."""
    (key, text), (_, other) = made(store()), made(store())
    form = PATTERN.fullmatch(text)
    assert form is not None
    assert UUID(form[1]) == key.id
    assert len(text[37:]) == 43  # 256 bits in base64
    assert text[37:] != other[37:]
    assert key.expires_at == NOON + timedelta(days=10)


def test_it_acts_for_who_made_it() -> None:
    """Identity and owner are the maker's, scopes and groups the key's."""
    keys = store()
    key, text = made(keys, groups=frozenset({"sales"}), created_by="https://i.example|ann|x")
    caller = verifier(keys).verify(text)
    assert (caller.issuer, caller.subject) == ("https://i.example", "ann|x")
    assert caller.key == "https://i.example|ann|x"
    assert (caller.owner_id, caller.scopes, caller.roles) == ("ann@example.com", {"ingest:read"}, {"sales"})
    assert caller.groups == {"sales", "user:ann|x"}
    assert (caller.is_admin, caller.service_key) == (False, key.id)
    assert str(key.id) in caller.actor


def test_an_administrator_is_one_who_asked_for_it() -> None:
    """By the groups of the key alone."""
    keys = store()
    assert verifier(keys).verify(made(keys, groups=frozenset({"root", "a"}))[1]).is_admin
    assert not verifier(keys).verify(made(keys, groups=frozenset({"a"}))[1]).is_admin


def test_it_ends() -> None:
    """At the moment that was said, and when it is revoked."""
    keys, clock = store(), Clock()
    (key, text), by = made(keys), verifier(keys, clock)
    clock.now = key.expires_at - timedelta(microseconds=1)
    assert by.verify(text).service_key == key.id
    clock.now = key.expires_at
    assert refusal(by, text) == "The service key has expired."
    clock.now = NOON
    assert by.verify(text)
    keys.revoke(key.id, NOON)
    assert refusal(by, text) == "The service key was revoked."


def test_all_of_it_counts() -> None:
    """A changed character anywhere, another key's secret, or an id that is not there: no such key."""
    keys = store()
    (_, text), (_, other), by = made(keys), made(keys), verifier(keys)
    unknown = new_key(
        name="x", scopes=set(), groups=set(), owner_id="x", created_by="i|x", life=timedelta(1), now=NOON
    )[1]
    changed = text[:-1] + ("A" if text[-1] != "A" else "B")
    for wrong in (text[:37] + other[37:], other[:37] + text[37:], changed, unknown):
        assert refusal(by, wrong) == "There is no such service key."


def test_a_wrong_secret_is_not_told_what_became_of_the_key() -> None:
    """Whether a key is revoked is for who has it."""
    keys = store()
    key, text = made(keys)
    keys.revoke(key.id, NOON)
    wrong = text[:37] + "A" * 43
    assert refusal(verifier(keys), wrong) == "There is no such service key."


@given(st.text(max_size=120) | st.from_regex(r"abk_[0-9a-f]{30,33}_[A-Za-z0-9_-]{42,44}", fullmatch=True))
def test_anything_else_is_refused(text: str) -> None:
    """Whatever a header holds."""
    keys = store()
    _, good = made(keys)
    by = verifier(keys)
    for wrong in (text, good + text if text else good[:-1], " " + good, good.upper(), good + "\n"):
        with pytest.raises(NotAuthenticated):
            by.verify(wrong)


def test_they_can_be_turned_off() -> None:
    """Then those that were made are no good either."""
    keys = store()
    _, text = made(keys)
    assert "turned off" in refusal(verifier(keys, allowed=False), text)


def test_use_is_noted_and_nobody_waits_for_it() -> None:
    """A store that cannot be written to is no reason to refuse a key."""
    keys, clock = CountedKeys(MemoryAuditLog()), Clock()
    (key, text), by = made(keys), verifier(keys, clock)
    for seconds, noted, writes in [(0, 0, 1), (1, 0, 1), (59, 0, 1), (61, 61, 2)]:
        clock.now = NOON + timedelta(seconds=seconds)
        by.verify(text)
        assert keys.writes == writes
        found = keys.find(key.id)
        assert found is not None
        assert found[0].last_used_at == NOON + timedelta(seconds=noted)
    busy = BusyKeys(MemoryAuditLog())
    assert verifier(busy).verify(made(busy)[1])


def test_what_is_shown() -> None:
    """Everything but the digest; the state is that of the moment."""
    key, text = made(store(), groups=frozenset({"b", "a"}))
    facts = key_facts(key, NOON)
    assert (facts["state"], facts["groups"]) == ("active", ["a", "b"])
    assert facts.keys() == {*ServiceKey.__slots__, "state"}
    assert key_facts(replace(key, revoked_at=NOON), key.expires_at)["state"] == "revoked"
    assert key_facts(key, key.expires_at)["state"] == "expired"
    assert text[37:] not in str(facts)
