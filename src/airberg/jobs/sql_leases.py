"""Leases in SQL: compare-and-set on one row a job, and one more a table where tasks share a job out.

Whether a lease has expired is decided by one clock for all who compete. On PostgreSQL they may be on
several hosts, so it is the server's (`clock_timestamp()`: `now()` would stand still while the transaction
waits for the row). SQLite's users share one host, so it is the host's, in UTC.

The row outlives the lease: the token only ever grows, also when a lease is given back in between, so a
holder that comes back from the dead can always be told from the one that took over.

Whoever takes a lease of a job, or of some of its tables, locks the job's row first: so a holder of the whole
and a holder of a part cannot come in at the same moment without seeing each other.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from airberg.jobs.lifecycle import lease_held, lease_lost
from airberg.jobs.model import Lease
from airberg.jobs.tables import UtcDateTime, leases, table_leases

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def acquire(c: Connection, job_id: UUID, holder: str, seconds: float, tables: Collection[str] = ()) -> Lease:
    """Take the lease if it is free, expired, or the holder's own (whose token then stays).

    Args:
        tables: Only those; empty: the whole job.

    Raises:
        LeaseHeld: Somebody else holds it, or a part of it, or the whole.
    """
    wanted = tuple(sorted(set(tables)))
    _make_free(c, leases, [{"job_id": job_id}])
    _lock(c, job_id)
    now = _now(c)
    if _in_the_way(c, job_id, holder, wanted, now):
        raise lease_held(job_id)
    if wanted:
        _make_free(c, table_leases, [{"job_id": job_id, "table": table} for table in wanted])
    rows, of = (table_leases, _of_tables(job_id, wanted)) if wanted else (leases, leases.c.job_id == job_id)
    known = c.execute(sa.select(rows.c.token, rows.c.holder, rows.c.expires_at).where(of)).all()
    mine = all(row.holder == holder and row.expires_at > now for row in known)
    token = max(row.token for row in known) + (0 if mine else 1)
    expires_at = now + timedelta(seconds=seconds)
    c.execute(rows.update().where(of).values(holder=holder, token=token, expires_at=expires_at))
    return Lease(job_id=job_id, holder=holder, token=token, expires_at=expires_at, tables=wanted)


def renew(c: Connection, lease: Lease, seconds: float) -> Lease:
    """Extend the lease; also one that expired, as long as nobody took it. Raises LeaseHeld."""
    _lock(c, lease.job_id)
    now = _now(c)
    if _in_the_way(c, lease.job_id, lease.holder, lease.tables, now):
        raise lease_lost(lease.job_id)
    expires_at = now + timedelta(seconds=seconds)
    rows = _rows(lease)
    renewed = c.execute(rows.update().where(_is(lease)).values(expires_at=expires_at)).rowcount
    if renewed != max(len(lease.tables), 1):
        raise lease_lost(lease.job_id)
    return Lease(
        job_id=lease.job_id,
        holder=lease.holder,
        token=lease.token,
        expires_at=expires_at,
        tables=lease.tables,
    )


def release(c: Connection, lease: Lease) -> None:
    """Give the lease back, if it is still held."""
    c.execute(_rows(lease).update().where(_is(lease)).values(holder=None, expires_at=LONG_AGO))


def current(c: Connection, job_id: UUID, tables: Collection[str] = ()) -> Lease | None:
    """The lease that somebody holds now, of the whole job or of any of these tables; of no tables: of any."""
    wanted = set(tables)
    held = _held(c, job_id, _now(c))
    return next((one for one in held if not wanted or not one.tables or wanted & set(one.tables)), None)


def _held(c: Connection, job_id: UUID, now: datetime) -> list[Lease]:
    """All leases of a job that are held: that of the whole first, then by their tables."""
    alive: dict[tuple[str, int], tuple[datetime, list[str]]] = {}
    whole: list[Lease] = []
    for rows in (leases, table_leases):
        query = sa.select(rows).where(
            rows.c.job_id == job_id, rows.c.holder.is_not(None), rows.c.expires_at > now
        )
        for row in c.execute(query):
            if rows is leases:
                whole.append(
                    Lease(job_id=job_id, holder=row.holder, token=row.token, expires_at=row.expires_at)
                )
            else:
                alive.setdefault((row.holder, row.token), (row.expires_at, []))[1].append(row.table)
    parts = [
        Lease(job_id=job_id, holder=holder, token=token, expires_at=at, tables=tuple(sorted(names)))
        for (holder, token), (at, names) in alive.items()
    ]
    return whole + sorted(parts, key=lambda part: part.tables)


def _in_the_way(c: Connection, job_id: UUID, holder: str, tables: Collection[str], now: datetime) -> bool:
    """Whether somebody else holds any of it."""
    wanted = set(tables)
    return any(
        one.holder != holder and (not wanted or not one.tables or not wanted.isdisjoint(one.tables))
        for one in _held(c, job_id, now)
    )


def _lock(c: Connection, job_id: UUID) -> None:
    c.execute(sa.select(leases.c.job_id).where(leases.c.job_id == job_id).with_for_update())


def _make_free(c: Connection, rows: sa.Table, keys: list[dict[str, Any]]) -> None:
    """Have rows that nobody holds, where there are none."""
    insert = postgresql.insert if c.dialect.name == "postgresql" else sqlite.insert
    free = [key | {"holder": None, "token": 0, "expires_at": LONG_AGO} for key in keys]
    c.execute(insert(rows).on_conflict_do_nothing(), free)


def _rows(lease: Lease) -> sa.Table:
    return table_leases if lease.tables else leases


def _of_tables(job_id: UUID, tables: Collection[str]) -> sa.ColumnElement[bool]:
    return sa.and_(table_leases.c.job_id == job_id, table_leases.c.table.in_(tables))


def _is(lease: Lease) -> sa.ColumnElement[bool]:
    rows = _rows(lease)
    which = _of_tables(lease.job_id, lease.tables) if lease.tables else rows.c.job_id == lease.job_id
    return sa.and_(which, rows.c.token == lease.token, rows.c.holder == lease.holder)


def _now(c: Connection) -> datetime:
    if c.dialect.name != "postgresql":
        return datetime.now(UTC)
    return c.execute(sa.select(sa.func.clock_timestamp(type_=UtcDateTime))).scalar_one()
