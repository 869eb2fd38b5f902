"""Reading a table as its readers do: DuckDB with its iceberg extension, every column of every row."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb
from duckdb_extensions import import_extension

from benchmarks.merging.rows import Sums, connection, sums_in
from benchmarks.merging.table import path_of

SHORT_S, LONG_S = 1.0, 5.0


@dataclass(frozen=True, slots=True)
class Scan:
    """What a reader found, and how long it took: the median of the scans behind the first."""

    sums: Sums
    seconds: float


class Reader:
    """Scans tables; a scan counts the rows and adds up the hashes of whole rows.

    Args:
        folder: For DuckDB's extensions.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        with self._connection() as db:
            for name in ("avro", "iceberg"):
                import_extension(name, con=db)

    def _connection(self) -> duckdb.DuckDBPyConnection:
        db = connection()
        for name, value in {
            "extension_directory": str(self._folder / "extensions"),
            "home_directory": str(self._folder),
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }.items():
            db.execute(f"SET {name} = '{value}'")
        return db

    def scan(self, metadata: str) -> Scan:
        """Scan a table up to three times, once if it takes long, behind a first time that is not counted.

        Raises:
            duckdb.Error: DuckDB cannot read it.
        """
        with self._connection() as db:
            db.execute("LOAD avro; LOAD iceberg")
            relation = f"iceberg_scan('{path_of(metadata)}')"
            times: list[float] = []
            while not times or len(times) < (4 if times[0] < SHORT_S else 3 if times[0] < LONG_S else 2):
                begun = time.perf_counter()
                found = sums_in(db, relation)
                times.append(time.perf_counter() - begun)
        return Scan(found, round(statistics.median(times[1:]), 4))
