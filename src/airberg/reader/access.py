"""Who reads, and which keys that opens: permissions of the keys, and the audit entry of each reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airberg.errors import NotAllowed
from airberg.identity.operating_system import operator
from airberg.identity.verifier import build_verifier
from airberg.keys.access import check_use, may_use
from airberg.keys.port import DataKey, Key, KeyStore
from airberg.reader.columns import EncryptedColumn
from airberg.settings import Settings


@dataclass(frozen=True, slots=True)
class ReaderIdentity:
    """Who reads.

    Attributes:
        actor: For the audit log.
        owner: As owners of jobs are named; empty when nobody has shown who they are.
        roles: Roles and groups.
    """

    actor: str
    owner: str = ""
    roles: frozenset[str] = frozenset()


def identify(settings: Settings, token: str | None) -> ReaderIdentity:
    """Who reads, by an access token of this deployment's issuer.

    Args:
        settings: Of the deployment.
        token: The access token; that of the settings when None.

    Raises:
        NotAuthenticated: The token does not hold.
        ConfigurationFailed: The settings of the issuer are wrong.
        Unavailable: The issuer's keys are needed and cannot be fetched.
    """
    if token is None and settings.token is not None:
        token = settings.token.get_secret_value()
    if not token:
        return ReaderIdentity(operator())
    caller = build_verifier(settings).verify(token)
    return ReaderIdentity(caller.actor, caller.owner_id, caller.roles)


@dataclass(frozen=True, slots=True)
class OpenedKey:
    """A key that may be used: what may be told of it, and the versions that decrypt."""

    key: Key
    versions: tuple[DataKey, ...]


def open_reader_keys(
    keys: KeyStore, reader: ReaderIdentity, columns: Sequence[EncryptedColumn], table: str
) -> dict[str, OpenedKey]:
    """The keys of some columns, by their names, and an audit entry for each.

    Nothing is opened before all of them may be used.

    Raises:
        NotFound: There is no such key any more.
        NotAllowed: A key is not for this reader.
        ConfigurationFailed: A key is disabled or destroyed, or cannot be unwrapped.
    """
    names = dict.fromkeys(column.encryption.key for column in columns)
    found = {name: keys.describe(name) for name in names}
    for key in found.values():
        check_reader(key, reader)
    opened = {name: OpenedKey(key, tuple(keys.versions(name))) for name, key in found.items()}
    for name, usable in opened.items():
        read = ", ".join(column.name for column in columns if column.encryption.key == name)
        numbers = [version.version for version in usable.versions]
        keys.record(reader.actor, "decrypt", name, numbers, f"{table}: {read}")
    return opened


def check_reader(key: Key, reader: ReaderIdentity) -> None:
    """Refuse a reader that may not use a key. Raises NotAllowed."""
    if reader.owner or may_use(key, owner="", roles=frozenset()):
        check_use(key, owner=reader.owner, roles=reader.roles)
        return
    raise NotAllowed(
        f"The encryption key {key.name!r} is for its owners and roles only, and no access token says who "
        "reads.",
        guidance="Give a token of your issuer (in development that of `airberg token`) in AIRBERG_TOKEN, or "
        "as the argument `token`.",
        code="key-not-allowed",
    )
