"""What every key store agrees on: names, ids, and what its errors say."""

from __future__ import annotations

import re
import secrets
from collections.abc import Set as AbstractSet
from typing import TypeVar

from airberg.errors import ConfigurationFailed, Conflict, InvalidRequest, NotFound
from airberg.keys.kek import KEY_BYTES
from airberg.keys.port import Key, KeyVersion
from airberg.quoted import quoted

_Error = TypeVar("_Error", ConfigurationFailed, Conflict)
KEY_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

SYSTEM_KEY = "airberg.system"
"""Reserved for what seals configurations and states; see `airberg.keys.system`."""


def check_key_name(name: str) -> None:
    """Refuse a name that a key cannot have.

    Raises:
        InvalidRequest: It has other characters than a-z, 0-9, `.`, `_`, `-`, or more than 64; or it is the
            reserved one.
    """
    if name == SYSTEM_KEY:
        raise InvalidRequest.one(
            "/name",
            "invalid-key-name",
            "The name is reserved for what Airberg itself seals.",
            "Use another one.",
        )
    if not KEY_NAME.fullmatch(name):
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


def users_text(owners: AbstractSet[str], roles: AbstractSet[str]) -> str:
    """Who may use a key, for people and for the audit log."""
    groups = (("owners", owners), ("roles", roles))
    return "; ".join(f"{word} {', '.join(sorted(users))}" for word, users in groups if users) or "everybody"


def unknown_key(name: str) -> NotFound:
    """The error for a key that was never made."""
    return NotFound(
        f"There is no encryption key {quoted(name)}.",
        guidance="Create it with `airberg keys create`, or name another one.",
        code="unknown-key",
    )


def unknown_version(key: Key, version: int) -> NotFound:
    """The error for a version that was never made."""
    return NotFound(
        f"The encryption key {quoted(key.name)} has no version {version}.",
        guidance=f"It has the versions 1 to {key.versions[-1].version}.",
        code="unknown-key-version",
    )


def key_exists(name: str) -> Conflict:
    """The error for a key that was to be new."""
    return Conflict(
        f"The encryption key {quoted(name)} exists already.",
        guidance="Use it, rotate it, or choose another name.",
        code="key-exists",
    )


def unusable_key(key: Key) -> ConfigurationFailed:
    """The error for a key without a version that does what was asked."""
    return _out_of_use(key, ConfigurationFailed)


def key_out_of_use(key: Key) -> Conflict:
    """The error for a change that a disabled or destroyed key cannot take."""
    return _out_of_use(key, Conflict)


def _out_of_use(key: Key, kind: type[_Error]) -> _Error:
    if key.state == "destroyed":
        return kind(
            f"The encryption key {quoted(key.name)} is destroyed.",
            guidance="What it encrypted cannot be read again. Use another key, and load into a new table.",
            code="key-destroyed",
        )
    return kind(
        f"The encryption key {quoted(key.name)} is disabled.",
        guidance="Enable it with `airberg keys enable`, or use another key.",
        code="key-disabled",
    )


def unusable_version(key: Key, version: KeyVersion) -> ConfigurationFailed:
    """The error for a version that was to decrypt, and does not."""
    return ConfigurationFailed(
        f"Version {version.version} of the encryption key {quoted(key.name)} is {version.state}.",
        guidance="That cannot be undone."
        if version.state == "destroyed"
        else "Enable it with `airberg keys enable`.",
        code="key-destroyed" if version.state == "destroyed" else "key-disabled",
    )


def version_destroyed(key: Key, version: int) -> Conflict:
    """The error for a version that nothing can be done with any more."""
    return Conflict(
        f"Version {version} of the encryption key {quoted(key.name)} is destroyed.",
        guidance="That cannot be undone.",
        code="key-destroyed",
    )


def newest_version(key: Key, version: int) -> Conflict:
    """The error for destroying the version that others would have to take the place of."""
    return Conflict(
        f"Version {version} is the newest one of the encryption key {quoted(key.name)}, and older "
        "ones are there.",
        guidance="Rotate the key first, or destroy all of it.",
        code="key-version-newest",
    )
