"""Casts of single values: Spark's meaning, and nothing wraps around."""

from __future__ import annotations

import datetime as dt
import json
import math
from decimal import Decimal as D

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.columns.far_dates import FarTimestamp, FarTimestamptz
from airberg.columns.moment_text import SPACE
from airberg.columns.targets import TARGET_TYPES, cast_problem
from airberg.columns.types import (
    BINARY,
    BOOLEAN,
    DATE,
    DOUBLE,
    JSON,
    LONG,
    STRING,
    TIMESTAMP,
    TIMESTAMPTZ,
    ColumnType,
    Decimal,
)
from support.cast_edges import EDGES, PIECES
from support.cast_examples import cast_outcome
from support.column_values import CAST, MOMENT, PERSON, SERIAL, SIZE, change, convert, day, far, plan, utc


@pytest.mark.parametrize(
    ("source", "target", "value", "expected"),
    [
        (LONG, "string", 12, "12"),
        (DOUBLE, "string", D("1.10"), "1.10"),
        (BOOLEAN, "string", True, "true"),
        (TIMESTAMPTZ, "string", MOMENT, MOMENT),
        (PERSON, "string", {"id": 1, "x": [D("1.0")]}, '{"id":1,"x":[1.0]}'),
        (STRING, "int", " 12 ", 12),
        (STRING, "int", "12.9", 12),
        (STRING, "int", "-12.9", -12),
        (DOUBLE, "long", -1.9, -1),
        (DOUBLE, "long", 1e15, 10**15),
        (BOOLEAN, "int", True, 1),
        (STRING, "byte", "-128", -128),
        (STRING, "tinyint", "127", 127),
        (LONG, "short", 32767, 32767),
        (LONG, "smallint", -32768, -32768),
        (TIMESTAMPTZ, "long", "1970-01-01T00:00:01.9Z", 1),
        (TIMESTAMPTZ, "long", "1969-12-31T23:59:59.9Z", -1),
        (TIMESTAMP, "double", "1970-01-01T00:00:01.5", 1.5),
        (STRING, "double", "1e3", 1000.0),
        (STRING, "float", "0.1", 0.10000000149011612),
        (LONG, "float", 3, 3.0),
        (STRING, "decimal(10,2)", "1.005", D("1.01")),
        (DOUBLE, "decimal(10,2)", -0.125, D("-0.13")),
        (BOOLEAN, "decimal", True, D("1.000000000")),
        (DOUBLE, "decimal(38,9)", D("12345678901234567890.123456789"), D("12345678901234567890.123456789")),
        (STRING, "boolean", " YES ", True),
        (STRING, "boolean", "t", True),
        (STRING, "boolean", "1", True),
        (STRING, "boolean", "n", False),
        (STRING, "boolean", "False", False),
        (LONG, "boolean", -2, True),
        (DOUBLE, "boolean", 0.0, False),
        (STRING, "date", " 2026-1-2 ", dt.date(2026, 1, 2)),
        (STRING, "date", "2026-01-02T23:00:00-05:00", dt.date(2026, 1, 2)),
        (STRING, "date", "2026", dt.date(2026, 1, 1)),
        (TIMESTAMPTZ, "date", "2026-01-02T23:00:00-05:00", dt.date(2026, 1, 3)),
        (STRING, "timestamp", "2026-01-02", utc(2026, 1, 2)),
        (STRING, "timestamp", "2026-1-2 3:4:5", utc(2026, 1, 2, 3, 4, 5)),
        (STRING, "timestamp", "2026-01-02T03:04:05.123456789+0530", utc(2026, 1, 1, 21, 34, 5, 123456)),
        (STRING, "timestamp", "2026-01-02 03:04 UTC", utc(2026, 1, 2, 3, 4)),
        (LONG, "timestamp", 1, utc(1970, 1, 1, 0, 0, 1)),
        (DOUBLE, "timestamp", -1.5, utc(1969, 12, 31, 23, 59, 58, 500000)),
        (DATE, "timestamp", "2026-01-02", utc(2026, 1, 2)),
        (STRING, "timestamp_ntz", "2026-01-02T03:04:05+05:00", dt.datetime(2026, 1, 2, 3, 4, 5)),
        (STRING, "timestamp_ntz", "0044-03-15T03:04:05+05:00 BC", far(FarTimestamp, -43, 3, 15, 3, 4, 5)),
        (STRING, "timestamp", "2026-07-01 12:00:00 Europe/Berlin", utc(2026, 7, 1, 10)),
        (STRING, "timestamp", "2026-03-29 02:30:00 Europe/Berlin", utc(2026, 3, 29, 1, 30)),
        (STRING, "timestamp", "2026-10-25 02:30:00 Europe/Berlin", utc(2026, 10, 25, 0, 30)),
        (STRING, "timestamp", "2026-01-02 03:04:05 UTC+05:30:15", utc(2026, 1, 1, 21, 33, 50)),
        (LONG, "int", "1e3", 1000),
        (Decimal(38, 0), "long", "1E+3", 1000),
        (DOUBLE, "double", "-inf", -math.inf),
        (TIMESTAMPTZ, "timestamp_ntz", "2026-01-02T03:04:05", dt.datetime(2026, 1, 2, 3, 4, 5)),
        (STRING, "date", " 0044-3-15 BC ", day(-43, 3, 15)),
        (STRING, "date", "-0043", day(-43, 1, 1)),
        (STRING, "date", "12026-01-01T10:00:00Z", day(12026, 1, 1)),
        (STRING, "timestamp", "0044-03-15 BC", far(FarTimestamptz, -43, 3, 15)),
        (STRING, "timestamp", "9999-12-31T23:59:59-05:00", far(FarTimestamptz, 10000, 1, 1, 4, 59, 59)),
        (STRING, "timestamp_ntz", "-0043-03-15 12:00 UTC", far(FarTimestamp, -43, 3, 15, 12)),
        (DATE, "timestamp", "0044-03-15 BC", far(FarTimestamptz, -43, 3, 15)),
        (DATE, "timestamp_ntz", "12026-01-01", far(FarTimestamp, 12026, 1, 1)),
        (TIMESTAMPTZ, "date", "0044-03-15T23:00:00-05:00 BC", day(-43, 3, 16)),
        (TIMESTAMPTZ, "timestamp_ntz", "0044-03-15T12:00:00Z BC", far(FarTimestamp, -43, 3, 15, 12)),
        (TIMESTAMP, "timestamp", "0044-03-15T12:00:00 BC", far(FarTimestamptz, -43, 3, 15, 12)),
        (TIMESTAMPTZ, "time", "0044-03-15T12:00:00Z BC", dt.time(12)),
        (TIMESTAMPTZ, "long", "0000-12-31T23:59:59.5Z", -62135596801),
        (TIMESTAMPTZ, "double", "0000-12-31T23:59:59.5Z", -62135596800.5),
        (TIMESTAMPTZ, "string", "0044-03-15T12:00:00Z BC", "0044-03-15T12:00:00Z BC"),
        (DATE, "json", "0044-03-15 BC", '"0044-03-15 BC"'),
        (LONG, "timestamp", 253_402_300_800, far(FarTimestamptz, 10000, 1, 1)),
        (STRING, "time", " 03:04:05 ", dt.time(3, 4, 5)),
        (TIMESTAMPTZ, "time", MOMENT, dt.time(22, 4, 5, 500000)),
        (STRING, "binary", "é", "é".encode()),
        (BINARY, "binary", "AP8=", b"\x00\xff"),
        (STRING, "json", ' {"a": 1.10}', ' {"a": 1.10}'),
        (LONG, "json", 1, "1"),
        (DATE, "json", "2026-01-02", '"2026-01-02"'),
        (JSON, "long", "7", 7),
        (JSON, "string", "plain", "plain"),
        (LONG, "long", "no number, but cast as it is: 3"[-1], 3),
        (DATE, "timestamp", 1, utc(1970, 1, 1, 0, 0, 1)),
    ],
)
def test_casts(source: ColumnType, target: str, value: object, expected: object) -> None:
    """Casts have Spark's meaning."""
    made, changes = convert(plan(source, cast=target), value)
    assert made == expected
    assert type(made) is type(expected)
    assert changes == []


