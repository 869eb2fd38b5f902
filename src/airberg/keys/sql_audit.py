"""The audit log of the key store: rows that are only ever added."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from sqlalchemy import Connection, select

from airberg.keys.port import AuditEntry
from airberg.keys.tables import key_audit


def add_entry(
    connection: Connection, actor: str, action: str, key: str, versions: Sequence[int] = (), detail: str = ""
) -> None:
    """Add an entry in the transaction of the change that it is about."""
    row = {
        "at": datetime.now(UTC),
        "actor": actor,
        "action": action,
        "key": key,
        "versions": msgspec.json.encode(list(versions)).decode(),
        "detail": detail,
    }
    connection.execute(key_audit.insert().values(row))


def latest_entries(connection: Connection, key: str | None, limit: int) -> Sequence[AuditEntry]:
    """The latest entries, newest first, of one key or of all."""
    query = select(key_audit).order_by(key_audit.c.id.desc()).limit(limit)
    if key is not None:
        query = query.where(key_audit.c.key == key)
    return [
        AuditEntry(
            at=row.at,
            actor=row.actor,
            action=row.action,
            key=row.key,
            versions=tuple(msgspec.json.decode(row.versions, type=list[int])),
            detail=row.detail,
        )
        for row in connection.execute(query)
    ]
