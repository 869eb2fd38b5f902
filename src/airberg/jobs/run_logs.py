"""The logs of runs, line by line: port, adapter for SQLite and PostgreSQL, twin in memory.

Lines of a run are numbered from 1 in the order in which they can be read: who reads on from the number of the
last line that it has, misses none, although several attempts may write at once (one that was killed may live
a moment longer).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from airberg.jobs.encoding import storable_text
from airberg.jobs.engine import Transactions
from airberg.jobs.lifecycle import no_run
from airberg.jobs.tables import run_logs, runs

PRUNED_AT_ONCE = 5_000
"""Lines that are removed in one transaction: on SQLite nobody else can write meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line of a log. Its message may have several lines of text.

    Attributes:
        level: As Python's `logging` has it.
        logger: Name of the logger.
        attempt: The attempt of the run that wrote it.
    """

    at: datetime
    level: int
    logger: str
    message: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLine(LogLine):
    """A line with its number in the log of its run."""

    seq: int


def text_of(line: LogLine) -> str:
    """The line as the log of the task shows it, but for its time, which is UTC."""
    at = line.at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
    return f"{at}Z {logging.getLevelName(line.level):<7} {line.logger}: {line.message}"


class RunLogs(Protocol):
    """Keeps the logs of runs. `SqlRunLogs` and `MemoryRunLogs` pass the same behaviour suite."""

    def append(self, run_id: UUID, lines: Sequence[LogLine]) -> None:
        """Add lines to the log of a run.

        Raises:
            NotFound: There is no such run.
            Unavailable: The store does not answer.
        """
        ...

    def read(
        self,
        run_id: UUID,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int = 500,
        min_level: int = 0,
        newest: bool = False,
    ) -> Sequence[StoredLine]:
        """Lines of a run in their order; none where there is no such run.

        Args:
            after: Only lines with higher numbers.
            before: Only lines with lower numbers.
            limit: So many at most.
            min_level: Only lines of this level or above.
            newest: Where there are more than `limit`, the last of them instead of the first.

        Raises:
            Unavailable: The store does not answer.
        """
        ...

    def prune(self, older_than: datetime) -> int:
        """Remove older lines; their number. Numbers of lines that stay do not change.

        Raises:
            Unavailable: The store does not answer.
        """
        ...


class SqlRunLogs:
    """Implements `RunLogs`; the schema must be there.

    Args:
        engine: Of the job store's database.
    """

    def __init__(self, engine: Engine) -> None:
        self._transactions = Transactions(engine)

    def append(self, run_id: UUID, lines: Sequence[LogLine]) -> None:
        """See `RunLogs.append`. Whoever writes for the same run at the same time waits."""
        if not lines:
            return
        # NO KEY: the foreign keys of other transactions' new lines do not wait for it.
        its_row = sa.select(runs.c.id).where(runs.c.id == run_id).with_for_update(key_share=True)
        last = sa.select(sa.func.coalesce(sa.func.max(run_logs.c.seq), 0)).where(run_logs.c.run_id == run_id)
        with self._transactions.write() as c:
            if c.execute(its_row).first() is None:
                raise no_run(run_id)
            first = int(c.execute(last).scalar_one()) + 1
            c.execute(run_logs.insert(), [_row(run_id, n, line) for n, line in enumerate(lines, first)])

    def read(
        self,
        run_id: UUID,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int = 500,
        min_level: int = 0,
        newest: bool = False,
    ) -> Sequence[StoredLine]:
        """See `RunLogs.read`."""
        order = run_logs.c.seq.desc() if newest else run_logs.c.seq
        found = sa.select(run_logs).where(run_logs.c.run_id == run_id, run_logs.c.seq > after)
        if before is not None:
            found = found.where(run_logs.c.seq < before)
        if min_level:
            found = found.where(run_logs.c.level >= min_level)
        with self._transactions.read() as c:
            rows = c.execute(found.order_by(order).limit(limit)).all()
        return [_line(row) for row in (reversed(rows) if newest else rows)]

    def prune(self, older_than: datetime) -> int:
        """See `RunLogs.prune`; some at a time, so that others can write in between."""
        key = sa.tuple_(run_logs.c.run_id, run_logs.c.seq)
        old = sa.select(run_logs.c.run_id, run_logs.c.seq).where(run_logs.c.at < older_than)
        some = sa.delete(run_logs).where(key.in_(old.limit(PRUNED_AT_ONCE)))
        total = 0
        while True:
            with self._transactions.write() as c:
                removed = c.execute(some).rowcount
            total += removed
            if removed < PRUNED_AT_ONCE:
                return total


def _row(run_id: UUID, seq: int, line: LogLine) -> dict[str, object]:
    return {
        "run_id": run_id,
        "seq": seq,
        "attempt": line.attempt,
        "at": line.at,
        "level": line.level,
        "logger": storable_text(line.logger),
        "message": storable_text(line.message),
    }


def _line(row: sa.Row[tuple[object, ...]]) -> StoredLine:
    return StoredLine(
        seq=row.seq,
        at=row.at,
        level=row.level,
        logger=row.logger,
        message=row.message,
        attempt=row.attempt,
    )


class MemoryRunLogs:
    """Implements `RunLogs`, and is gone with the process.

    Args:
        knows: Whether there is a run; default: there are all.
    """

    def __init__(self, knows: Callable[[UUID], bool] = lambda _: True) -> None:
        self._lock = threading.Lock()
        self._lines: dict[UUID, list[StoredLine]] = {}
        self._knows = knows

    def append(self, run_id: UUID, lines: Sequence[LogLine]) -> None:
        """See `RunLogs.append`."""
        if not lines:
            return
        if not self._knows(run_id):
            raise no_run(run_id)
        with self._lock:
            kept = self._lines.setdefault(run_id, [])
            kept += _numbered(lines, kept[-1].seq + 1 if kept else 1)

    def read(
        self,
        run_id: UUID,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int = 500,
        min_level: int = 0,
        newest: bool = False,
    ) -> Sequence[StoredLine]:
        """See `RunLogs.read`."""
        with self._lock:
            found = [
                line
                for line in self._lines.get(run_id, ())
                if line.seq > after and (before is None or line.seq < before) and line.level >= min_level
            ]
        return found[max(len(found) - limit, 0) :] if newest else found[:limit]

    def prune(self, older_than: datetime) -> int:
        """See `RunLogs.prune`."""
        with self._lock:
            before = sum(map(len, self._lines.values()))
            self._lines = {
                run: [line for line in lines if line.at >= older_than] for run, lines in self._lines.items()
            }
            return before - sum(map(len, self._lines.values()))


def _numbered(lines: Sequence[LogLine], first: int) -> Iterator[StoredLine]:
    for seq, line in enumerate(lines, first):
        yield StoredLine(
            seq=seq,
            at=line.at.astimezone(UTC),
            level=line.level,
            logger=storable_text(line.logger) or "",
            message=storable_text(line.message) or "",
            attempt=line.attempt,
        )
