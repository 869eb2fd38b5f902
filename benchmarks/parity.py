"""Whether two contenders have written the same: rows, and for each leaf a count and a checksum.

DuckDB computes both over the Parquet files (or the DuckDB database) that a contender wrote. A checksum is the
sum of the hashes of the values, so the order of rows does not matter. Values are brought to one form first: a
timestamp is the same moment whatever its column's type, and JSON text the same without its spaces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from airberg.columns.types import Field
from benchmarks.dialects import Leaf, leaves, quoted

LISTS_AS_TEXT = "a list inside JSON text: members without a value are not written there"
NOT_THERE = "no such column in its table"


@dataclass(frozen=True, slots=True)
class Sums:
    """What one contender's table of one stream holds.

    Attributes:
        rows: Number of rows.
        sums: Count of values and checksum, by dotted name.
        left_out: Why a leaf cannot be compared.
    """

    rows: int
    sums: dict[str, tuple[int, int]]
    left_out: dict[str, str]


def sums(table: Mapping[str, Any], fields: Sequence[Field]) -> Sums:
    """Count and add up one table.

    Args:
        table: `files`, or `database`, `schema` and `table`.
        fields: The stream's columns.
    """
    connection = duckdb.connect(config={"threads": 2})
    connection.execute("SET TimeZone = 'UTC'")
    if "files" in table:
        relation = "read_parquet([" + ", ".join(f"'{f}'" for f in table["files"]) + "])"
    else:
        connection.execute(f"ATTACH '{table['database']}' AS other (READ_ONLY)")
        relation = f"other.{quoted(table['schema'])}.{quoted(table['table'])}"
    described = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    types = {str(row[0]): str(row[1]) for row in described}
    left_out: dict[str, str] = {}
    wanted: list[tuple[Leaf, str]] = []
    for leaf in leaves(fields):
        expression = _expression(leaf, types)
        if expression in (LISTS_AS_TEXT, NOT_THERE):
            left_out[leaf.dotted] = expression
        else:
            wanted.append((leaf, expression))
    values = ", ".join(f"{expression} AS v{i}" for i, (_, expression) in enumerate(wanted))
    # No FILTER: it would copy the chunk for each of them.
    totals = ", ".join(
        f"count(v{i}), coalesce(sum(CASE WHEN v{i} IS NOT NULL THEN hash(v{i}) END), 0)"
        for i in range(len(wanted))
    )
    row = connection.execute(f"SELECT count(*), {totals} FROM (SELECT {values} FROM {relation})").fetchone()
    connection.close()
    assert row is not None
    found = {leaf.dotted: (row[1 + 2 * i], row[2 + 2 * i]) for i, (leaf, _) in enumerate(wanted)}
    return Sums(row[0], found, left_out)


def compare(reference: Mapping[str, Sums], other: Mapping[str, Sums]) -> dict[str, Any]:
    """What differs between two contenders, stream by stream; `equal` says whether anything does."""
    different: list[str] = []
    left_out: dict[str, str] = {}
    compared = 0
    for stream, mine in reference.items():
        theirs = other[stream]
        if mine.rows != theirs.rows:
            different.append(f"{stream}: {theirs.rows} rows instead of {mine.rows}")
        for name, expected in mine.sums.items():
            if name in theirs.left_out:
                left_out[f"{stream}.{name}"] = theirs.left_out[name]
            elif theirs.sums[name] != expected:
                counted = f"{theirs.sums[name][0]} values instead of {expected[0]}"
                same = theirs.sums[name][0] == expected[0]
                different.append(f"{stream}.{name}: {'other values' if same else counted}")
            else:
                compared += 1
    return {
        "equal": not different,
        "columns_compared": compared,
        "different": different,
        "left_out": left_out,
    }


def _expression(leaf: Leaf, types: Mapping[str, str]) -> str:
    """SQL that gives the leaf's value in the common form, or why it cannot."""
    first, *rest = leaf.path
    kind = types.get(first)
    if kind is None:
        return NOT_THERE
    as_struct = kind.startswith("STRUCT")
    if leaf.kind == "list":
        listed = kind.endswith("]") or as_struct
        return f"to_json({'.'.join(quoted(p) for p in leaf.path)})::VARCHAR" if listed else LISTS_AS_TEXT
    if not rest or as_struct:
        value = ".".join(quoted(p) for p in leaf.path)
    else:
        pointer = "$." + ".".join(f'"{p}"' for p in rest)
        value = f"json_extract_string({quoted(first)}, '{pointer}')"
    match leaf.kind:
        case "timestamptz" | "timestamp":
            return f"epoch_us(TRY_CAST({value} AS TIMESTAMPTZ))"
        case "json":
            # PyAirbyte writes the text of a union without quotes when it is a string.
            text = f"{value}::VARCHAR"
            return f"CASE WHEN json_valid({text}) THEN json({text}) ELSE to_json({text}) END::VARCHAR"
        case "string":
            return f"{value}::VARCHAR"
        case other:
            target = {"long": "BIGINT", "double": "DOUBLE", "boolean": "BOOLEAN", "date": "DATE"}[other]
            return f"TRY_CAST({value} AS {target})"
