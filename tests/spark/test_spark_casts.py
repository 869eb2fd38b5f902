"""Our casts beside Spark's: the examples of the reference page, edge values, and texts by chance."""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable
from decimal import Decimal as Exact
from typing import Any, NamedTuple

import pytest

from airberg.columns.reading import SIZE
from airberg.columns.targets import cast_problem, parse_target_type
from airberg.columns.types import (
    BINARY,
    BOOLEAN,
    DATE,
    DOUBLE,
    LONG,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    ColumnType,
    Decimal,
)
from support.cast_edges import EDGES, PIECES
from support.cast_examples import cast_outcome, code, examples, shown
from support.spark import Spark
from support.spark_casts import BEYOND, REFUSED, cast, literal, no_ansi, received, results

TARGETS = (
    "string",
    "byte",
    "short",
    "int",
    "long",
    "float",
    "double",
    "decimal",
    "decimal(5,2)",
    "boolean",
    "date",
    "timestamp",
    "timestamp_ntz",
    "time",
    "binary",
)
NUMBERS = ("byte", "short", "int", "long", "float", "double", "decimal", "decimal(5,2)")
INTEGERS = NUMBERS[:4]
SEED = 20_261_127


@pytest.fixture(scope="module")
def casting(spark: Spark) -> Spark:
    """Spark, with the casts that ours follow."""
    no_ansi(spark)
    return spark


# ---- the reference page ----------------------------------------------------------------------------------


def test_the_reference_page_says_what_spark_does(casting: Spark) -> None:
    """Its last column is true: empty where Spark agrees, else what Spark gives."""
    compared = [e for e in examples() if e.target != "json"]
    found = results(casting, [(literal(e.source, e.value), e.target) for e in compared])
    wrong = []
    for example, spark in zip(compared, found, strict=True):
        ours, reason = cast_outcome(example.source, example.target, example.value)
        match example.in_spark:
            case "":
                good = spark == ours if ours is None or reason else shown(spark) == shown(ours)
            case "refused":
                good = spark == REFUSED
            case "null":
                good = spark is None
            case cell if cell.startswith("`"):
                good = shown(spark) == code(cell)
            case _:  # in words
                good = spark is not None and shown(spark) != shown(ours)
        if not good:
            wrong.append(f"{example}: Spark gives {spark!r}, the page says {example.in_spark or ours!r}")
    assert len(compared) > 100
    assert not wrong, "\n".join(wrong)


# ---- differences that are meant --------------------------------------------------------------------------


class Compared(NamedTuple):
    """One value, cast by both."""

    source: ColumnType
    target: str
    value: str
    spark: Any
    ours: Any
    reason: str | None

    @property
    def text(self) -> str:
        """A text without the space around it; of other values their JSON text."""
        decoded = json.loads(self.value)
        return decoded.strip(" \t\n\x00\x1f\x7f") if isinstance(decoded, str) else self.value


def _rounded(c: Compared) -> bool:
    if c.source != DOUBLE or c.target not in ("long", "decimal", "timestamp") or None in (c.spark, c.ours):
        return False
    if c.target == "timestamp":
        return bool(abs((c.spark - c.ours).total_seconds()) <= 1e-6)
    return math.isclose(c.spark, c.ours, rel_tol=1e-15)


DIFFERENCES: dict[str, Callable[[Compared], bool]] = {
    "beyond the range": lambda c: c.reason == SIZE,
    "to string": lambda c: c.target == "string" and c.source != STRING,
    "digits": _rounded,
    "BC": lambda c: c.text.endswith(" BC") and c.target in ("date", "timestamp", "timestamp_ntz"),
    "small t and z": lambda c: (
        c.spark is None and re.search(r"[0-9]t[0-9]|[0-9] ?z$", c.text) is not None and c.target != "time"
    ),
    "an offset behind the minute": lambda c: (
        c.spark is None
        and c.target.startswith("timestamp")
        and re.search(r"[T ][0-9]+:[0-9]+ *([Z+-]|UTC|GMT|UT|[A-Z][a-z]+/)", c.text) is not None
    ),
    "a time with an offset": lambda c: (
        c.target == "time" and c.spark is None and re.search(r"([zZ]|[+-][0-9:]+)$", c.text) is not None
    ),
    "a time without a date": lambda c: (
        c.target == "timestamp"
        and c.ours is None
        and re.match(r"T?[0-9]{1,2}(:|$)|T[0-9]", c.text) is not None
    ),
    "zones": lambda c: (
        c.target.startswith("timestamp")
        and c.ours is None
        and re.search(r"(PST|EST)$|^\+?[0-9]{5,6}-.*[A-Za-z]/[A-Za-z]", c.text) is not None
    ),
    "Java's numbers": lambda c: (
        (c.target in ("float", "double") and re.search(r"[0-9.][dDfF]$", c.text) is not None)
        or (c.target in ("decimal", "decimal(5,2)") and not c.text.isascii())
        or (c.target in INTEGERS and c.text in (".", "+.", "-."))
    ),
}
REFUSED_BY_SPARK = {
    *((source, "timestamp_ntz") for source in (LONG, DOUBLE, Decimal(38, 0), Decimal(5, 2))),
    *((TIMESTAMP, target) for target in NUMBERS),
    *((source, "time") for source in (TIMESTAMP, TIMESTAMPTZ)),
}
REFUSED_BY_US = {
    (BOOLEAN, "timestamp"),
    (TIMESTAMPTZ, "boolean"),
    (LONG, "binary"),
    *((DATE, target) for target in (*NUMBERS, "boolean")),
    *((TIME, target) for target in (*INTEGERS, "decimal", "decimal(5,2)")),
}


