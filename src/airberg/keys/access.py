"""Who may use a key.

A key that lists nobody may be used by everybody; else by the owners and by the holders of the roles that it
lists. Whoever may use a key may have columns encrypted with it, and read them.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from airberg.errors import AirbergError, NotAllowed, NotFound
from airberg.keys.names import unusable_key
from airberg.keys.port import Key, KeyStore
from airberg.quoted import quoted


def may_use(key: Key, *, owner: str, roles: AbstractSet[str]) -> bool:
    """Whether somebody may use a key.

    Args:
        owner: The user, as owners of jobs are named; empty for nobody in particular.
        roles: The user's roles and groups.
    """
    return not key.restricted or owner in key.owners or bool(key.roles & roles)


def check_use(key: Key, *, owner: str, roles: AbstractSet[str]) -> None:
    """Refuse a user that may not use a key; the arguments are those of `may_use`.

    Raises:
        NotAllowed: With the code `key-not-allowed`. It does not say who may.
    """
    if not may_use(key, owner=owner, roles=roles):
        raise NotAllowed(
            f"The encryption key {quoted(key.name)} is for its owners and roles only.",
            guidance="Use another key, or have yourself added to those who may use it.",
            code="key-not-allowed",
        )


def state_refusal(keys: KeyStore, name: str) -> AirbergError | None:
    """Why nobody can encrypt with a key of that name; None when nothing is in the way."""
    try:
        key = keys.describe(name)
    except NotFound as e:
        return e
    return None if key.primary is not None else unusable_key(key)


def use_refusal(keys: KeyStore, name: str, *, owner: str, roles: AbstractSet[str]) -> AirbergError | None:
    """Why a user cannot encrypt with a key of that name; None when nothing is in the way.

    Whoever may not use the key is not told its state.
    """
    try:
        key = keys.describe(name)
        check_use(key, owner=owner, roles=roles)
    except (NotFound, NotAllowed) as e:
        return e
    return None if key.primary is not None else unusable_key(key)
