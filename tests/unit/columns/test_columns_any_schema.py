"""Any schema, any records: nothing raises, nothing is lost silently.

What a column must hold is worked out here once more, in another way than the code has it: every value is
either there without loss, or null with exactly one change at its place.
"""

from __future__ import annotations

import base64
import json
import re
from decimal import Decimal as D
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.columns.types import ColumnType, Decimal, Field, Json, List, Primitive, Struct
from airberg.plan.model import ColumnPlan, IngestRequest
from airberg.plan.planner import Connector, build_plan
from support.column_batches import builder, by_value, rows_of
from support.key_directory import keys_named
from support.record_builders import WAYS, Way, built_by

# ---- schemas -----------------------------------------------------------------------------------------------


def typed(name: str, **more: object) -> dict[str, object]:
    """A schema of a type."""
    return {"type": name, **more}


LEAVES: list[dict[str, object]] = [
    typed("integer"),
    typed("number", airbyte_type="integer"),
    typed("number"),
    typed("string", airbyte_type="big_integer"),
    typed("number", airbyte_type="big_number"),
    typed("boolean"),
    typed("string"),
    typed("string", format="email"),
    typed("string", format="date"),
    typed("string", format="date-time"),
    typed("string", format="date-time", airbyte_type="timestamp_with_timezone"),
    typed("string", format="date-time", airbyte_type="timestamp_without_timezone"),
    typed("string", format="time"),
    typed("string", airbyte_type="time_with_timezone"),
    typed("string", contentEncoding="base64"),
    typed("string", airbyte_type="binary_data"),
    typed("object"),
    typed("array"),
    {"type": ["null", "integer"]},
    {"type": ["string", "integer"]},
    {"type": []},
    {"type": ["null"]},
    {"format": "date"},
    {"oneOf": [{"type": "null"}, {"type": "boolean"}]},
    {"anyOf": [{"type": "string"}, {"type": "integer"}]},
    {"oneOf": [typed("object", properties={"a": typed("integer")}), typed("object", properties={"b": {}})]},
    typed("object", additionalProperties=typed("string")),
    typed("object", patternProperties={"^x": typed("string")}),
    typed("array", items=[typed("string"), typed("integer")]),
    {"$ref": "WellKnownTypes.json#/definitions/Date"},
    {"$ref": "#/definitions/point"},
    {"$ref": "#"},
    {},
]
POINT = typed("object", properties={"x": typed("number"), "y": typed("integer")})
NAMES = st.sampled_from(
    ["a", "A", "b", "x", "a.b", "Id", "id", "select", 'q"', "", "n\x00", "名前", "c0", "\\"]
)
SCHEMAS = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: (
        st.dictionaries(NAMES, inner, max_size=4).map(lambda p: typed("object", properties=p))
        | inner.map(lambda s: typed("array", items=s))
        | inner.map(lambda s: {"anyOf": [{"type": "null"}, s]})
    ),
    max_leaves=6,
)

# ---- values ------------------------------------------------------------------------------------------------


LETTERS = st.text(st.characters(exclude_categories=["Nd", "Cs", "Nl", "No"]), max_size=6)
HOSTILE_NUMBERS = [
    "NaN",
    "nan",
    "Infinity",
    "-",
    "1_000",
    "٣",
    "0x10",
    "1e999999999",
    "1e400",
    "-0.0",
    "1.50",
]
HOSTILE_DATES = [
    "2026-02-30",
    "2026-13-01",
    "0000-00-00",
    "24:00",
    "0000-01-01 BC",
    "20-1-1",
    "2026-01-02T25:00:00Z",
]
HOSTILE = ["", " ", "\ud800", "x\udc00y", "a\x00b", "null", "true", "{", '"', "é" * 3_000, "AP8", "A=P8", "="]
HOSTILE_TEXTS = st.sampled_from([*HOSTILE, *HOSTILE_NUMBERS, *HOSTILE_DATES])
DATES = st.builds(
    lambda y, m, d, bc: f"{y:04}-{m:02}-{d:02}{bc}",
    st.integers(1, 12_026),
    st.integers(1, 12),
    st.integers(1, 31),
    st.sampled_from(["", " BC"]),
)
CLOCKS = st.times().map(lambda t: t.isoformat(timespec="microseconds"))
OFFSETS = st.sampled_from(["", "Z", "+05:30", "-08:00"])
MOMENTS = st.builds(
    lambda d, c, o: f"{d[:-3]}T{c}{o} BC" if d.endswith(" BC") else f"{d}T{c}{o}", DATES, CLOCKS, OFFSETS
)
NUMBERS = (
    st.integers(-(10**40), 10**40)
    | st.integers(-3, 3)
    | st.sampled_from(
        [2**63, 2**63 - 1, -(2**63), -(2**63) - 1, 10**38, 10**38 - 1, 2**53 + 1, D("9" * 5_000)]
    )
    | st.decimals(-(10**20), 10**20, places=3)
    | st.floats(allow_nan=False, allow_infinity=False).map(lambda f: D(repr(f)))
    | st.sampled_from([D("1E+400"), D("-1E-400"), D("1.0"), D("3.000"), D("-0.0"), D("1E+3"), D("1E+999999")])
)
SCALARS = (
    st.none()
    | st.booleans()
    | NUMBERS
    | LETTERS
    | HOSTILE_TEXTS
    | DATES
    | MOMENTS
    | CLOCKS
    | st.builds(str, st.integers(-(10**40), 10**40))
    | st.binary(max_size=5).map(lambda b: base64.b64encode(b).decode())
)
VALUES = st.recursive(
    SCALARS, lambda c: st.lists(c, max_size=3) | st.dictionaries(NAMES, c, max_size=4), max_leaves=6
)