def same(spark: Any, ours: Any) -> bool:
    """Whether two results are one value; NaN is NaN."""
    if isinstance(spark, float) and isinstance(ours, float) and math.isnan(spark):
        return math.isnan(ours)
    return type(spark) is type(ours) and bool(spark == ours)


def compare(spark: Spark, source: ColumnType, values: list[str], met: Counter[str]) -> list[str]:
    """Cast values of one source to everything that both sides cast; what differs without being meant to."""
    possible = [t for t in TARGETS if cast_problem(source, parse_target_type(t)) is None]
    targets = [t for t in possible if (source, t) not in REFUSED_BY_SPARK]
    rows = ", ".join(f"({i}, {literal(source, v)})" for i, v in enumerate(values))
    columns = ", ".join(f"{cast('v', t)} AS `{t}`" for t in targets)
    found = {row["i"]: row for row in spark.sql(f"SELECT i, {columns} FROM VALUES {rows} AS t(i, v)")}
    unmeant = []
    for i, value in enumerate(values):
        for target in targets:
            ours, reason = cast_outcome(source, target, value)
            compared = Compared(source, target, value, received(target, found[i][target]), ours, reason)
            if same(compared.spark, ours):
                met["the same"] += 1
                continue
            names = [name for name, meant in DIFFERENCES.items() if meant(compared)]
            met.update(names[:1])
            if not names:
                unmeant.append(f"{value} as {source} to {target}: Spark {compared.spark!r}, we {ours!r}")
    return unmeant


def test_edge_values(casting: Spark) -> None:
    """Nothing differs that is not meant to, and every difference that is meant occurs."""
    met: Counter[str] = Counter()
    unmeant = [line for source, values in EDGES for line in compare(casting, source, values, met)]
    assert not unmeant, "\n".join(unmeant[:40])
    assert set(DIFFERENCES) <= set(met)
    assert met["the same"] > 2_000


def test_texts_by_chance(casting: Spark) -> None:
    """Texts put together from pieces of numbers, dates, times and zones, always the same ones."""
    chance = random.Random(SEED)
    texts: set[str] = set()
    while len(texts) < 2_000:
        texts.add("".join(chance.choice(PIECES) for _ in range(chance.choice((1, 2, 2, 3, 3, 4, 5)))))
    unmeant = compare(casting, STRING, [json.dumps(t) for t in sorted(texts)], Counter())
    assert not unmeant, "\n".join(unmeant[:40])


def test_which_casts_there_are(casting: Spark) -> None:
    """Both have the same casts, but for those that are known; between them nothing is missing."""
    sources = [
        BOOLEAN,
        LONG,
        DOUBLE,
        Decimal(38, 0),
        Decimal(5, 2),
        DATE,
        TIME,
        TIMESTAMP,
        TIMESTAMPTZ,
        BINARY,
    ]
    values = {source: next(v[0] for s, v in EDGES if s == source) for source in sources}
    pairs = [(source, target) for source in sources for target in TARGETS]
    found = results(casting, [(literal(s, values[s]), t) for s, t in pairs])
    spark = {pair for pair, result in zip(pairs, found, strict=True) if result != REFUSED}
    ours = {(s, t) for s, t in pairs if cast_problem(s, parse_target_type(t)) is None}
    assert ours - spark == REFUSED_BY_SPARK
    assert spark - ours == REFUSED_BY_US


def test_what_beyond_means() -> None:
    """What Spark stops at is no value of ours."""
    assert received("timestamp", 2**63 - 1) == BEYOND
    assert received("timestamp", 1_500_000).microsecond == 500_000
    assert received("decimal", Exact("1.5")) == Exact("1.5")
