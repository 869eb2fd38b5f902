"""The job store of a deployment."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError, ProgrammingError

from airberg.errors import ConfigurationFailed
from airberg.jobs.engine import engine_of, outages_as_unavailable, parse_url, read_only, sqlite_path
from airberg.jobs.sql import SqlJobStore
from airberg.jobs.tables import HEAD_REVISION
from airberg.keys.configured import open_sealer
from airberg.settings import Settings


def open_engine(settings: Settings) -> Engine:
    """An engine for the database that jobs and data keys live in.

    Raises:
        ConfigurationFailed: The setting `store_url` is wrong.
    """
    return engine_of(settings.database_url)


def open_migrated(settings: Settings) -> Engine:
    """An engine for that database, which must have the tables of this version.

    Raises:
        ConfigurationFailed: Its schema is not the one of this version, or `store_url` is wrong.
        Unavailable: The database does not answer.
    """
    url = parse_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and not sqlite_path(url).exists():
        raise _outdated("is not there yet")
    engine = open_engine(settings)
    try:
        _require_schema(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def open_store(settings: Settings) -> SqlJobStore:
    """The job store.

    Raises:
        ConfigurationFailed: Its schema is not the one of this version, there is no master key where one is
            needed, or a client library of a key service is missing.
        Unavailable: The database does not answer.
    """
    engine = open_migrated(settings)
    try:
        return SqlJobStore(engine, open_sealer(settings, engine))
    except BaseException:
        engine.dispose()
        raise


def _require_schema(engine: Engine) -> None:
    """Compare one row, without loading Alembic, which would cost every run a third of a second."""
    with outages_as_unavailable(), read_only(engine).begin() as connection:
        try:
            found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars().all()
        except (OperationalError, ProgrammingError):
            if sa.inspect(engine).has_table("alembic_version"):
                raise
            raise _outdated("has no tables yet") from None
    if list(found) != [HEAD_REVISION]:
        raise _outdated(f"is at revision {', '.join(found) or 'none'}, this version needs {HEAD_REVISION}")


def _outdated(what: str) -> ConfigurationFailed:
    return ConfigurationFailed(
        f"The job store {what}.", guidance="Run `airberg db upgrade`.", code="schema-out-of-date"
    )
