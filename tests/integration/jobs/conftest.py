"""Empty databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from support.postgresql import Server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without any tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'new' / 'airberg.db'}"
        return
    server: Server = request.getfixturevalue("postgresql_server")
    name = f"t{abs(hash(tmp_path)):x}"
    with psycopg.connect(f"{server.connect} dbname=postgres", autocommit=True) as c:
        c.execute(f"CREATE DATABASE {name}")
        yield server.url.rpartition("/")[0] + f"/{name}"
        c.execute(f"DROP DATABASE {name} WITH (FORCE)")