def fitting(schema: Any) -> st.SearchStrategy[Any]:
    """Values that are more likely to fit, at every depth."""
    if isinstance(schema, dict) and isinstance(schema.get("properties"), dict):
        members = {n: fitting(s) for n, s in schema["properties"].items()}
        return st.fixed_dictionaries({}, optional=members) | VALUES
    if isinstance(schema, dict) and isinstance(schema.get("items"), dict):
        return st.lists(fitting(schema["items"]), max_size=3) | VALUES
    if isinstance(schema, dict) and isinstance(schema.get("anyOf"), list):
        return fitting(schema["anyOf"][-1])
    return VALUES


def text_of(value: Any) -> str:
    """The value as JSON text, with every digit that it has."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)}: {text_of(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(text_of, value)) + "]"
    if isinstance(value, D):
        return str(value)
    return json.dumps(value)


# ---- the oracle --------------------------------------------------------------------------------------------

NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,9})?", re.ASCII)
MOMENT = re.compile(
    r"(\d{4,5})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d):(\d\d)\.(\d{6})(Z|[+-]\d\d:\d\d)?)?( BC)?", re.ASCII
)
CLOCK = re.compile(r"(\d\d):(\d\d):(\d\d)\.(\d{6})", re.ASCII)
DAY = 86_400_000_000


class Misfit(Exception):
    """The value has no place in the column."""


def number(value: Any) -> D:
    """What a value is as a number."""
    if isinstance(value, str) and NUMBER.fullmatch(value):
        return D(value)
    if isinstance(value, int | D) and not isinstance(value, bool):
        return D(value)
    raise Misfit


def whole(value: Any, low: int, high: int) -> D:
    """A whole number of a range."""
    found = number(value)
    if found.adjusted() > 50 or found != found.to_integral_value() or not low <= found <= high:
        raise Misfit
    return found


def days(year: int, month: int, day: int) -> int:
    """Days since 1970, by counting (H. Hinnant, days_from_civil)."""
    lengths = [31, 28 + (year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)), 31, 30, 31, 30]
    if not 1 <= day <= [*lengths, 31, 31, 30, 31, 30, 31][month - 1]:
        raise Misfit
    y = year - (month <= 2)
    era, of_era = y // 400, y % 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def moment(value: Any, *, midnight: bool = False) -> int:
    """Microseconds since 1970 in UTC; of a date, or of what says midnight, those of the day as written."""
    match = MOMENT.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise Misfit
    year, month, day, *clock, offset, bc = match.groups()
    if not int(year):
        raise Misfit
    hour, minute, second, micro = (int(c or 0) for c in clock)
    micros = days(1 - int(year) if bc else int(year), int(month), int(day)) * DAY
    passed = ((hour * 60 + minute) * 60 + second) * 1_000_000 + micro
    if hour > 23 or minute > 59 or second > 59 or (midnight and passed):
        raise Misfit
    if offset not in (None, "Z") and not midnight:
        sign = -1 if offset[0] == "+" else 1
        if int(offset[1:3]) > 23:
            raise Misfit
        passed += sign * (int(offset[1:3]) * 60 + int(offset[4:6])) * 60_000_000
    return micros + passed


def clock_micros(value: Any) -> int:
    """Microseconds of a time of day."""
    match = CLOCK.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise Misfit
    hour, minute, second, micro = map(int, match.groups())
    if hour > 23 or minute > 59 or second > 59:
        raise Misfit
    return ((hour * 60 + minute) * 60 + second) * 1_000_000 + micro


def plain(value: Any) -> Any:
    """JSON that can be compared: numbers by value."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, int | float | D) and not isinstance(value, bool):
        return number(value) if not isinstance(value, float) else D(repr(value))
    return value


def read_json(text: str) -> Any:
    """JSON text as `plain` has it."""
    return json.loads(text, parse_float=D, parse_int=D)


def scalar(column: ColumnType, value: Any) -> Any:
    """What a table must show of a value, in the form of `stored`."""
    if isinstance(column, Json):
        return plain(value)
    if isinstance(column, Decimal):
        return whole(value, -(10**38) + 1, 10**38 - 1)
    assert isinstance(column, Primitive)
    match column.name:
        case "boolean":
            if not isinstance(value, bool):
                raise Misfit
            return value
        case "long":
            return whole(value, -(2**63), 2**63 - 1)
        case "double":
            found = number(value)
            if found.adjusted() > 400 or abs(float(found)) == float("inf"):
                raise Misfit
            return float(found)
        case "string":
            if isinstance(value, str):
                if any("\ud800" <= c <= "\udfff" for c in value):
                    raise Misfit
                return value
            return plain(value)
        case "binary":
            if not isinstance(value, str):
                raise Misfit
            try:
                return base64.b64decode(value.encode("ascii"), validate=True)
            except ValueError:
                raise Misfit from None
        case "date":
            return moment(value, midnight=True)
        case "timestamp" | "timestamptz":
            return moment(value)
        case "time":
            return clock_micros(value)
    raise AssertionError(column)


