"""A second engine that reads our tables: DuckDB with its iceberg extension, from the package registry."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import duckdb
import pyarrow as pa
from duckdb_extensions import import_extension
from pyiceberg.table import Table


@cache
def duckdb_connection() -> duckdb.DuckDBPyConnection:
    """One connection per test process; its extensions live in a folder of their own, never in a home."""
    folder = Path(tempfile.mkdtemp(prefix="duckdb-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    config = {
        "extension_directory": str(folder / "extensions"),
        "home_directory": str(folder),
        "temp_directory": str(folder / "tmp"),
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "threads": "1",
    }
    connection = duckdb.connect(":memory:", config=config)
    for name in ("avro", "iceberg"):
        import_extension(name, con=connection)
        connection.execute(f"LOAD {name}")
    return connection


def duckdb_table(table: Table) -> pa.Table:
    """All rows of the current snapshot, as DuckDB reads them."""
    metadata = unquote(table.metadata_location.removeprefix("file://"))
    return duckdb_connection().execute("SELECT * FROM iceberg_scan(?)", [metadata]).to_arrow_table()


def duckdb_rows(table: Table) -> list[dict[str, Any]]:
    """All rows of the current snapshot, as DuckDB reads them, in no particular order."""
    return duckdb_table(table).to_pylist()
