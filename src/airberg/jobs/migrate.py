"""Bringing the schema of the job store up to date, from inside the package (no `alembic.ini`)."""

from __future__ import annotations

import fcntl
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import URL, Connection, Engine

from airberg.jobs.engine import engine_of, outages_as_unavailable, parse_url, read_only, sqlite_path

MIGRATIONS = Path(__file__).parent / "migrations"

LOCK_NUMBER = 4_135_190_673_212_331_801
"""Names our advisory lock in PostgreSQL; any number that nobody else uses."""


def upgrade(database_url: str) -> None:
    """Apply all migrations that are missing, as one transaction. Safe when several processes do it at once.

    Raises:
        ConfigurationFailed: The URL is wrong.
        Unavailable: The database does not answer.
    """
    url = parse_url(database_url)
    with _file_lock(url), _engine(database_url) as engine, engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK_NUMBER)))
        command.upgrade(_config(connection), "head")


def pending(database_url: str) -> bool:
    """Whether `upgrade` has something to do. Creates nothing.

    Raises:
        ConfigurationFailed: The URL is wrong.
        Unavailable: The database does not answer.
    """
    url = parse_url(database_url)
    if url.get_backend_name() == "sqlite" and not sqlite_path(url).exists():
        return True
    with _engine(database_url) as engine, read_only(engine).begin() as connection:
        current = MigrationContext.configure(connection).get_current_heads()
    return set(current) != set(ScriptDirectory.from_config(_config()).get_heads())


def upgrade_sql(database_url: str) -> str:
    """The statements that make the schema from nothing, for people who may not let programs change theirs.

    Raises:
        ConfigurationFailed: The URL is wrong.
    """
    text = io.StringIO()
    config = _config(output=text)
    config.attributes["dialect"] = parse_url(database_url).get_backend_name()
    command.upgrade(config, "head", sql=True)
    return text.getvalue()


@contextmanager
def _engine(database_url: str) -> Iterator[Engine]:
    engine = engine_of(database_url)
    try:
        with outages_as_unavailable():
            yield engine
    finally:
        engine.dispose()


def _config(connection: Connection | None = None, output: io.StringIO | None = None) -> Config:
    # Alembic reads a `%` in an option as the start of an interpolation.
    config = Config(stdout=io.StringIO(), output_buffer=output)
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _file_lock(url: URL) -> Iterator[None]:
    """One migration of an SQLite file at a time: also the switch to WAL must not meet another one."""
    if url.get_backend_name() != "sqlite":
        yield
        return
    path = sqlite_path(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path.with_name(path.name + ".migrate.lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