@pytest.mark.parametrize(
    ("source", "target", "value", "reason"),
    [
        (STRING, "int", "", CAST),
        (STRING, "int", "twelve", CAST),
        (STRING, "int", "2147483648", SIZE),
        (LONG, "byte", 128, SIZE),
        (LONG, "short", -32769, SIZE),
        (STRING, "long", "1e3", CAST),
        (LONG, "long", "1e999999999", SIZE),
        (STRING, "timestamp", "2026-01-02 03:04:05 ../etc", CAST),
        (STRING, "timestamp", "2026-01-02 03:04:05 Europe", CAST),
        (STRING, "timestamp", "2026-01-02 03:04:05 No/Where", CAST),
        (STRING, "timestamp", "0044-03-15 03:04:05 Europe/Berlin BC", CAST),
        (STRING, "timestamp", "2026-01-02 03:04:05+05:60", CAST),
        (DOUBLE, "long", 1e300, SIZE),
        (STRING, "float", "1e39", SIZE),
        (STRING, "double", "1e309", SIZE),
        (STRING, "double", "NaN0", CAST),
        (STRING, "decimal", "NaN", CAST),
        (STRING, "decimal(3,1)", "100", SIZE),
        (STRING, "decimal(3,1)", "99.95", SIZE),
        (STRING, "boolean", "maybe", CAST),
        (STRING, "date", "2026-02-30", CAST),
        (STRING, "date", "02.01.2026", CAST),
        (STRING, "timestamp", "2026-01-02T03:04:05+99:00", CAST),
        (LONG, "timestamp", 10**15, SIZE),
        (DOUBLE, "timestamp", D("1E+999999999"), SIZE),
        (STRING, "time", "noon", CAST),
        (STRING, "json", "{a: 1}", CAST),
        (STRING, "json", "", CAST),
        (STRING, "binary", "\ud800", SERIAL),
        (BINARY, "binary", "no base64!", CAST),
        (JSON, "long", {"a": 1}, CAST),
        (JSON, "boolean", [True], CAST),
        (JSON, "date", 1, CAST),
        (JSON, "time", 1, CAST),
        (JSON, "binary", 1, CAST),
        (JSON, "timestamp", True, CAST),
        (DATE, "boolean", "0044-03-15 BC", CAST),
        (DATE, "long", "0044-03-15 BC", CAST),
        (TIMESTAMP, "boolean", "0044-03-15T00:00:00 BC", CAST),
        (DATE, "binary", "0044-03-15 BC", CAST),
    ],
)
def test_casts_that_fail(source: ColumnType, target: str, value: object, reason: str) -> None:
    """A failed cast is null with a reason; nothing wraps around."""
    assert convert(plan(source, cast=target), value) == (None, [change(reason)])


