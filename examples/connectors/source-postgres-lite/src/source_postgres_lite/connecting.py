"""Connections to PostgreSQL: TLS, a session whose texts are always the same, errors without secrets."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from source_postgres_lite.configuration import Configuration
from source_postgres_lite.messages import FailureType, SourceFailed

CONNECT_TIMEOUT_S = 10
SESSION = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "intervalstyle": "iso_8601",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}
"""The same value is the same text whatever the role, the database or the server have for defaults.

Set within the transaction: a pooler such as PgBouncer takes no options while connecting, and gives each
transaction another session.
"""

_CONFIGURATION = ("28", "3D", "3F", "42", "22")
"""Classes of SQLSTATE that no other attempt cures: login, database, schema, rights and names, values."""


@contextlib.contextmanager
def connected(config: Configuration) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A read-only connection in one snapshot of the database: all that is read is of the same moment.

    Raises:
        SourceFailed: It cannot be made, or what happens inside fails.
    """
    try:
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="postgres-lite-"))
            connection = stack.enter_context(psycopg.connect(**_parameters(config, Path(folder))))
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            connection.prepare_threshold = None  # poolers do not know of prepared statements
            for name, value in SESSION.items():
                connection.execute("SELECT set_config(%s, %s, true)", [name, value])
            yield connection
    except psycopg.Error as error:
        raise _failure(error, config) from None


def _parameters(config: Configuration, folder: Path) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "host": config.host,
        "port": config.port,
        "dbname": config.database,
        "user": config.username,
        "password": config.password or None,
        "sslmode": config.ssl_mode,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": "source-postgres-lite",
        "client_encoding": "UTF8",
        # Nothing of the machine that we run on: no password file, no Kerberos ticket, no client certificate.
        "passfile": str(folder / "no-passwords"),
        "gssencmode": "disable",
        "sslcert": str(folder / "no-certificate"),
    }
    if config.ssl_root_certificate:
        file = folder / "root.pem"
        file.write_text(config.ssl_root_certificate)
        parameters["sslrootcert"] = str(file)
    elif config.ssl_mode == "verify-full":
        parameters["sslrootcert"] = "system"
    elif config.ssl_mode == "verify-ca":
        raise SourceFailed(
            "`ssl_mode` verify-ca needs `ssl_root_certificate`. With the system's certificates anybody could "
            "have one: take verify-full.",
            "config_error",
        )
    else:
        parameters["sslrootcert"] = str(folder / "no-root")  # one in HOME would make `require` verify
    return parameters


def _failure(error: psycopg.Error, config: Configuration) -> SourceFailed:
    primary = error.diag.message_primary
    text = " ".join((primary or str(error) or type(error).__name__).split())
    if config.password:
        text = text.replace(config.password, "****")
    return SourceFailed(f"PostgreSQL: {text}", _failure_type(error, text), error.sqlstate or "")


def _failure_type(error: psycopg.Error, text: str) -> FailureType:
    # psycopg has no SQLSTATE for what fails while it connects, only libpq's words.
    login = ("password authentication failed", "does not exist", "no pg_hba.conf entry", "certificate", "SSL")
    if error.sqlstate is None:
        return "config_error" if any(word in text for word in login) else "transient_error"
    return "config_error" if error.sqlstate.startswith(_CONFIGURATION) else "transient_error"
