"""Service keys on SQLite and PostgreSQL, beside the jobs that they are for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, RowMapping

from airberg.identity.service_keys import MAX_LIVING, USED_EVERY, ServiceKey, no_key, too_many
from airberg.jobs.audit import Act, record
from airberg.jobs.engine import Transactions
from airberg.jobs.tables import service_keys

SHOWN = [c for c in service_keys.c if c.name != "digest"]


class SqlServiceKeys:
    """Implements `airberg.identity.service_keys.ServiceKeys`. Each method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._transactions = Transactions(engine)

    def add(self, key: ServiceKey, digest: bytes, *, act: Act | None = None) -> None:
        """See `ServiceKeys.add`. On PostgreSQL, additions at one moment may exceed the bound by one each."""
        living = sa.select(sa.func.count()).where(
            service_keys.c.created_by == key.created_by,
            service_keys.c.revoked_at.is_(None),
            service_keys.c.expires_at > key.created_at,
        )
        with self._transactions.write() as c:
            if c.execute(living).scalar_one() >= MAX_LIVING:
                raise too_many()
            c.execute(service_keys.insert().values(_values(key) | {"digest": digest}))
            record(c, act)

    def find(self, key_id: UUID) -> tuple[ServiceKey, bytes] | None:
        """See `ServiceKeys.find`."""
        with self._transactions.read() as c:
            row = c.execute(sa.select(service_keys).where(service_keys.c.id == key_id)).mappings().first()
        return None if row is None else (_key(row), bytes(row["digest"]))

    def keys(self, *, created_by: str | None = None, limit: int | None = None) -> Sequence[ServiceKey]:
        """See `ServiceKeys.keys`."""
        query = (
            sa.select(*SHOWN)
            .order_by(service_keys.c.created_at.desc(), service_keys.c.id.desc())
            .limit(limit)
        )
        if created_by is not None:
            query = query.where(service_keys.c.created_by == created_by)
        with self._transactions.read() as c:
            return [_key(row) for row in c.execute(query).mappings()]

    def revoke(self, key_id: UUID, at: datetime, *, act: Act | None = None) -> ServiceKey:
        """See `ServiceKeys.revoke`."""
        living = sa.and_(service_keys.c.id == key_id, service_keys.c.revoked_at.is_(None))
        with self._transactions.write() as c:
            if c.execute(service_keys.update().where(living).values(revoked_at=at)).rowcount:
                record(c, act)
            return _found(c, key_id)

    def used(self, key_id: UUID, at: datetime) -> None:
        """See `ServiceKeys.used`."""
        last = service_keys.c.last_used_at
        due = sa.and_(service_keys.c.id == key_id, sa.or_(last.is_(None), last <= at - USED_EVERY))
        with self._transactions.write() as c:
            c.execute(service_keys.update().where(due).values(last_used_at=at))


def _values(key: ServiceKey) -> dict[str, Any]:
    values = {c.name: getattr(key, c.name) for c in SHOWN}
    lists = {name: json.dumps(sorted(values[name])) for name in ("scopes", "groups")}
    return values | lists


def _key(row: RowMapping) -> ServiceKey:
    values = {c.name: row[c.name] for c in SHOWN}
    sets = {n: frozenset(json.loads(values[n])) for n in ("scopes", "groups")}
    return ServiceKey(**(values | sets))


def _found(c: Connection, key_id: UUID) -> ServiceKey:
    row = c.execute(sa.select(*SHOWN).where(service_keys.c.id == key_id)).mappings().first()
    if row is None:
        raise no_key(key_id)
    return _key(row)
