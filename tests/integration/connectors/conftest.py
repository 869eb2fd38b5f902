"""Databases and connectors to read from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.postgres_lite import Connector, executable, reader_of
from support.postgresql import Server


@pytest.fixture(scope="session")
def postgres_lite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example connector as a program."""
    return executable(tmp_path_factory.mktemp("postgres-lite"))


@pytest.fixture(scope="session")
def shop_database(postgresql_server: Server) -> Iterator[str]:
    """A database of its own, and the role `reader`. The name."""
    with psycopg.connect(postgresql_server.connect, dbname="postgres", autocommit=True) as admin:
        admin.execute("CREATE DATABASE shop_db")
        yield "shop_db"
        admin.execute("DROP DATABASE shop_db WITH (FORCE)")


@pytest.fixture
def shop_config(postgresql_server: Server, shop_database: str) -> dict[str, Any]:
    """How the connector reads it."""
    return reader_of(postgresql_server.connect, shop_database)


@pytest.fixture
def shop(
    postgresql_server: Server, shop_database: str, shop_config: dict[str, Any]
) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the owner; a new schema `shop` that `reader` may read."""
    with psycopg.connect(postgresql_server.connect, dbname=shop_database, autocommit=True) as owner:
        owner.execute("DROP SCHEMA IF EXISTS shop CASCADE")
        owner.execute("CREATE SCHEMA shop; GRANT USAGE ON SCHEMA shop TO reader")
        owner.execute("ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO reader")
        yield owner


@pytest.fixture
def connector(tmp_path: Path, shop_config: dict[str, Any], shop: psycopg.Connection[Any]) -> Connector:
    """The connector with that configuration."""
    return Connector(tmp_path, shop_config)
