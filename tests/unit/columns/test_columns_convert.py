"""Reading, casting and encrypting single values."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal as D
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.columns.arrow import arrow_type, python_values
from airberg.columns.convert import Change, converter
from airberg.columns.far_dates import FarDate, FarTimestamp, FarTimestamptz, day_at, moment_in_utc
from airberg.columns.targets import TARGET_TYPES, parse_target_type
from airberg.columns.types import (
    BINARY,
    BOOLEAN,
    DATE,
    DOUBLE,
    JSON,
    LONG,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    ColumnType,
    Decimal,
    Field,
    List,
    Struct,
    stored_type,
)
from airberg.keys.cipher import ColumnCipher, decrypt_value
from airberg.keys.port import DataKey
from airberg.plan.model import ColumnPlan, EncryptRule

KEY = DataKey("k", 1, 7, bytes(range(32)))
CAST, SIZE, SERIAL = (
    "DESTINATION_TYPECAST_ERROR",
    "DESTINATION_FIELD_SIZE_LIMITATION",
    "DESTINATION_SERIALIZATION_ERROR",
)
PERSON = Struct((Field("id", LONG), Field("tags", List(STRING)), Field("born", DATE)))
SOURCES: list[ColumnType] = [
    BOOLEAN,
    LONG,
    DOUBLE,
    Decimal(38, 0),
    Decimal(5, 2),
    DATE,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    STRING,
    BINARY,
    JSON,
    PERSON,
    List(PERSON),
    List(List(LONG)),
]


def cipher_for(rule: EncryptRule) -> ColumnCipher:
    """The cipher of any rule, with a fixed key."""
    return ColumnCipher(KEY, rule.aad.encode(), rule.mode)


def plan(source: ColumnType, cast: str | None = None, encrypt: str | None = None) -> ColumnPlan:
    """The plan of a column `c` from the property `p`, as the planner would make it."""
    target = parse_target_type(cast) if cast else None
    rule = EncryptRule(key_name="k", mode=encrypt, aad="a.b.c") if encrypt else None  # type: ignore[arg-type]  # text
    kind = stored_type(target) if target else source
    return ColumnPlan(
        source="p", name="c", source_type=source, type=BINARY if rule else kind, cast_to=target, encrypt=rule
    )


def convert(column: ColumnPlan, value: Any) -> tuple[Any, list[Change]]:
    """One value through a fresh converter."""
    changes: list[Change] = []
    return converter(column, cipher_for)(value, changes), changes


def change(reason: str, field: str = "c") -> Change:
    """The change of a value that was nulled."""
    return {"field": field, "change": "NULLED", "reason": reason}


# ---- reading -----------------------------------------------------------------------------------------------


def utc(*parts: int) -> dt.datetime:
    """A moment in UTC."""
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[misc]  # year, month, day at least


def day(year: int, month: int, date: int) -> FarDate:
    """A day of any year, by the calendar's own rule: every 400 years are 146,097 days."""
    in_cycle = dt.date(year % 400 + 400, month, date)
    return FarDate((in_cycle - dt.date(1970, 1, 1)).days + (year // 400 - 1) * 146_097)


def far(kind: type[Any], year: int, month: int, date: int, *clock: int) -> Any:
    """A moment of any year."""
    passed = dt.datetime(1, 1, 1, *clock) - dt.datetime(1, 1, 1)
    return kind((day(year, month, date) * 86_400_000_000) + passed // dt.timedelta(microseconds=1))


@pytest.mark.parametrize(
    ("source", "value", "expected"),
    [
        (BOOLEAN, True, True),
        (BOOLEAN, False, False),
        (LONG, 2**63 - 1, 2**63 - 1),
        (LONG, 3.0, 3),
        (LONG, D("3.00"), 3),
        (LONG, "12", 12),
        (LONG, "-1e3", -1000),
        (DOUBLE, 1, 1.0),
        (DOUBLE, D("0.1"), 0.1),
        (DOUBLE, "2.5", 2.5),
        (DOUBLE, 2**64, float(2**64)),
        (DOUBLE, D("1E-999"), 0.0),
        (Decimal(38, 0), 10**37, D(10**37)),
        (Decimal(38, 0), "123", D(123)),
        (Decimal(38, 0), D("1E+2"), D(100)),
        (Decimal(5, 2), D("1.5"), D("1.50")),
        (Decimal(5, 2), 1.25, D("1.25")),
        (DATE, "2026-01-02", dt.date(2026, 1, 2)),
        (DATE, "2026-01-02T00:00:00Z", dt.date(2026, 1, 2)),
        (DATE, "0044-03-15 BC", day(-43, 3, 15)),
        (DATE, "-0043-03-15", day(-43, 3, 15)),
        (DATE, "-000043-03-15T00:00:00.000Z", day(-43, 3, 15)),
        (DATE, "0044-03-15T00:00:00 BC", day(-43, 3, 15)),
        (DATE, "0001-02-29 BC", day(0, 2, 29)),
        (DATE, "0000-12-31", day(0, 12, 31)),
        (DATE, "+2026-01-02", dt.date(2026, 1, 2)),
        (DATE, "10000-01-01", day(10000, 1, 1)),
        (DATE, "5881580-07-10", FarDate(2**31 - 2)),
        (TIMESTAMPTZ, "0044-03-15T12:00:00Z BC", far(FarTimestamptz, -43, 3, 15, 12)),
        (TIMESTAMPTZ, "0044-03-15 12:00:00.5+00 BC", far(FarTimestamptz, -43, 3, 15, 12, 0, 0, 500_000)),
        (TIMESTAMPTZ, "0001-01-01T00:00:00+05:00", far(FarTimestamptz, 0, 12, 31, 19)),
        (TIMESTAMPTZ, "0001-12-31T23:00:00-05:00 BC", utc(1, 1, 1, 4)),
        (TIMESTAMPTZ, "9999-12-31T23:59:59-05:00", far(FarTimestamptz, 10000, 1, 1, 4, 59, 59)),
        (TIMESTAMPTZ, "+012026-01-01T00:00:00z", far(FarTimestamptz, 12026, 1, 1)),
        (TIMESTAMP, "0044-03-15T12:00:00 BC", far(FarTimestamp, -43, 3, 15, 12)),
        (TIMESTAMP, "0044-03-15T12:00:00+05:00 BC", far(FarTimestamp, -43, 3, 15, 7)),
        (TIME, "03:04:05.1", dt.time(3, 4, 5, 100000)),
        (TIME, "01:30:00+05:00", dt.time(20, 30)),
        (TIME, "01:30:00z", dt.time(1, 30)),
        (TIMESTAMPTZ, "2026-01-02T03:04:05Z", utc(2026, 1, 2, 3, 4, 5)),
        (TIMESTAMPTZ, "2026-01-02t03:04:05z", utc(2026, 1, 2, 3, 4, 5)),
        (TIMESTAMPTZ, "2026-01-02T03:04:05+05:00", utc(2026, 1, 1, 22, 4, 5)),
        (TIMESTAMPTZ, "2026-01-02 03:04:05.123456999", utc(2026, 1, 2, 3, 4, 5, 123456)),
        (TIMESTAMPTZ, "2026-01-02", utc(2026, 1, 2)),
        (TIMESTAMP, "2026-01-02T03:04:05", dt.datetime(2026, 1, 2, 3, 4, 5)),
        (TIMESTAMP, "2026-01-02T03:04:05+05:00", dt.datetime(2026, 1, 1, 22, 4, 5)),
        (STRING, "", ""),
        (STRING, 12, "12"),
        (STRING, D("1.10"), "1.10"),
        (STRING, D("1E-7"), "0.0000001"),
        (STRING, D("1E+400"), "1E+400"),
        (STRING, True, "true"),
        (STRING, {"a": [1, D("1.10")]}, '{"a":[1,1.10]}'),
        (BINARY, "AP8=", b"\x00\xff"),
        (JSON, "a", '"a"'),
        (JSON, [1, {"b": None}], '[1,{"b":null}]'),
        (JSON, "\ud800", '"\\ud800"'),
        (List(LONG), [1, None, 2.0], [1, None, 2]),
        (List(LONG), [], []),
        (PERSON, {"born": "2026-01-02", "x": 1}, {"id": None, "tags": None, "born": dt.date(2026, 1, 2)}),
        (List(List(LONG)), [[1], None, []], [[1], None, []]),
    ],
)
def test_values_that_fit(source: ColumnType, value: object, expected: object) -> None:
    """Declared values, and others of which nothing is lost, arrive without a change."""
    made, changes = convert(plan(source), value)
    assert made == expected
    assert type(made) is type(expected)
    assert changes == []


@pytest.mark.parametrize(
    ("source", "value", "reason"),
    [
        (BOOLEAN, 1, CAST),
        (BOOLEAN, "true", CAST),
        (LONG, 2**63, SIZE),
        (LONG, -(2**63) - 1, SIZE),
        (LONG, 1.5, CAST),
        (LONG, D("1E+999999999"), SIZE),
        (LONG, D("1E-999999999"), CAST),
        (LONG, "1e999999999", SIZE),
        (LONG, D("Infinity"), CAST),
        (LONG, True, CAST),
        (LONG, "abc", CAST),
        (LONG, "NaN", CAST),
        (LONG, "1_000", CAST),
        (LONG, " 1", CAST),
        (LONG, "٣", CAST),
        (DOUBLE, D("1E+400"), SIZE),
        (DOUBLE, 10**400, SIZE),
        (DOUBLE, "Infinity", CAST),
        (DOUBLE, "NaN", CAST),
        (DOUBLE, False, CAST),
        (Decimal(38, 0), 10**38, SIZE),
        (Decimal(38, 0), D("1E+999999999"), SIZE),
        (Decimal(38, 0), 1.5, CAST),
        (Decimal(38, 0), D("NaN"), CAST),
        (Decimal(5, 2), D("1.555"), CAST),
        (Decimal(5, 2), 1000, SIZE),
        (DATE, "2026-02-30", CAST),
        (DATE, "2026-01-02T03:00:00Z", CAST),
        (DATE, 20260102, CAST),
        (DATE, "0000-12-31 BC", CAST),
        (DATE, "-0000-12-31", CAST),
        (DATE, "-0043-03-15 BC", CAST),
        (DATE, "0002-02-29 BC", CAST),
        (DATE, "-43-03-15", CAST),
        (DATE, "0044-03-15 BCE", CAST),
        (DATE, "0044-03-15BC", CAST),
        (DATE, "9999999-01-01", SIZE),
        (DATE, "9999999-01-01 BC", SIZE),
        (TIMESTAMPTZ, "300000-01-01T00:00:00Z", SIZE),
        (TIMESTAMP, "300000-01-01T00:00:00 BC", SIZE),
        (TIME, "25:00", CAST),
        (TIMESTAMPTZ, "2026-13-01T00:00:00Z", CAST),
        (TIMESTAMPTZ, 1700000000, CAST),
        (TIMESTAMP, "", CAST),
        (STRING, "\ud800", SERIAL),
        (BINARY, "not base64!", CAST),
        (BINARY, 1, CAST),
        (List(LONG), {"a": 1}, CAST),
        (PERSON, "x", CAST),
        (PERSON, [], CAST),
    ],
)
def test_values_that_do_not_fit(source: ColumnType, value: object, reason: str) -> None:
    """They become null with a change that says why."""
    assert convert(plan(source), value) == (None, [change(reason)])


def test_changes_name_the_place_in_the_table() -> None:
    """Inside structs and lists only the member is nulled; each place is named once per row."""
    value = [{"id": "x", "tags": 1}, {"id": 1.5, "tags": ["\ud800", "\ud800"]}, "no"]
    made, changes = convert(plan(List(PERSON)), value)
    assert made == [
        {"id": None, "tags": None, "born": None},
        {"id": None, "tags": [None, None], "born": None},
        None,
    ]
    assert changes == [
        change(CAST, "c.element.id"),
        change(CAST, "c.element.tags"),
        change(SERIAL, "c.element.tags.element"),
        change(CAST, "c.element"),
    ]


def test_renamed_and_dropped_members_of_structs() -> None:
    """A struct is read by source names and written by table names; what the plan lacks is left out."""
    inner = ColumnPlan(source="id", name="person_id", source_type=LONG, type=LONG)
    kind = Struct((Field("person_id", LONG),))
    column = ColumnPlan(source="p", name="c", source_type=PERSON, type=kind, children=(inner,))
    assert convert(column, {"id": 1, "born": "x"}) == ({"person_id": 1}, [])
    assert convert(column, {"id": "x"}) == ({"person_id": None}, [change(CAST, "c.person_id")])


# ---- casts -------------------------------------------------------------------------------------------------

MOMENT = "2026-01-02T03:04:05.5+05:00"


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
        (STRING, "timestamp_ntz", "2026-01-02T03:04:05+05:00", dt.datetime(2026, 1, 1, 22, 4, 5)),
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
        (STRING, "long", "1e999999999", SIZE),
        (DOUBLE, "long", 1e300, SIZE),
        (STRING, "float", "1e39", SIZE),
        (STRING, "double", "1e309", SIZE),
        (STRING, "double", "NaN", CAST),
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


# ---- encryption --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "cast", "value", "text"),
    [
        (STRING, None, "ünï", "ünï"),
        (LONG, None, 3.0, "3"),
        (DOUBLE, None, 3, "3.0"),
        (BOOLEAN, None, True, "true"),
        (TIMESTAMPTZ, None, MOMENT, "2026-01-01T22:04:05.500000Z"),
        (TIMESTAMP, None, "2026-01-02", "2026-01-02T00:00:00.000000"),
        (DATE, None, "2026-01-02", "2026-01-02"),
        (DATE, None, "0044-03-15 BC", "-0043-03-15"),
        (DATE, None, "12026-01-02", "12026-01-02"),
        (TIMESTAMPTZ, None, "0044-03-15T12:00:00.5Z BC", "-0043-03-15T12:00:00.500000Z"),
        (TIMESTAMP, None, "0001-03-15T12:00:00 BC", "0000-03-15T12:00:00.000000"),
        (BINARY, None, "YWJj", "abc"),
        (STRING, "decimal(10,2)", "1.5", "1.50"),
        (JSON, None, {"b": 1, "a": D("1.10")}, '{"a":1.10,"b":1}'),
        (JSON, None, "x", '"x"'),
        (STRING, "json", '{"b": 1, "a": 2}', '{"a":2,"b":1}'),
        (PERSON, None, {"id": 1, "born": "?"}, '{"born":"?","id":1}'),
        (List(LONG), None, [2, 1], "[2,1]"),
        (PERSON, "string", {"b": 1, "a": 2}, '{"b":1,"a":2}'),
    ],
)
@pytest.mark.parametrize("mode", ["random", "deterministic"])
def test_encryption_comes_last(
    source: ColumnType, cast: str | None, value: object, text: str, mode: str
) -> None:
    """What is encrypted is the canonical text of the value after its cast."""
    made, changes = convert(plan(source, cast, mode), value)
    assert changes == []
    assert decrypt_value([KEY], made, b"a.b.c").decode() == text


def test_encrypted_nulls_and_misfits_stay_null() -> None:
    """A null is not encrypted, nor is a value that does not fit; only the second is a change."""
    column = plan(LONG, None, "deterministic")
    assert convert(column, None) == (None, [])
    assert convert(column, "x") == (None, [change(CAST)])
    assert convert(plan(STRING, None, "random"), "\ud800") == (None, [change(SERIAL)])


# ---- properties --------------------------------------------------------------------------------------------

NUMBER_TEXTS = st.sampled_from(
    ["1", "-1.5", "1e5", "true", "2026-01-02", "2026-01-02T03:04:05Z", "AP8=", "{}"]
)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**45), 10**45)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=12)
    | NUMBER_TEXTS,
    lambda c: (
        st.lists(c, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "tags", "born"]) | st.text(max_size=3), c, max_size=4)
    ),
    max_leaves=12,
)
TARGETS = st.none() | st.sampled_from([*TARGET_TYPES, "decimal(5,2)"])
MODES = st.sampled_from([None, None, "random", "deterministic"])


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(SOURCES), TARGETS, MODES, st.lists(JSON_VALUES, min_size=1, max_size=8))
def test_a_converter_never_raises(
    source: ColumnType, cast: str | None, mode: str | None, values: list[object]
) -> None:
    """Any JSON for any column: Arrow takes what comes out, and what became null left a change."""
    column = plan(source, cast, mode)
    for value in values:
        made, changes = convert(column, value)
        pa.array([made], arrow_type(column.type)).validate(full=True)
        if value is None:
            assert (made, changes) == (None, [])
        elif made is None:
            assert [c["field"] for c in changes] == ["c"]
        for c in changes:
            assert c["change"] == "NULLED"
            assert c["reason"] in (CAST, SIZE, SERIAL)
            assert c["field"].split(".")[0] == "c"


