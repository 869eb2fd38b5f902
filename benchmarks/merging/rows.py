"""Rows of the merge benchmark, made by DuckDB: a row follows from its id and its version.

So any set of them can be made anew, and what a table must hold after a merge is known without asking a
contender. `id` counts up in the order of arrival, `uuid` is random text, `tenant` and `number` are unique
together and neither alone; the columns behind them change with the version.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from airberg.columns.types import BOOLEAN, DOUBLE, LONG, STRING, TIMESTAMPTZ, Field

FIELDS = (
    Field("id", LONG),
    Field("uuid", STRING),
    Field("tenant", STRING),
    Field("number", LONG),
    Field("email", STRING),
    Field("name", STRING),
    Field("active", BOOLEAN),
    Field("score", DOUBLE),
    Field("amount", DOUBLE),
    Field("updated_at", TIMESTAMPTZ),
)
SHAPE = (
    "10 columns: id (long, counts up in the order of arrival), uuid (32 random hexadecimal digits), "
    "tenant (250 texts), number (long, unique within its tenant), email, name (text), active (boolean), "
    "score, amount (double), updated_at (timestamptz)"
)
BATCH_ROWS = 10_000
THREADS = 2
CHECKSUM = f"sum(hash({', '.join(f.name for f in FIELDS[:-1])}, epoch_us(updated_at)))"
"""SQL: a sum of hashes of whole rows, which the order of rows does not change."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What identifies a set of rows: their number and the sum of their hashes."""

    rows: int
    checksum: int

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.rows + other.rows, self.checksum + other.checksum)

    def __sub__(self, other: Sums) -> Sums:
        return Sums(self.rows - other.rows, self.checksum - other.checksum)


def table_ids(rows: int) -> str:
    """SQL: the ids of a table's rows, in the order of their arrival."""
    return f"SELECT range AS id FROM range({rows})"


def replaced_ids(rows: int, replaced: int) -> str:
    """SQL: so many ids of a table, spread evenly over all of it."""
    return f"SELECT range * {rows} // {max(replaced, 1)} AS id FROM range({replaced})"


def changed_ids(rows: int, replaced: int, new: int) -> str:
    """SQL: ids of rows that are there and of rows that follow them, in no order."""
    following = f"SELECT {rows} + range AS id FROM range({new})"
    return f"SELECT id FROM ({replaced_ids(rows, replaced)} UNION ALL {following}) ORDER BY hash(id)"


def rows_of(ids: str, version: int) -> str:
    """SQL: the rows with these ids, as they are in this version."""
    return f"""
        SELECT id,
            printf('%016x%016x', hash(id), hash(-1 - id)) AS uuid,
            'tenant-' || (id % 250) AS tenant,
            id // 250 AS number,
            hash(id + 7) % 100000000 || '@example.com' AS email,
            'name ' || changing % 5000 AS name,
            changing % 2 = 0 AS active,
            (changing % 1000003) / 1000.0::DOUBLE AS score,
            (changing % 9999991) / 100.0::DOUBLE AS amount,
            make_timestamptz(1700000000000000 + id * 1000000 + {version}) AS updated_at
        FROM (SELECT id, hash(id + {version} * 1000000007) AS changing FROM ({ids}))"""


def connection() -> duckdb.DuckDBPyConnection:
    """A DuckDB that makes rows."""
    db = duckdb.connect(config={"threads": THREADS})
    db.execute("SET TimeZone = 'UTC'")
    return db


def batches(ids: str, version: int) -> Iterator[pa.RecordBatch]:
    """Rows as they come from a source, some thousands at a time."""
    with connection() as db:
        yield from db.execute(rows_of(ids, version)).to_arrow_reader(BATCH_ROWS)


def batches_ahead(ids: str, version: int) -> Iterator[pa.RecordBatch]:
    """The same, each made while the one before is being used."""
    made = batches(ids, version)
    with ThreadPoolExecutor(1, "rows") as pool:
        next_one = pool.submit(next, made, None)
        while (batch := next_one.result()) is not None:
            next_one = pool.submit(next, made, None)
            yield batch


def sums(ids: str, version: int) -> Sums:
    """The sums of rows that are made."""
    with connection() as db:
        return sums_in(db, f"({rows_of(ids, version)})")


def sums_in(db: duckdb.DuckDBPyConnection, relation: str) -> Sums:
    """The sums of a relation with these columns."""
    found = db.execute(f"SELECT count(*), coalesce({CHECKSUM}, 0)::HUGEINT FROM {relation}").fetchone()
    assert found is not None
    return Sums(int(found[0]), int(found[1]))
