"""TLS of source-postgres-lite: each mode against a server with a certificate for `localhost`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.certificates import Authority
from support.postgres_lite import Connector, reader_of
from support.postgresql import NoServer, running_server

OURS, OTHER = Authority("ours"), Authority("other")


@pytest.fixture(scope="module")
def config() -> Iterator[dict[str, Any]]:
    """How to reach a server that lets nobody in without TLS."""
    try:
        with running_server(OURS.server("localhost")) as server:
            config = reader_of(server.connect, "airberg")
            with psycopg.connect(server.connect, dbname="airberg", autocommit=True) as owner:
                owner.execute("CREATE SCHEMA shop; CREATE TABLE shop.t (id int)")
                owner.execute("GRANT USAGE ON SCHEMA shop TO reader; GRANT SELECT ON shop.t TO reader")
                # The connector tells of its own connection: a row if it is encrypted, an error if not.
                owner.execute(
                    "CREATE VIEW shop.v AS SELECT 1 / count(*) AS id FROM pg_stat_ssl "
                    "WHERE pid = pg_backend_pid() AND ssl; GRANT SELECT ON shop.v TO reader"
                )
            yield config
    except NoServer as e:
        pytest.skip(f"PostgreSQL: {e}")


@pytest.mark.parametrize(
    ("mode", "host", "root", "encrypted"),
    [
        ("disable", "127.0.0.1", None, False),
        ("allow", "127.0.0.1", None, False),
        ("prefer", "127.0.0.1", None, True),
        ("require", "127.0.0.1", None, True),
        ("verify-ca", "127.0.0.1", OURS, True),
        ("verify-full", "localhost", OURS, True),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_modes_that_connect(
    config: dict[str, Any], tmp_path: Path, mode: str, host: str, root: Authority | None, encrypted: bool
) -> None:
    """Whether the connection is encrypted is what the server says."""
    values = config | {"ssl_mode": mode, "host": host}
    values |= {"ssl_root_certificate": root.pem.decode()} if root else {}
    said = Connector(tmp_path, values).read("v", mode="full_refresh")
    assert said.rows("v") == ([{"id": 1}] if encrypted else [])
    assert said.exit_code == (0 if encrypted else 1)


@pytest.mark.parametrize(
    ("mode", "host", "root"),
    [
        ("verify-ca", "127.0.0.1", OTHER),
        ("verify-full", "127.0.0.1", OURS),
        ("verify-full", "localhost", OTHER),
        ("verify-full", "localhost", None),
    ],
    ids=lambda v: v if isinstance(v, str) else getattr(v, "name", "system"),
)
def test_certificates_that_are_not_believed(
    config: dict[str, Any], tmp_path: Path, mode: str, host: str, root: Authority | None
) -> None:
    """Of another authority, or of another host: that is a fault of the configuration."""
    values = config | {"ssl_mode": mode, "host": host}
    values |= {"ssl_root_certificate": root.pem.decode()} if root else {}
    said = Connector(tmp_path, values)("discover")
    [error] = said.errors()
    assert (said.exit_code, error["failure_type"]) == (1, "config_error")
    assert "certificate" in error["message"]
