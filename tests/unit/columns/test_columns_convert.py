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
from airberg.columns.far_dates import FarDate, FarTimestamp, FarTimestamptz, day_at, moment_in_utc
from airberg.columns.masking import masked
from airberg.columns.targets import TARGET_TYPES
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
)
from airberg.keys.cipher import decrypt_value
from airberg.keys.hashing import ColumnHash
from airberg.plan.model import ColumnPlan, MaskRule
from support.column_values import (
    CAST,
    KEY,
    MOMENT,
    PERSON,
    SERIAL,
    SIZE,
    change,
    convert,
    day,
    far,
    plan,
    utc,
)

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


# ---- reading -----------------------------------------------------------------------------------------------


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


# ---- encryption --------------------------------------------------------------------------------------------


TEXTS: list[tuple[ColumnType, str | None, object, str]] = [
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
]


@pytest.mark.parametrize(("source", "cast", "value", "text"), TEXTS)
@pytest.mark.parametrize("mode", ["random", "deterministic"])
def test_encryption_comes_last(
    source: ColumnType, cast: str | None, value: object, text: str, mode: str
) -> None:
    """What is encrypted is the canonical text of the value after its cast."""
    made, changes = convert(plan(source, cast, mode), value)
    assert changes == []
    assert decrypt_value([KEY], made, b"a.b.c").decode() == text


@pytest.mark.parametrize(("source", "cast", "value", "text"), TEXTS)
def test_hashes_and_masks_are_of_the_same_text(
    source: ColumnType, cast: str | None, value: object, text: str
) -> None:
    """What is hashed or masked is what would be encrypted."""
    assert convert(plan(source, cast, "hash"), value) == (ColumnHash(KEY).hash_value(text.encode()), [])
    assert convert(plan(source, cast, "mask"), value) == (masked(text, MaskRule()), [])


@pytest.mark.parametrize("protect", ["hash", "mask"])
def test_hashed_and_masked_nulls_and_misfits_stay_null(protect: str) -> None:
    """As with encryption: only what does not fit is a change, and that says nothing of the value."""
    column = plan(LONG, None, protect)
    assert convert(column, None) == (None, [])
    assert convert(column, "x") == (None, [change(CAST)])
    assert convert(plan(STRING, None, protect), "\ud800") == (None, [change(SERIAL)])


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
MODES = st.sampled_from([None, None, "random", "deterministic", "hash", "mask"])


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
