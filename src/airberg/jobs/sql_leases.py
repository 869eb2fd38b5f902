"""Leases in SQL: compare-and-set on one row a job.

Whether a lease has expired is decided by one clock for all who compete. On PostgreSQL they may be on
several hosts, so it is the server's (`clock_timestamp()`: `now()` would stand still while the transaction
waits for the row). SQLite's users share one host, so it is the host's, in UTC.

The row outlives the lease: the token only ever grows, also when a lease is given back in between, so a
holder that comes back from the dead can always be told from the one that took over.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from airberg.jobs.lifecycle import lease_held, lease_lost
from airberg.jobs.model import Lease
from airberg.jobs.tables import UtcDateTime, leases

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def acquire(c: Connection, job_id: UUID, holder: str, seconds: float) -> Lease:
    """Take the lease if it is free, expired, or the holder's own (whose token then stays).

    Raises:
        LeaseHeld: Somebody else holds it.
    """
    insert = postgresql.insert if c.dialect.name == "postgresql" else sqlite.insert
    free = {"job_id": job_id, "holder": None, "token": 0, "expires_at": LONG_AGO}
    c.execute(insert(leases).values(free).on_conflict_do_nothing())
    now = _now(c)
    mine = sa.and_(leases.c.holder == holder, leases.c.expires_at > now)
    gone = sa.or_(leases.c.holder.is_(None), leases.c.expires_at <= now)
    take = (
        leases.update()
        .where(leases.c.job_id == job_id, sa.or_(mine, gone))
        .values(
            holder=holder,
            token=leases.c.token + sa.case((mine, 0), else_=1),
            expires_at=now + timedelta(seconds=seconds),
        )
        .returning(leases.c.token, leases.c.expires_at)
    )
    row = c.execute(take).first()
    if row is None:
        raise lease_held(job_id)
    return Lease(job_id=job_id, holder=holder, token=row.token, expires_at=row.expires_at)


def renew(c: Connection, lease: Lease, seconds: float) -> Lease:
    """Extend the lease; also one that expired, as long as nobody took it. Raises LeaseHeld."""
    expires_at = _now(c) + timedelta(seconds=seconds)
    renewed = leases.update().where(_is(lease)).values(expires_at=expires_at)
    if c.execute(renewed).rowcount == 0:
        raise lease_lost(lease.job_id)
    return Lease(job_id=lease.job_id, holder=lease.holder, token=lease.token, expires_at=expires_at)


def release(c: Connection, lease: Lease) -> None:
    """Give the lease back, if it is still held."""
    c.execute(leases.update().where(_is(lease)).values(holder=None, expires_at=LONG_AGO))


def current(c: Connection, job_id: UUID) -> Lease | None:
    """The lease if somebody holds it now."""
    held = sa.select(leases).where(
        leases.c.job_id == job_id, leases.c.holder.is_not(None), leases.c.expires_at > _now(c)
    )
    row = c.execute(held).first()
    if row is None:
        return None
    return Lease(job_id=job_id, holder=row.holder, token=row.token, expires_at=row.expires_at)


def _is(lease: Lease) -> sa.ColumnElement[bool]:
    return sa.and_(
        leases.c.job_id == lease.job_id, leases.c.token == lease.token, leases.c.holder == lease.holder
    )


def _now(c: Connection) -> datetime:
    if c.dialect.name != "postgresql":
        return datetime.now(UTC)
    return c.execute(sa.select(sa.func.clock_timestamp(type_=UtcDateTime))).scalar_one()
