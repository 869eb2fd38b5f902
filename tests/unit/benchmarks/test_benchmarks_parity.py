"""A comparison that finds nothing when something differs would make every benchmark worthless."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from airberg.columns.types import DATE, DOUBLE, JSON, LONG, STRING, TIMESTAMPTZ, Field, List, Struct
from benchmarks.parity import LISTS_AS_TEXT, NOT_THERE, compare, sums

FIELDS = (
    Field("id", LONG),
    Field("at", TIMESTAMPTZ),
    Field("on", DATE),
    Field("price", DOUBLE),
    Field("name", STRING),
    Field("free", JSON),
    Field("place", Struct((Field("city", STRING), Field("lat", DOUBLE), Field("names", List(STRING))))),
    Field("tags", List(STRING)),
)
ROWS = """
    SELECT i AS id,
           TIMESTAMPTZ '2020-01-01 00:00:00+00' + to_seconds(i) AS "at",
           DATE '2020-01-01' + i::INTEGER AS "on",
           i / 4 AS price,
           'name ' || i AS name,
           '{"a": ' || i || '}' AS free,
           {'city': 'c' || i, 'lat': i + 0.5::DOUBLE, 'names': ['x', 'y' || i]} AS place,
           ['t' || i] AS tags
    FROM range(100) r(i)
"""
EVERY = {
    *("s.id", "s.at", "s.on", "s.price", "s.name", "s.free", "s.tags"),
    *("s.place.city", "s.place.lat", "s.place.names"),
}


def table(folder: Path, query: str, name: str) -> dict[str, Any]:
    """A Parquet file with the rows of a query."""
    path = folder / f"{name}.parquet"
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    return {"files": [str(path)]}


def compared(folder: Path, query: str) -> dict[str, Any]:
    """The comparison of `ROWS` with what a query gives of them."""
    expected = sums(table(folder, ROWS, "expected"), FIELDS)
    found = sums(table(folder, query, "found"), FIELDS)
    return compare({"s": expected}, {"s": found})


def test_the_same_rows_in_another_order(tmp_path: Path) -> None:
    """Order does not matter."""
    result = compared(tmp_path, f"SELECT * FROM ({ROWS}) ORDER BY id DESC")
    assert result == {"equal": True, "columns_compared": len(EVERY), "different": [], "left_out": {}}


def test_other_types_with_the_same_values(tmp_path: Path) -> None:
    """Text, decimals and JSON that say the same are the same; lists in JSON text are left out."""
    result = compared(
        tmp_path,
        f"""SELECT id::INTEGER AS id, "at"::TIMESTAMP AS "at", "on"::VARCHAR AS "on",
                   price::DECIMAL(38,9) AS price, name, replace(free, ' ', '') AS free,
                   to_json(place)::VARCHAR AS place, to_json(tags)::VARCHAR AS tags FROM ({ROWS})""",
    )
    assert result["equal"]
    assert result["left_out"] == {"s.tags": LISTS_AS_TEXT, "s.place.names": LISTS_AS_TEXT}
    assert result["columns_compared"] == len(EVERY) - 2


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    """It is left out with a reason, not passed over."""
    result = compared(tmp_path, f"SELECT * EXCLUDE (name) FROM ({ROWS})")
    assert result["equal"]
    assert result["left_out"] == {"s.name": NOT_THERE}


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ("id + (id = 7)::BIGINT AS id", "s.id"),
        ('"at" + to_microseconds((id = 7)::BIGINT) AS "at"', "s.at"),
        ('"on" + (id = 7)::INTEGER AS "on"', "s.on"),
        ("price + CASE WHEN id = 7 THEN 0.001 ELSE 0 END AS price", "s.price"),
        ("CASE WHEN id = 7 THEN NULL ELSE name END AS name", "s.name"),
        ("replace(free, '{\"a\": 7}', '{\"a\": 8}') AS free", "s.free"),
        ("{'city': place.city, 'lat': place.lat, 'names': ['x', 'z']} AS place", "s.place.names"),
        ("CASE WHEN id = 7 THEN ['t7', 't7'] ELSE tags END AS tags", "s.tags"),
    ],
)
def test_one_other_value_is_found(tmp_path: Path, change: str, column: str) -> None:
    """A single value of a hundred, in any kind of column."""
    result = compared(tmp_path, f"SELECT * REPLACE ({change}) FROM ({ROWS})")
    assert not result["equal"]
    assert [d.partition(":")[0] for d in result["different"]] == [column]


def test_a_doubled_row_is_found(tmp_path: Path) -> None:
    """The number of rows is compared, and every column shows it."""
    result = compared(tmp_path, f"({ROWS}) UNION ALL SELECT * FROM ({ROWS}) WHERE id = 7")
    assert result["different"][0] == "s: 101 rows instead of 100"
    assert {d.partition(":")[0] for d in result["different"][1:]} == EVERY
