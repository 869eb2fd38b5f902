"""The audit log: who did what to which job, run, table or key of a service, when, and from where.

Entries are only ever added; the database refuses to change one (see the third migration). What people do to
the job store is recorded in the transaction that does it, so that neither is there without the other. The
audit log of encryption keys is one of its own (`airberg.keys`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, RowMapping

from airberg.jobs.encoding import decode_free, encode_free, storable_text
from airberg.jobs.engine import Transactions
from airberg.jobs.tables import audit_log


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Something that somebody does.

    Attributes:
        actor: Who, as `Principal.actor` has it.
        action: What, such as `job.create`.
        kind: What it is done to: job, run, table, service-key.
        target: Its id, or its name.
        request_id: The id of the HTTP request; empty when there is none.
        address: Of the caller, as the service sees it.
        detail: What else is worth knowing, as JSON. Never a secret.
    """

    actor: str
    action: str
    kind: str
    target: str
    request_id: str = ""
    address: str = ""
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry(Act):
    """An act as it was recorded.

    Attributes:
        id: Grows with each entry.
        at: When.
    """

    id: int
    at: datetime


class AuditLog(Protocol):
    """Where acts are recorded. `SqlAuditLog` and `MemoryAuditLog` pass one behaviour suite."""

    def add(self, act: Act) -> None:
        """Record an act that is no change of the job store."""
        ...

    def entries(
        self,
        *,
        target: str | None = None,
        actor: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> Sequence[AuditEntry]:
        """Entries, newest first.

        Args:
            target: Only those about it.
            actor: Only those of it.
            before: Only those with a lower id, for the next page.
            limit: At most so many.
        """
        ...


WIDTHS = {"action": 40, "kind": 20, "request_id": 128, "address": 64}
"""Characters that the columns take: what a caller chose (the id of a request) may be longer."""


def _fit(act: Act) -> dict[str, str]:
    """The texts of an act as every database takes them."""
    names = ("actor", "action", "kind", "target", "request_id", "address")
    texts = {name: storable_text(getattr(act, name)) or "" for name in names}
    return {name: text[: WIDTHS.get(name)] for name, text in texts.items()}


def record(c: Connection, act: Act | None) -> None:
    """Record an act in the transaction that does it; None is nobody's act."""
    if act is not None:
        values = _fit(act) | {"at": datetime.now(UTC), "detail": encode_free(act.detail)}
        c.execute(audit_log.insert().values(values))


class SqlAuditLog:
    """Implements `AuditLog` beside the job store."""

    def __init__(self, engine: Engine) -> None:
        self._transactions = Transactions(engine)

    def add(self, act: Act) -> None:
        """See `AuditLog.add`."""
        with self._transactions.write() as c:
            record(c, act)

    def entries(
        self,
        *,
        target: str | None = None,
        actor: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> Sequence[AuditEntry]:
        """See `AuditLog.entries`."""
        query = sa.select(audit_log).order_by(audit_log.c.id.desc()).limit(limit)
        if target is not None:
            query = query.where(audit_log.c.target == target)
        if actor is not None:
            query = query.where(audit_log.c.actor == actor)
        if before is not None:
            query = query.where(audit_log.c.id < before)
        with self._transactions.read() as c:
            return [_entry(row) for row in c.execute(query).mappings()]


def _entry(row: RowMapping) -> AuditEntry:
    return AuditEntry(**(dict(row) | {"detail": decode_free(row["detail"])}))


class MemoryAuditLog:
    """Implements `AuditLog` in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[AuditEntry] = []

    def add(self, act: Act | None) -> None:
        """See `AuditLog.add`; None is nobody's act."""
        if act is None:
            return
        detail = decode_free(encode_free(act.detail))
        with self._lock:
            number = len(self._entries) + 1
            entry = AuditEntry(**_fit(act), detail=detail, id=number, at=datetime.now(UTC))
            self._entries.append(entry)

    def entries(
        self,
        *,
        target: str | None = None,
        actor: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> Sequence[AuditEntry]:
        """See `AuditLog.entries`."""
        with self._lock:
            found = [
                e
                for e in reversed(self._entries)
                if (target is None or e.target == target)
                and (actor is None or e.actor == actor)
                and (before is None or e.id < before)
            ]
        return found[:limit]