def test_texts_of_thousands_of_digits() -> None:
    """Python refuses to make numbers of them, for the time that it takes; zeros in front do not count."""
    assert convert(plan(STRING, cast="int"), "-" + "0" * 5000 + "7") == (-7, [])
    assert convert(plan(STRING, cast="int"), "1." + "9" * 5000) == (1, [])
    assert convert(plan(STRING, cast="long"), "9" * 5000) == (None, [change(SIZE)])


def test_not_a_number_and_zero_keep_what_they_are() -> None:
    """They are not equal to themselves, or equal to another."""
    (nan, _), (zero, _) = (convert(plan(STRING, cast="float"), text) for text in (" -NaN ", "-0.0"))
    assert math.isnan(nan)
    assert math.copysign(1, zero) == -1


KINDS: list[tuple[ColumnType, list[str]]] = [
    (source, values) for source, values in EDGES if source in (STRING, BOOLEAN, LONG, DOUBLE)
]


@pytest.mark.parametrize(("source", "values"), KINDS, ids=[str(source) for source, _ in KINDS])
def test_what_json_columns_hold_is_cast_as_what_it_is(source: ColumnType, values: list[str]) -> None:
    """A text, number or boolean in a JSON column becomes what it would become in a column of its own type."""
    for target in TARGET_TYPES:
        if target == "json" or cast_problem(source, TARGET_TYPES[target]):
            continue
        for value in values:
            alone, inside = (cast_outcome(kind, target, value) for kind in (source, JSON))
            assert repr(alone) == repr(inside), f"{value} to {target}"


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join), st.sampled_from([*TARGET_TYPES])
)
def test_space_around_a_text_does_not_matter(text: str, target: str) -> None:
    """Neither to its value nor to the reason why it has none; but strings, JSON and bytes keep it."""
    if target in ("string", "json", "binary"):
        return
    bare = text.strip(SPACE + "\x7f")
    around = cast_outcome(STRING, target, json.dumps(f"\t {bare}\n "))
    assert repr(around) == repr(cast_outcome(STRING, target, json.dumps(bare))) or bare.startswith("T")
