"""Which engines read which delete format: the table of `docs/how-to/merge.md`, as code.

A reader is an engine (`spark`), or one of a version (`trino:455`); without a version the newest one known is
meant. What nobody has written down is taken as not read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airberg.plan.names import did_you_mean

if TYPE_CHECKING:
    from airberg.plan.model import DeleteFormat


@dataclass(frozen=True, slots=True)
class Reads:
    """What an engine reads, from a version on.

    Attributes:
        engine: The engine.
        since: First version for which it holds; empty for services that have none.
        position: Reads position-delete files of format version 2; None when no source says so.
        vector: Reads deletion vectors of format version 3, in the same way.
    """

    engine: str
    since: str
    position: bool | None
    vector: bool | None


READS: tuple[Reads, ...] = (
    Reads("athena", "", True, None),
    Reads("bigquery", "", True, True),
    Reads("clickhouse", "25.8", True, False),
    Reads("daft", "", None, None),
    Reads("databricks", "18.0", None, True),
    Reads("doris", "4.1", True, True),
    Reads("dremio", "", True, True),
    Reads("duckdb", "1.4.0", True, None),
    Reads("duckdb", "1.5.3", True, True),
    Reads("fabric", "", None, None),
    Reads("flink", "", True, True),
    Reads("hive", "4.0.0", True, None),
    Reads("hive", "4.2.0", True, True),
    Reads("impala", "4.3.0", True, None),
    Reads("impala", "5.0.0", True, True),
    Reads("polars", "", True, True),
    Reads("presto", "0.286", True, None),
    Reads("pyiceberg", "0.12.0", True, True),
    Reads("redshift", "", True, True),
    Reads("snowflake", "", True, True),
    Reads("spark", "1.4.0", True, None),
    Reads("spark", "1.8.0", True, True),
    Reads("starrocks", "3.1", True, False),
    Reads("trino", "376", True, None),
    Reads("trino", "480", True, True),
)
"""By engine, each from its oldest version on."""

ENGINES = tuple(dict.fromkeys(row.engine for row in READS))

_READER = re.compile(r"([a-z0-9_-]+)(?::v?([0-9]+(?:\.[0-9]+)*))?", re.I)


def reader_problem(reader: str) -> str | None:
    """Why this is no reader; None when it is one."""
    found = _READER.fullmatch(reader.strip())
    if found is None:
        return "A reader is an engine, or an engine and its version: `spark`, `trino:455`."
    if found[1].lower() not in ENGINES:
        return f"There is no such engine. {did_you_mean(found[1], ENGINES)}"
    if found[2] and not _rows(found[1])[0].since:
        return f"Versions of {found[1].lower()} are not told apart: leave the version out."
    return None


def reads(reader: str) -> Reads:
    """What a reader reads. Of a version older than all that are known, nothing is known.

    Raises:
        ValueError: This is no reader.
    """
    found = _READER.fullmatch(reader.strip())
    if found is None or not (rows := _rows(found[1])):
        raise ValueError("not a reader")
    if found[2] is None:
        return rows[-1]
    older = [row for row in rows if _version(row.since) <= _version(found[2])]
    return older[-1] if older else Reads(rows[0].engine, found[2], None, None)


def cannot_read(delete_format: DeleteFormat, readers: Sequence[str]) -> list[str]:
    """The readers that are not known to read a delete format. Files written anew read all."""
    if delete_format == "copy-on-write":
        return []
    return [r for r in readers if not (reads(r).vector if delete_format == "vector" else reads(r).position)]


def delete_format_for(readers: Sequence[str]) -> DeleteFormat:
    """What all readers read: position deletes, else deletion vectors, else files written anew."""
    if not cannot_read("position", readers):
        return "position"
    return "copy-on-write" if cannot_read("vector", readers) else "vector"


def _rows(engine: str) -> list[Reads]:
    return [row for row in READS if row.engine == engine.lower()]


def _version(text: str) -> tuple[int, ...]:
    """Numbers of a version, without zeros at its end: 4 is 4.0."""
    numbers = [int(part) for part in text.split(".") if part]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
