"""Keys as rows: reading them, locking one to change it, and writing what has changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from airberg.keys.names import unknown_key
from airberg.keys.port import Key, KeyVersion
from airberg.keys.tables import data_keys, named_keys

_DESCRIBED = [c for c in data_keys.c if c.name != "wrapped"]


def locked_key(connection: Connection, name: str) -> Key:
    """A key that nobody else changes before this transaction ends. Raises NotFound.

    PostgreSQL locks the key's row; on SQLite a transaction that writes is alone from its beginning
    (`airberg.jobs.engine`).
    """
    head = connection.execute(select(named_keys).where(named_keys.c.name == name).with_for_update()).first()
    if head is None:
        raise unknown_key(name)
    return _key(head, connection.execute(_versions().where(data_keys.c.name == name)).all())


def one_key(connection: Connection, name: str) -> Key:
    """A key as it is. Raises NotFound."""
    head = connection.execute(select(named_keys).where(named_keys.c.name == name)).first()
    if head is None:
        raise unknown_key(name)
    return _key(head, connection.execute(_versions().where(data_keys.c.name == name)).all())


def all_keys(connection: Connection) -> list[Key]:
    """All keys, sorted by name."""
    heads = connection.execute(select(named_keys)).all()
    rows = connection.execute(_versions()).all()
    versions = {name: list(group) for name, group in groupby(rows, key=lambda row: row.name)}
    return sorted((_key(h, versions.get(h.name, ())) for h in heads), key=lambda key: key.name)


def add_key(connection: Connection, name: str, owners: AbstractSet[str], roles: AbstractSet[str]) -> None:
    """Add a key without versions. The database refuses a name that is there."""
    row = {"name": name, "created_at": datetime.now(UTC)} | _users(owners, roles)
    connection.execute(named_keys.insert().values(row))


def set_users(connection: Connection, name: str, owners: AbstractSet[str], roles: AbstractSet[str]) -> None:
    """Replace who may use a key."""
    connection.execute(named_keys.update().where(named_keys.c.name == name).values(_users(owners, roles)))


def add_version(connection: Connection, name: str, version: KeyVersion, wrapped: bytes) -> None:
    """Add a version of a key."""
    row = {
        "name": name,
        "version": version.version,
        "key_id": version.key_id,
        "state": version.state,
        "kek": version.kek,
        "wrapped": wrapped,
        "created_at": version.created_at,
    }
    connection.execute(data_keys.insert().values(row))


def set_states(connection: Connection, name: str, versions: Iterable[KeyVersion]) -> None:
    """Note the states of versions. Those of destroyed ones lose their bytes."""
    for v in versions:
        values: dict[str, Any] = {"state": v.state}
        if v.state == "destroyed":
            values["wrapped"] = b""
        here = (data_keys.c.name == name) & (data_keys.c.version == v.version)
        connection.execute(data_keys.update().where(here).values(values))


def wrapping_context(name: str, version: int, key_id: int) -> dict[str, str]:
    """What a wrapped key is bound to: exchanging the wrapped bytes of two rows is detected."""
    return {"name": name, "version": str(version), "id": str(key_id)}


def _versions() -> Any:  # noqa: ANN401 - a select of many columns
    return select(*_DESCRIBED).order_by(data_keys.c.name, data_keys.c.version)


def _key(head: Row[Any], rows: Sequence[Row[Any]]) -> Key:
    versions = (KeyVersion(r.version, r.key_id, r.state, r.kek, r.created_at) for r in rows)
    return Key(head.name, _names(head.owners), _names(head.roles), tuple(versions))


def _users(owners: AbstractSet[str], roles: AbstractSet[str]) -> dict[str, str]:
    return {
        "owners": msgspec.json.encode(sorted(owners)).decode(),
        "roles": msgspec.json.encode(sorted(roles)).decode(),
    }


def _names(text: str) -> frozenset[str]:
    return frozenset(msgspec.json.decode(text, type=list[str]))
