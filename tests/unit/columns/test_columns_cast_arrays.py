"""Casts of whole arrays: what is not left to the cast of single values is what that would make."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.columns.arrow import arrow_type
from airberg.columns.canonical import canonical_array
from airberg.columns.cast_arrays import array_cast
from airberg.columns.casting import caster
from airberg.columns.reading import REJECTIONS, reader
from airberg.columns.targets import TARGET_TYPES, parse_target_type
from airberg.columns.types import (
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    LONG,
    STRING,
    TIMESTAMP,
    TIMESTAMPTZ,
    ColumnType,
    Decimal,
)
from support.column_batches import builder, by_value, rows_of
from support.column_values import plan
from support.record_builders import built_by

DECIMALS = (
    "decimal(18,2)",
    "decimal(2,2)",
    "decimal(5,0)",
    "decimal(38,38)",
    "decimal(38,19)",
    "decimal(20,1)",
)
SOURCES = (BOOLEAN, LONG, STRING, DATE, TIMESTAMP, TIMESTAMPTZ)
PAIRS = [
    (source, target)
    for source in SOURCES
    for target in (*dict.fromkeys(TARGET_TYPES.values()), *map(parse_target_type, DECIMALS))
    if array_cast(source, target)
]
LONGS = st.integers(-(2**63), 2**63 - 1) | st.integers(-(10**6), 10**6) | st.integers(-130, 130)
DIGITS = LONGS.map(str) | st.from_regex(r"[+-]?[0-9]{0,20}(\.[0-9]{0,20})?(e[0-9])?", fullmatch=True)
CLOCKS = st.from_regex(r"[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{1,7})?", fullmatch=True) | st.times().map(
    str
)
OFFSETS = st.sampled_from(["", "Z", "z", "+05:30", "-17:59", "+18:00", "+23:00", " UTC", "+0530", "-00:00"])
DAYS = st.dates().map(str) | st.sampled_from(
    [
        "2023-02-29",
        "2024-02-30",
        "2024-13-01",
        "0000-01-01",
        "0001-01-01",
        "9999-12-31",
        "12026-01-01",
        "2024-1-1",
    ]
)
MOMENTS = st.builds(
    lambda day, mark, clock, offset: day + mark + clock + offset,
    DAYS,
    st.sampled_from("T t"),
    CLOCKS,
    OFFSETS,
)
WORDS = st.sampled_from(["true", "T", "yes", "no", "0", "1", "f", "NaN", "inf", "", " ", "nan"])
TEXTS = (
    DIGITS | CLOCKS | DAYS | MOMENTS | WORDS | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
)
KNOWN_DAYS = st.dates().map(str)
VALUES: dict[ColumnType, st.SearchStrategy[Any]] = {
    BOOLEAN: st.booleans(),
    LONG: LONGS,
    STRING: TEXTS | TEXTS.map(lambda text: f" {text}\n"),
    DATE: KNOWN_DAYS,
    TIMESTAMP: st.datetimes().map(lambda found: found.isoformat()),
    TIMESTAMPTZ: st.datetimes().map(lambda found: found.isoformat() + "Z"),
}
KINDS_OF_TEXT = (DIGITS, CLOCKS, DAYS, MOMENTS, WORDS, KNOWN_DAYS)


def columns(source: ColumnType) -> st.SearchStrategy[list[Any]]:
    """Values of a column: of all kinds, or of one, as columns mostly are."""
    if source != STRING:
        return st.lists(st.none() | VALUES[source], max_size=8)
    return st.one_of(st.lists(st.none() | kind, max_size=8) for kind in (VALUES[STRING], *KINDS_OF_TEXT))


def one_by_one(source: ColumnType, target: ColumnType, values: list[Any]) -> tuple[list[Any], list[bool]]:
    """The values that are cast, and which of them are rejected."""
    cast = caster(source, target)
    made, rejected = [], []
    for value in values:
        try:
            made.append(None if value is None else cast(value))
            rejected.append(False)
        except REJECTIONS:
            made.append(None)
            rejected.append(True)
    return made, rejected


def told_apart(value: Any) -> Any:
    """The value; a double as its digits and sign, which equality does not look at."""
    return repr(value) if isinstance(value, float) else value


def bits(array: pa.Array) -> list[Any]:
    """Values to compare: doubles by their digits and sign."""
    texts: list[Any] = canonical_array(array).to_pylist()
    return texts


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=str)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_arrays_are_cast_like_their_values(
    source: ColumnType, target: ColumnType, data: st.DataObject
) -> None:
    """Whatever the column has: a value is cast as by itself, or it is left. What is rejected is left."""
    values = data.draw(columns(source))
    read = reader(source)
    array = pa.array([None if v is None else read(v) for v in values], arrow_type(source))
    cast = array_cast(source, target)
    assert cast is not None
    made, left = cast(array)
    made.validate(full=True)
    expected, rejected = one_by_one(source, target, values)
    kind = pa.float64() if target == FLOAT else arrow_type(target)
    assert made.type == kind
    leaves = [False] * len(values) if left is None else [found is True for found in left.to_pylist()]
    assert not any(is_rejected and not is_left for is_rejected, is_left in zip(rejected, leaves, strict=True))
    kept = [None if is_left else value for value, is_left in zip(expected, leaves, strict=True)]
    assert bits(made) == bits(pa.array(kept, kind))


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=str)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_batches_are_cast_like_their_values(
    source: ColumnType, target: ColumnType, data: st.DataObject
) -> None:
    """The same through the compiled reader, which has other values of JSON besides, with all changes."""
    values = data.draw(
        st.lists(columns(source).map(tuple) | st.tuples(st.floats(-9, 9)) | st.just((True, "x", [])))
    )
    column = plan(
        source,
        str(target)
        if isinstance(target, Decimal)
        else next(n for n, t in TARGET_TYPES.items() if t == target),
    )
    records = [json.dumps({"p": value}).encode() for found in values for value in found]
    with built_by("native"):
        made = builder([column], add_metadata=True)
        rows = rows_of(made, records)
    expected, changes = by_value([column], records)
    assert [told_apart(row["c"]) for row in rows] == [told_apart(row["c"]) for row in expected]
    assert [row["_airbyte_meta"]["changes"] for row in rows] == changes


@pytest.mark.parametrize(
    ("source", "target", "values", "left"),
    [
        (LONG, "int", [1, -(2**31), 2**31 - 1, None], 0),
        (LONG, "byte", [127, 128, -129, None], 2),
        (LONG, "timestamp", [0, -1, 1_700_000_000, 2**62], 1),
        (LONG, "decimal(18,2)", [0, 10**16 - 1, 10**16], 1),
        (LONG, "string", [0, -5], 0),
        (STRING, "long", ["12", "-7", "007", " 1", "1.5", "1" * 19], 3),
        (STRING, "double", ["1.5", "-0", "1e5", "nan"], 2),
        (STRING, "decimal(5,2)", ["1.5", "999.99", "1000", "1.234"], 2),
        (STRING, "boolean", ["true", "0", "TRUE", "maybe", None], 2),
        (STRING, "date", ["2024-02-29", "2024-1-1"], 1),
        (STRING, "date", ["2024-02-29", "2023-02-29"], 2),
        (STRING, "time", ["10:00:00", "10:00:00.123456", "10:00"], 1),
        (STRING, "timestamp", ["2024-01-01T10:00:00Z", "2024-01-01 10:00:00.5+05:30", "2024-01-01"], 1),
        (STRING, "timestamp", ["2024-01-01T10:00:00", "2024-01-01", "2024"], 1),
        (STRING, "timestamp_ntz", ["2024-01-01T10:00:00", "2024-01-01T10:00:00Z"], 1),
        (TIMESTAMPTZ, "date", ["1969-12-31T23:59:59Z", "2024-01-01T00:00:00Z"], 0),
        (TIMESTAMPTZ, "double", ["1969-12-31T23:59:59.5Z", "9999-01-01T00:00:00Z"], 1),
    ],
)
def test_what_is_left(source: ColumnType, target: str, values: list[Any], left: int) -> None:
    """The usual forms are cast at once; without that the fast way would be one in name only."""
    read = reader(source)
    array = pa.array([None if v is None else read(v) for v in values], arrow_type(source))
    cast = array_cast(source, parse_target_type(target))
    assert cast is not None
    found = cast(array)
    count = 0 if found.left is None else pc.sum(found.left).as_py()
    assert count == left
    assert found.made.null_count == array.null_count + left


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (DOUBLE, "string"),
        (DOUBLE, "decimal(9,2)"),
        (TIMESTAMPTZ, "string"),
        (DATE, "string"),
        (STRING, "json"),
    ],
)
def test_what_needs_the_text_of_the_record(source: ColumnType, target: str) -> None:
    """Digits and forms are kept as the source wrote them, so the value that was read is not enough."""
    assert array_cast(source, parse_target_type(target)) is None
