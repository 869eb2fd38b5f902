"""Names of cast targets, and casts that can never work."""

from __future__ import annotations

import pytest

from airberg.columns.targets import TARGET_TYPES, cast_problem, parse_target_type
from airberg.columns.types import (
    BINARY,
    BOOLEAN,
    BYTE,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    JSON,
    LONG,
    SHORT,
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("string", STRING),
        ("int", INT),
        ("integer", INT),
        ("long", LONG),
        ("bigint", LONG),
        ("short", SHORT),
        ("smallint", SHORT),
        ("byte", BYTE),
        ("tinyint", BYTE),
        ("float", FLOAT),
        ("double", DOUBLE),
        ("decimal", Decimal(38, 9)),
        ("decimal(10,2)", Decimal(10, 2)),
        ("DECIMAL ( 38 , 38 )", Decimal(38, 38)),
        ("decimal(5)", Decimal(5, 0)),
        ("boolean", BOOLEAN),
        ("date", DATE),
        (" Timestamp ", TIMESTAMPTZ),
        ("timestamp_ntz", TIMESTAMP),
        ("time", TIME),
        ("binary", BINARY),
        ("JSON", JSON),
    ],
)
def test_target_types(text: str, expected: ColumnType) -> None:
    """Every name of the contract, in any case."""
    assert parse_target_type(text) == expected


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("strng", '"string"'),
        ("timestampz", '"timestamp"'),
        ("varchar", "known: string"),
        ("", "known: string"),
        ("decimal(39,0)", "1 to 38"),
        ("decimal(0,0)", "1 to 38"),
        ("decimal(5,6)", "1 to 38"),
        ("decimal(5,-1)", '"decimal"'),
        ("x" * 5000, "known: string"),
    ],
)
def test_unknown_target_types(text: str, hint: str) -> None:
    """The error names the nearest type, and stays short."""
    with pytest.raises(ValueError, match=r".") as e:
        parse_target_type(text)
    assert hint in str(e.value)
    assert len(str(e.value)) < 300


def test_narrow_integers_are_stored_as_int() -> None:
    """`byte` and `short` limit the range of a cast; the table has `int`."""
    assert [stored_type(t) for t in (BYTE, SHORT, INT, LONG, JSON)] == [INT, INT, INT, LONG, JSON]


STRUCT, LIST, DEC = Struct((Field("a", LONG),)), List(LONG), Decimal(10, 2)
NUMBERS = {BYTE, SHORT, INT, LONG, FLOAT, DOUBLE, DEC}
MOMENTS = {TIMESTAMP, TIMESTAMPTZ}
EVERY = set(TARGET_TYPES.values()) | {DEC}


@pytest.mark.parametrize(
    ("source", "targets"),
    [
        (STRING, EVERY),
        (JSON, EVERY),
        (STRUCT, {STRING, JSON}),
        (LIST, {STRING, JSON}),
        (LONG, {STRING, JSON, BOOLEAN, Decimal(38, 9)} | NUMBERS | MOMENTS),
        (BOOLEAN, {STRING, JSON, BOOLEAN, Decimal(38, 9)} | NUMBERS),
        (DATE, {STRING, JSON, DATE} | MOMENTS),
        (TIME, {STRING, JSON, TIME}),
        (TIMESTAMPTZ, {STRING, JSON, DATE, TIME, Decimal(38, 9)} | NUMBERS | MOMENTS),
        (BINARY, {STRING, JSON, BINARY}),
    ],
)
def test_possible_casts(source: ColumnType, targets: set[ColumnType]) -> None:
    """Exactly these targets are possible from each kind of source."""
    assert {t for t in EVERY if cast_problem(source, t) is None} == targets


def test_the_problem_is_a_sentence() -> None:
    """An impossible cast says why."""
    assert cast_problem(STRUCT, INT) == "an object can only be cast to string or json."
    assert cast_problem(TIME, LONG) == "a time can never become a long."