def stored(column: ColumnType, value: Any, found: Any) -> Any:
    """What the table has, in the form of `scalar`."""
    if isinstance(column, Json):
        return read_json(found)
    if isinstance(column, Primitive):
        match column.name:
            case "string":
                return found if isinstance(value, str) else read_json(found)
            case "date":
                text = str(found)
                return moment(of_any_year(text))
            case "timestamp" | "timestamptz":
                text = found if isinstance(found, str) else found.isoformat(timespec="microseconds")
                return moment(of_any_year(text.replace("+00:00", "Z")))
            case "time":
                return clock_micros(found.isoformat(timespec="microseconds"))
    return found


def of_any_year(text: str) -> str:
    """A year with a sign, or 0, as one BC, which is what the oracle reads."""
    match = re.fullmatch(r"(-?)(\d+)(-.*)", text, re.ASCII)
    assert match
    sign, year, rest = match.groups()
    return f"{1 + int(year):04}{rest} BC" if sign or not int(year) else text


def check(column: ColumnType, value: Any, found: Any, path: str, misfits: set[str]) -> None:
    """Compare one value of a record with what is in the table; places of misfits are collected."""
    if value is None:
        assert found is None
        return
    if isinstance(column, List):
        if not isinstance(value, list):
            assert found is None
            misfits.add(path)
            return
        assert len(found) == len(value)
        for one, item in zip(value, found, strict=True):
            check(column.element, one, item, f"{path}.element", misfits)
        return
    if isinstance(column, Struct):
        if not isinstance(value, dict):
            assert found is None
            misfits.add(path)
            return
        for field in column.fields:
            source = field.name if field.source is None else field.source
            check(field.type, value.get(source), found[field.name], f"{path}.{field.name}", misfits)
        return
    try:
        wanted = scalar(column, value)
    except Misfit:
        assert found is None, (column, value, found)
        misfits.add(path)
        return
    assert stored(column, value, found) == wanted


def with_sources(column: ColumnPlan) -> ColumnType:
    """The type of a column with the names that its members have in records."""
    if not column.children:
        return column.type
    fields = (Field(c.name, with_sources(c), source=c.source) for c in column.children)
    return Struct(tuple(fields))


def columns_of(properties: dict[str, Any]) -> tuple[ColumnPlan, ...]:
    """The plan of a stream with these properties."""
    schema = {"type": "object", "properties": properties, "definitions": {"point": POINT}}
    stream = {"name": "s", "json_schema": schema, "supported_sync_modes": ["full_refresh"]}
    request = IngestRequest(name="n", source_name="source-x", schema_name="shop", mode="append")
    keys = keys_named("default")
    return build_plan(request, Connector("source-x", "1", [stream], 1.0), keys).streams[0].columns


@st.composite
def streams(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A stream's properties, and some records of it."""
    properties = draw(st.dictionaries(NAMES, SCHEMAS, min_size=1, max_size=4))
    members = {name: fitting(schema) for name, schema in properties.items()}
    record = st.fixed_dictionaries({}, optional=members | {"undeclared": VALUES})
    return properties, draw(st.lists(record, max_size=4))


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=150, deadline=None)
@given(streams())
def test_every_value_is_there_or_null_with_its_reason(
    way: Way, case: tuple[dict[str, Any], list[dict[str, Any]]]
) -> None:
    """By either builder; and whole columns at once give what one value at a time does."""
    with built_by(way):
        check_batch(case)


def check_batch(case: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    """One stream through a builder, against the oracle."""
    properties, records = case
    columns = columns_of(properties)
    assert [c.source for c in columns] == list(properties)
    made = builder(columns, add_metadata=True)
    texts = [text_of(record).encode() for record in records]
    rows = rows_of(made, texts)
    assert len(rows) == len(records)
    total = 0
    for row, record in zip(rows, records, strict=True):
        misfits: set[str] = set()
        for column in columns:
            check(with_sources(column), record.get(column.source), row[column.name], column.name, misfits)
        changes = [c["field"] for c in row["_airbyte_meta"]["changes"] or []]
        assert set(changes) == misfits
        places = {(c["field"], c["reason"]) for c in row["_airbyte_meta"]["changes"] or []}
        assert len(places) == len(changes)
        total += len(changes)
    assert made.values_nulled == total
    one_by_one, _ = by_value(columns, texts)
    for row, alone in zip(rows, one_by_one, strict=True):
        for column in columns:
            if "json" not in str(column.type):  # JSON text may have other spaces
                assert row[column.name] == alone[column.name]
