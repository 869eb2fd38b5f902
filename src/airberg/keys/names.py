"""What every key store agrees on: names, ids, and what its errors say."""

from __future__ import annotations

import re
import secrets

from airberg.errors import Conflict, InvalidRequest, NotFound
from airberg.keys.kek import KEY_BYTES

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def check_key_name(name: str) -> None:
    """Refuse a name that a key cannot have.

    Raises:
        InvalidRequest: It has other characters than a-z, 0-9, `.`, `_`, `-`, or more than 64.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest.one(
            "/name",
            "invalid-key-name",
            "The name is not one that an encryption key can have.",
            "Use 1 to 64 of a-z, 0-9, dot, underscore and hyphen, beginning with a letter or digit.",
        )


def new_key_id() -> int:
    """A random 32-bit key id, never 0."""
    return secrets.randbelow(2**32 - 1) + 1


def new_raw_key() -> bytes:
    """A random data key."""
    return secrets.token_bytes(KEY_BYTES)


def unknown_key(name: str) -> NotFound:
    """The error for a key that is not there, or has no usable version."""
    return NotFound(
        f"There is no encryption key {name!r}.",
        guidance="Create it with `airberg keys create`, or name another one.",
        code="unknown-key",
    )


def key_exists(name: str) -> Conflict:
    """The error for a key that was to be new."""
    return Conflict(
        f"The encryption key {name!r} exists already.",
        guidance="Use it, rotate it, or choose another name.",
        code="key-exists",
    )
