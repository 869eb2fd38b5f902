"""Engines for SQLite and PostgreSQL, set up so that several processes can share a store.

SQLite: WAL, so that readers and the one writer do not block each other; and every transaction that may
write begins with `BEGIN IMMEDIATE`. A deferred transaction that reads and then writes has to upgrade its
lock, which fails at once with "database is locked" when another one wrote in between, whatever the busy
timeout (https://www.sqlite.org/isolation.html). Read-only transactions say so with `read_only`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, TimeoutError
from sqlalchemy.pool import ConnectionPoolEntry

from airberg.errors import ConfigurationFailed, Unavailable

BUSY_TIMEOUT_S = 20.0
CONNECT_TIMEOUT_S = 5
POOL_TIMEOUT_S = 10.0
READ_ONLY = "airberg_read_only"


def engine_of(database_url: str) -> Engine:
    """An engine for `sqlite:///...` or `postgresql://...` (driver psycopg 3).

    Raises:
        ConfigurationFailed: The URL is not one, or names a database that is not supported.
    """
    url = parse_url(database_url)
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url)
    return _postgresql_engine(url)


def parse_url(database_url: str) -> URL:
    """The URL, with psycopg as PostgreSQL's driver. Its text is never shown: it may hold a password.

    Raises:
        ConfigurationFailed: It is not the URL of a database that is supported.
    """
    try:
        url = sa.make_url(database_url)
    except (ArgumentError, ValueError):
        raise _bad_url("is not a database URL") from None
    backend = url.get_backend_name()
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise _bad_url(f"names the database {backend!r}, which is not supported")
    if url.database in (None, "", ":memory:"):
        raise _bad_url("names no file")
    return url


def _bad_url(what: str) -> ConfigurationFailed:
    return ConfigurationFailed(
        f"The setting AIRBERG_STORE_URL {what}.",
        guidance="Use sqlite:////absolute/path.db or postgresql://user:password@host/database.",
        code="bad-store-url",
    )


def sqlite_path(url: URL) -> Path:
    """The file of an SQLite URL."""
    return Path(url.database or "").absolute()


def _sqlite_engine(url: URL) -> Engine:
    timeout = {} if "timeout" in url.query else {"timeout": BUSY_TIMEOUT_S}
    engine = sa.create_engine(
        url,
        connect_args={"isolation_level": None} | timeout,
        pool_size=5,
        max_overflow=35,
        pool_timeout=POOL_TIMEOUT_S,
        hide_parameters=True,
    )

    @event.listens_for(engine, "do_connect")
    def make_private(*_: object) -> None:
        """Create the file for its owner alone; SQLite gives its WAL the same mode.

        Only when it is not there: closing a descriptor of a file drops all POSIX locks that this process
        has on it, and SQLite's would be among them (sqlite.org/howtocorrupt.html, section 2.2).
        """
        path = sqlite_path(url)
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        try:
            cursor.execute("PRAGMA foreign_keys = ON")
            cursor.execute("PRAGMA journal_mode = WAL")
            # What is deleted is zeroed: wrapped keys, configurations of deleted jobs.
            cursor.execute("PRAGMA secure_delete = ON")
        finally:
            cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get(READ_ONLY, False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _postgresql_engine(url: URL) -> Engine:
    try:
        return sa.create_engine(
            url,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "airberg"},
            pool_size=5,
            max_overflow=15,
            pool_timeout=POOL_TIMEOUT_S,
            pool_pre_ping=True,  # a restarted server must not cost each pooled connection one failure
            hide_parameters=True,
        )
    except ModuleNotFoundError:
        raise ConfigurationFailed(
            "The job store is on PostgreSQL, and its driver is not installed.",
            guidance="Install airberg[postgresql].",
            code="driver-missing",
        ) from None


def forget_log(engine: Engine) -> bool:
    """Empty SQLite's write-ahead log, which still holds what was overwritten in the database.

    PostgreSQL's is beyond our reach.

    Returns:
        False when other connections are in the way; the log is then emptied by and by.
    """
    if engine.dialect.name != "sqlite":
        return True
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        try:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            row = cursor.fetchone()
        finally:
            cursor.close()
        return row is not None and row[0] == 0
    finally:
        connection.close()


def read_only(engine: Engine) -> Engine:
    """The same engine for transactions that do not write; shares the pool."""
    return engine.execution_options(**{READ_ONLY: True})


@contextmanager
def outages_as_unavailable() -> Iterator[None]:
    """Turn a database that does not answer into `Unavailable`, which callers may retry.

    The cause is not chained: a driver's message may name hosts and users.
    """
    try:
        yield
    except (OperationalError, InterfaceError, TimeoutError) as e:
        raise store_unavailable(e) from None
    except DBAPIError as e:
        if e.connection_invalidated:
            raise store_unavailable(e) from None
        raise


class _Turns:
    """Lets the writers of one process take turns at an SQLite database.

    SQLite's own way to wait is to sleep and try again, a tenth of a second at a time in the end: with fifty
    writers most are asleep when the database is free, and some for seconds. A thread that waits for a lock is
    woken, and holds no connection meanwhile. Other processes still have to be waited for by sleeping.
    """

    def __init__(self) -> None:
        self._locks: dict[Path, threading.Lock] = {}

    def of(self, engine: Engine) -> threading.Lock | None:
        """The lock of a database, whichever engine it is reached by; None where the server sees to it."""
        if engine.dialect.name != "sqlite":
            return None
        return self._locks.setdefault(sqlite_path(engine.url), threading.Lock())


_TURNS = _Turns()


class Transactions:
    """Transactions of a store in a database; one that does not answer is `Unavailable`.

    Args:
        engine: Of the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reader = read_only(engine)
        self._turn = _TURNS.of(engine)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One that may change something; on SQLite it holds the write lock from its beginning.

        Raises:
            Unavailable: The database does not answer, or other writers take too long.
        """
        with self._in_turn(), outages_as_unavailable(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        if self._turn is None:
            yield
            return
        if not self._turn.acquire(timeout=BUSY_TIMEOUT_S):
            raise store_unavailable(TimeoutError())
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One that changes nothing."""
        with outages_as_unavailable(), self._reader.begin() as connection:
            yield connection


def store_unavailable(error: Exception) -> Unavailable:
    """The database does not answer (or, for SQLite, stays locked by another process)."""
    cause = getattr(error, "orig", None) or error
    name = getattr(cause, "sqlite_errorname", None) if isinstance(cause, sqlite3.Error) else None
    return Unavailable(
        f"The job store does not answer ({name or type(cause).__name__}).",
        guidance="Try again in a few seconds.",
        retry_after=5,
        code="store-unavailable",
    )