ROUND_TRIPS: list[tuple[ColumnType, st.SearchStrategy[Any], Any]] = [
    (LONG, st.integers(-(2**63), 2**63 - 1), int),
    (DOUBLE, st.floats(allow_nan=False, allow_infinity=False), float),
    (BOOLEAN, st.booleans(), bool),
    (STRING, st.text(st.characters(exclude_categories=["Cs"])), str),
    (Decimal(38, 0), st.integers(-(10**38) + 1, 10**38 - 1), int),
    (DATE, st.dates().map(str), str),
    (DATE, st.integers(-(2**31) + 2, 2**31 - 2).map(lambda n: str(day_at(n))), str),
    (
        TIMESTAMPTZ,
        st.integers(-9_223_372_022_400_000_000, 9_223_372_022_400_000_000).map(
            lambda n: str(m) if isinstance(m := moment_in_utc(n), int) else m.isoformat()
        ),
        lambda v: v if isinstance(v, str) else v.isoformat(),
    ),
    (TIME, st.times().map(str), str),
    (TIMESTAMP, st.datetimes().map(dt.datetime.isoformat), lambda v: v.isoformat()),
    (
        TIMESTAMPTZ,
        st.datetimes(timezones=st.just(dt.UTC)).map(dt.datetime.isoformat),
        lambda v: v.isoformat(),
    ),
    (List(LONG), st.lists(st.integers(-(2**63), 2**63 - 1)), list),
]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_declared_values_survive(data: st.DataObject) -> None:
    """Every value of its declared type goes through Arrow and comes back as it was."""
    source, values, back = data.draw(st.sampled_from(ROUND_TRIPS))
    value = json.loads(json.dumps(data.draw(values)))
    made, changes = convert(plan(source), value)
    assert changes == []
    (stored,) = python_values(pa.array([made], arrow_type(source)))
    assert back(stored) == value


@settings(max_examples=60, deadline=None)
@given(JSON_VALUES)
def test_json_columns_hold_json(value: object) -> None:
    """The text of a JSON column is JSON, whatever the value (Arrow has no half surrogate pairs)."""
    made, changes = convert(plan(JSON), value)
    assert changes == []
    if made is not None:
        json.loads(made)
