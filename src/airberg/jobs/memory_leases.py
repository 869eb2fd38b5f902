"""Leases in memory, the twin of `airberg.jobs.sql_leases`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from airberg.jobs.lifecycle import lease_held, lease_lost
from airberg.jobs.model import Lease


class MemoryLeases:
    """Leases of all jobs. Whoever calls holds the store's lock."""

    def __init__(self) -> None:
        self._newest: dict[tuple[UUID, str], Lease] = {}
        """By job and table ("": the whole job) the newest lease, held or not: its token is the last one."""
        self._held: set[tuple[UUID, str]] = set()

    def acquire(self, job_id: UUID, holder: str, seconds: float, tables: Collection[str]) -> Lease:
        """Take a lease. Raises LeaseHeld."""
        wanted = tuple(sorted(set(tables)))
        if self._in_the_way(job_id, holder, wanted):
            raise lease_held(job_id)
        rows = [(job_id, table) for table in wanted or ("",)]
        mine = all(self._alive(row) for row in rows)  # nobody else's is in the way
        token = max((self._newest[row].token for row in rows if row in self._newest), default=0)
        lease = Lease(
            job_id=job_id,
            holder=holder,
            token=token if mine else token + 1,
            expires_at=_in(seconds),
            tables=wanted,
        )
        return self._hold(lease)

    def renew(self, lease: Lease, seconds: float) -> Lease:
        """Extend a lease. Raises LeaseHeld."""
        if not self._still(lease) or self._in_the_way(lease.job_id, lease.holder, lease.tables):
            raise lease_lost(lease.job_id)
        return self._hold(replace(lease, expires_at=_in(seconds)))

    def release(self, lease: Lease) -> None:
        """Give a lease back, as far as it is still held."""
        self._held -= {row for row in _rows(lease) if self._is(row, lease)}

    def current(self, job_id: UUID, tables: Collection[str]) -> Lease | None:
        """One that is held and covers any of the tables."""
        found = (one for one in self._of_job(job_id) if _overlap(one.tables, tables))
        return min(found, key=lambda one: one.tables, default=None)

    def _hold(self, lease: Lease) -> Lease:
        rows = _rows(lease)
        self._newest |= dict.fromkeys(rows, lease)
        self._held |= set(rows)
        return lease

    def _in_the_way(self, job_id: UUID, holder: str, tables: Collection[str]) -> bool:
        return any(one.holder != holder and _overlap(one.tables, tables) for one in self._of_job(job_id))

    def _of_job(self, job_id: UUID) -> list[Lease]:
        return [self._newest[row] for row in self._held if row[0] == job_id and self._alive(row)]

    def _alive(self, row: tuple[UUID, str]) -> bool:
        return row in self._held and self._newest[row].expires_at > datetime.now(UTC)

    def _still(self, lease: Lease) -> bool:
        return all(self._is(row, lease) for row in _rows(lease))

    def _is(self, row: tuple[UUID, str], lease: Lease) -> bool:
        known = self._newest.get(row)
        return row in self._held and known is not None and _same(known, lease)


def _same(one: Lease, other: Lease) -> bool:
    return (one.token, one.holder) == (other.token, other.holder)


def _rows(lease: Lease) -> list[tuple[UUID, str]]:
    return [(lease.job_id, table) for table in lease.tables or ("",)]


def _overlap(one: Collection[str], other: Collection[str]) -> bool:
    """Whether two leases are of the same table; no tables are all."""
    return not one or not other or not set(one).isdisjoint(other)


def _in(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)
