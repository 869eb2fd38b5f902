"""Who may use a key, and what somebody who may not is told."""

from __future__ import annotations

import pytest

from airberg.errors import NotAllowed
from airberg.keys.access import check_use, may_use, state_refusal, use_refusal
from airberg.keys.memory import MemoryKeyStore
from airberg.quoted import quoted

NOBODY: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("owners", "roles", "user", "users_roles", "allowed"),
    [
        ((), (), "ann", (), True),
        ((), (), "", (), True),
        (("ann",), (), "ann", (), True),
        (("ann",), (), "Ann", (), False),
        (("ann",), (), "bob", (), False),
        (("ann",), (), "", (), False),
        (("ann",), (), "bob", ("ann",), False),
        ((), ("crm",), "ann", (), False),
        ((), ("crm",), "crm", (), False),
        ((), ("crm",), "ann", ("crm", "x"), True),
        (("ann",), ("crm",), "bob", ("crm",), True),
        (("ann",), ("crm",), "ann", (), True),
        (("ann",), ("crm",), "bob", ("legal",), False),
    ],
)
def test_who_may_use_a_key(
    owners: tuple[str, ...], roles: tuple[str, ...], user: str, users_roles: tuple[str, ...], *, allowed: bool
) -> None:
    """Nobody listed is everybody; else the owners by name, and whoever has one of the roles."""
    store = MemoryKeyStore()
    store.create("a", owners=set(owners), roles=set(roles))
    key = store.describe("a")
    assert may_use(key, owner=user, roles=frozenset(users_roles)) is allowed
    assert (use_refusal(store, "a", owner=user, roles=frozenset(users_roles)) is None) is allowed
    assert state_refusal(store, "a") is None
    if not allowed:
        with pytest.raises(NotAllowed) as e:
            check_use(key, owner=user, roles=frozenset(users_roles))
        assert e.value.code == "key-not-allowed"
        assert not [name for name in (*owners, *roles) if name in e.value.sentence().split()]


def test_refusals_say_what_is_in_the_way() -> None:
    """A key that is not there, out of use, or destroyed: the code and the sentence say which."""
    store = MemoryKeyStore()
    for name in ("off", "gone", "half"):
        store.create(name)
    store.rotate("half", actor="ann")
    store.disable("half", actor="ann", version=2)
    store.disable("off", actor="ann")
    store.destroy("gone", actor="ann")
    codes = {"nope": "unknown-key", "off": "key-disabled", "gone": "key-destroyed", "half": "key-disabled"}
    for name, code in codes.items():
        for refusal in (state_refusal(store, name), use_refusal(store, name, owner="ann", roles=NOBODY)):
            assert refusal is not None
            assert (refusal.code, quoted(name) in refusal.message) == (code, True)
            assert refusal.guidance


def test_strangers_are_not_told_the_state() -> None:
    """Whoever may not use a key learns that, and nothing else of it."""
    store = MemoryKeyStore()
    store.create("a", owners={"ann"})
    before = use_refusal(store, "a", owner="bob", roles=NOBODY)
    store.destroy("a", actor="ann")
    after = use_refusal(store, "a", owner="bob", roles=NOBODY)
    assert before is not None
    assert after is not None
    assert (before.code, before.sentence()) == (after.code, after.sentence())
