"""Casts of whole arrays: what is not left to the cast of single values is what that would make."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.columns import _casts, cast_arrays
from airberg.columns.arrow import arrow_type
from airberg.columns.canonical import canonical_array
from airberg.columns.cast_arrays import array_cast
from airberg.columns.casting import caster
from airberg.columns.json_text import parse_exact
from airberg.columns.reading import REJECTIONS
from airberg.columns.targets import TARGET_TYPES, cast_problem, parse_target_type
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
from support.cast_edges import EDGES, PIECES
from support.column_batches import builder, by_value, dictionaries, rows_of
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
SOURCES = (
    BOOLEAN,
    LONG,
    DOUBLE,
    Decimal(38, 0),
    Decimal(9, 2),
    STRING,
    JSON,
    DATE,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    BINARY,
    Struct((Field("a", LONG),)),
    List(DOUBLE),
)
TARGETS = (*dict.fromkeys(TARGET_TYPES.values()), *map(parse_target_type, DECIMALS))
PAIRS = [(source, target) for source in SOURCES for target in TARGETS if cast_problem(source, target) is None]

EXAMPLES = 12
# ---- values ------------------------------------------------------------------------------------------------

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
    lambda day, mark, clock, offset, behind: day + mark + clock + offset + behind,
    DAYS,
    st.sampled_from("T t"),
    CLOCKS,
    OFFSETS,
    st.sampled_from(["", "", "", " BC", " remark"]),
)
WORDS = st.sampled_from(["true", "T", "Yes", "no", "0", "1", "f", "NaN", "inf", "", " ", "nan", "tRuE"])
CHARACTERS = st.characters(exclude_categories=["Cs"])
TREES = st.recursive(
    st.none() | st.booleans() | LONGS | st.floats(allow_nan=False) | st.text(CHARACTERS, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(CHARACTERS, max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
JSON_TEXTS = (
    st.builds(lambda tree, indent: json.dumps(tree, indent=indent), TREES, st.none() | st.just(1))
    | st.builds(lambda tree: json.dumps(tree, ensure_ascii=False, separators=(",", ":")), TREES)
    | st.sampled_from(
        ["{", "[1,]", '{"a":01}', '{"a":1,"a":2}', "[1.10, 1e5, -0, 0.0000001, -0.0]", "nul", "[1] 2"]
    )
    | st.sampled_from(['["\\ud800"]', '["\\u00e9\\/\\n\\u0001\\u007f"]', '{"\\u0061": 1, "a": 2}', '["\t"]'])
)
TEXTS = (
    DIGITS
    | CLOCKS
    | DAYS
    | MOMENTS
    | WORDS
    | JSON_TEXTS
    | st.text(CHARACTERS, max_size=4)
    | st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join)
)
NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
ODD = (
    "true",
    "false",
    "-0",
    "-0.0",
    "0e5",
    "0.0000010",
    "0.0000001",
    "0.0000000",
    "1E400",
    "123456789012345678",
    "1234567890123456789012345678901234567890",
    "0.1234567890123456789012345678901234567890",
    "9223372022399.9999999",
    "9223372022400",
    "-9223372022400.5",
    '"\\ud800"',
    '"\\/ \\u00e9 \\u0007 \\u007f \\b\\f\\n\\r\\t \\" \\\\"',
    '"\\u0000"',
    "[]",
    "{}",
    '{"a": [1, {"b": null}], "\\u0061": 2}',
    '{"a": [1, {"b": "\\u0001"}], "b": -0.10}',
    '{"a": 1e5}',
    "[-0]",
)
EDGE_VALUES = {source: st.sampled_from(values) for source, values in EDGES}


def quoted(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """JSON strings, with and without escapes, some with space around the text."""
    spaced = texts | texts.map(lambda text: f" {text}\n") | texts.map(lambda text: f"\x00{text}\x7f")
    return st.builds(
        lambda text, ascii_only: json.dumps(text, ensure_ascii=ascii_only), spaced, st.booleans()
    )


ANY_JSON = (
    quoted(TEXTS)
    | NUMBERS
    | st.sampled_from(ODD)
    | TREES.map(lambda tree: json.dumps(tree, separators=(",", ":")))
    | JSON_TEXTS.filter(lambda text: "\n" not in text and is_json(text))
)
PLAIN: dict[ColumnType, st.SearchStrategy[str]] = {
    BOOLEAN: st.sampled_from(["true", "false"]),
    LONG: LONGS.map(str) | EDGE_VALUES[LONG],
    DOUBLE: NUMBERS | st.floats(allow_nan=False, allow_infinity=False).map(repr) | EDGE_VALUES[DOUBLE],
    Decimal(38, 0): LONGS.map(str) | NUMBERS | EDGE_VALUES[Decimal(38, 0)],
    Decimal(9, 2): NUMBERS | quoted(DIGITS) | EDGE_VALUES[Decimal(5, 2)],
    STRING: quoted(TEXTS) | EDGE_VALUES[STRING],
    JSON: ANY_JSON,
    DATE: quoted(DAYS) | EDGE_VALUES[DATE],
    TIME: quoted(CLOCKS) | EDGE_VALUES[TIME],
    TIMESTAMP: quoted(MOMENTS) | EDGE_VALUES[TIMESTAMP],
    TIMESTAMPTZ: quoted(MOMENTS) | EDGE_VALUES[TIMESTAMPTZ],
    BINARY: EDGE_VALUES[BINARY] | quoted(TEXTS),
    Struct((Field("a", LONG),)): st.builds(lambda tree: json.dumps({"a": tree}), TREES),
    List(DOUBLE): st.builds(lambda *found: f"[{', '.join(found)}]", NUMBERS, NUMBERS),
}
ONE_KIND = [quoted(kind) for kind in (DIGITS, CLOCKS, DAYS, MOMENTS, WORDS, JSON_TEXTS)]


def is_json(text: str) -> bool:
    """Whether Python's reader takes a text."""
    try:
        parse_exact(text.encode())
    except ValueError:
        return False
    return True


def columns(source: ColumnType) -> st.SearchStrategy[list[str | None]]:
    """JSON texts of a column: of its type or any other, or of one form only, as columns mostly are."""
    kinds = [PLAIN[source], PLAIN[source] | ANY_JSON, *(ONE_KIND if source == STRING else ())]
    return st.one_of(st.lists(st.none() | kind, max_size=8) for kind in kinds)


# ---- comparing ---------------------------------------------------------------------------------------------


def one_by_one(
    source: ColumnType, target: ColumnType, values: Sequence[str | None]
) -> tuple[list[Any], list[bool]]:
    """The values that are cast, and which of them are rejected."""
    cast = caster(source, target)
    made, rejected = [], []
    for value in values:
        try:
            made.append(None if value is None else cast(parse_exact(value.encode())))
            rejected.append(False)
        except REJECTIONS:
            made.append(None)
            rejected.append(True)
    return made, rejected


def arrayed(values: Sequence[str | None], before: int, behind: int) -> pa.Array:
    """The values as an array that begins and ends inside of a larger one."""
    around = ['"x"', None, "1"]
    whole = [*around[:before], *values, *around[:behind]]
    return pa.array([None if v is None else v.encode() for v in whole], pa.binary()).slice(
        before, len(values)
    )


def told_apart(value: Any) -> Any:
    """The value; a double as its digits and sign, which equality does not look at."""
    return repr(value) if isinstance(value, float) else value


def name_of(target: ColumnType) -> str:
    """What a request calls a target."""
    if isinstance(target, Decimal):
        return str(target)
    return next(name for name, known in TARGET_TYPES.items() if known == target)


def assert_cast_like_its_values(
    source: ColumnType, target: ColumnType, values: Sequence[str | None], array: pa.Array
) -> None:
    """A value is cast as by itself, or it is left. What is rejected is left."""
    cast = array_cast(source, target)
    if cast is None:
        assert source == BINARY
        return
    made, left = cast(array)
    made.validate(full=True)
    assert made.type == arrow_type(target)
    assert len(made) == len(values)
    leaves = [False] * len(values) if left is None else left.to_pylist()
    expected, rejected = one_by_one(source, target, values)
    assert not any(is_rejected and not is_left for is_rejected, is_left in zip(rejected, leaves, strict=True))
    kept = [None if is_left else value for value, is_left in zip(expected, leaves, strict=True)]
    assert canonical_array(made).to_pylist() == canonical_array(pa.array(kept, made.type)).to_pylist()


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=str)
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data(), before=st.integers(0, 3), behind=st.integers(0, 3))
def test_arrays_are_cast_like_their_values(
    source: ColumnType, target: ColumnType, data: st.DataObject, before: int, behind: int
) -> None:
    """Whatever the column has, with nulls, in slices too."""
    values = data.draw(columns(source))
    assert_cast_like_its_values(source, target, values, arrayed(values, before, behind))


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_edge_values(source: ColumnType) -> None:
    """All values at the edges of what can be cast, in a column of each declared type, to every target."""
    values = [*ODD, *(value for _, found in EDGES for value in found)]
    for target in TARGETS:
        if cast_problem(source, target) is None:
            assert_cast_like_its_values(source, target, values, arrayed(values, 1, 2))


@pytest.mark.parametrize("source", SOURCES, ids=str)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_batches_are_cast_like_their_values(source: ColumnType, data: st.DataObject) -> None:
    """The same through the compiled reader, to every target: all values, all changes and their reasons."""
    values = data.draw(st.lists(st.none() | PLAIN[source] | ANY_JSON, max_size=10))
    values = [
        v for v in values if v is None or "\\ud800" not in v
    ]  # the record reader has its own tests of it
    targets = [target for target in TARGETS if cast_problem(source, target) is None]
    cast = [
        msgspec.structs.replace(plan(source, name_of(target)), source=f"p{i}", name=f"c{i}")
        for i, target in enumerate(targets)
    ]
    records = [
        b"{%b}" % b",".join(b'"p%d":%b' % (i, (value or "null").encode()) for i in range(len(cast)))
        for value in values
    ]
    with built_by("native"):
        rows = rows_of(builder(cast, add_metadata=True), records)
    expected, changes = by_value(cast, records)
    for column in cast:
        found = [told_apart(row[column.name]) for row in rows]
        assert found == [told_apart(row[column.name]) for row in expected], column
    assert [row["_airbyte_meta"]["changes"] for row in rows] == changes


@pytest.mark.parametrize(
    ("source", "target", "values", "left"),
    [
        (LONG, "int", ["1", str(-(2**31)), str(2**31 - 1), None, '"12"'], 0),
        (LONG, "byte", ["127", "128", "-129", None], 2),
        (LONG, "long", [str(2**63 - 1), str(2**63), str(1 - 2**63)], 1),
        (LONG, "timestamp", ["0", "-1", "1700000000", "9223372022399", "9223372022400"], 1),
        (LONG, "decimal(18,2)", ["0", "9999999999999999", "10000000000000000"], 1),
        (LONG, "string", ["0", "-5", '"x"', "true", "1.50"], 0),
        (DOUBLE, "string", ["0.10", "-5.0", "12", "1e5"], 1),
        (DOUBLE, "json", ["0.10", "-5.0", "12", "0.0000001"], 1),
        (DOUBLE, "int", ["2.9", "-2.9", "0.0", "3000000000.0"], 1),
        (DOUBLE, "float", ["0.1", "1e5", "1e39"], 1),
        (DOUBLE, "decimal(6,2)", ["2.345", "-2.345", "9999.994", "9999.995"], 1),
        (DOUBLE, "boolean", ["0.0", "-0.0", "0.1", "1e5"], 1),
        (Decimal(5, 2), "decimal(5,1)", ["2.35", "-2.35", "999.99", "9999.95"], 1),
        (BOOLEAN, "int", ["true", "false"], 0),
        (BOOLEAN, "json", ["true", "false", '"a\\nb"'], 0),
        (STRING, "long", ['"12"', '"-7"', '"+007"', '" 1 "', '"1.5"', '".5"', "7", '"1e3"', '"x"'], 2),
        (STRING, "double", ['"1.5"', '"-0"', '"1e5"', '"+.5"', '" 5."', '"nan"', '"1e309"'], 2),
        (STRING, "decimal(5,2)", ['"1.5"', '"999.99"', '"1.235"', '"1000"', '"1e1"'], 2),
        (STRING, "boolean", ['"true"', '"0"', '" TRUE "', '"maybe"', None], 1),
        (STRING, "date", ['"2024-02-29"', '"2024-02-29T10:00:00Z"', '"2023-02-29"', '"2024-1-1"'], 2),
        (STRING, "date", ['"2024-02-29 noon"', '"2024-02-29 BC"'], 1),
        (STRING, "time", ['"10:00:00"', '"10:00:00.123456"', '"10:00"', '"10:00 PM"'], 1),
        (STRING, "timestamp", ['"2024-01-01T10:00:00Z"', '"2024-01-01 10:00:00.5+18:00"', '"2024-01-01"'], 0),
        (STRING, "timestamp", ['"2024-01-01T10:00:00"', '"2024-01-01T10:00:00+18:01"', '"2024"'], 2),
        (STRING, "timestamp_ntz", ['"2024-01-01T10:00:00"', '"2024-01-01T10:00:00.1234567Z"'], 0),
        (STRING, "json", ['"{\\"a\\": [1, null]}"', '"[\\n1]"', '"{"', '"1e5"'], 1),
        (STRING, "binary", ['"abc"', '"\\u00e9"', "1"], 1),
        (JSON, "string", ['{"a": 1.10}', '"text"', '{"a":1,"a":2}', "[1e5]", '{ "b" : [ true ] }'], 2),
        (TIME, "string", ['"10:00:00"'], 0),
        (DATE, "timestamp", ['"2024-01-01"', '"2024-01-01T00:00:00Z"'], 1),
        (TIMESTAMP, "json", ['"2024-01-01T00:00:00"'], 0),
        (TIMESTAMPTZ, "date", ['"1969-12-31T23:59:59Z"', '"2024-01-01T00:00:00+05:00"'], 0),
        (TIMESTAMPTZ, "double", ['"1969-12-31T23:59:59.5Z"', '"9999-01-01T00:00:00Z"'], 1),
        (TIMESTAMPTZ, "decimal(12,1)", ['"1969-12-31T23:59:59.95Z"', '"2024-01-01T00:00:00Z"'], 0),
        (List(LONG), "json", ["[1, 2]", "[]", "[1.0, null]"], 0),
        (BINARY, "string", ['"YWJj"'], 0),
    ],
)
def test_what_is_left(source: ColumnType, target: str, values: list[str | None], left: int) -> None:
    """The usual forms are cast at once; without that the fast way would be one in name only."""
    cast = array_cast(source, parse_target_type(target))
    assert cast is not None
    array = arrayed(values, 0, 0)
    found = cast(array)
    count = 0 if found.left is None else pc.sum(found.left).as_py()
    assert count == left
    assert found.made.null_count == array.null_count + left


def test_objects_with_many_members_and_levels() -> None:
    """They are written like small ones, or left."""
    wide = json.dumps({f"member {i}": i for i in range(100)})
    deep = "[" * 100 + "]" * 100
    values = [wide, deep, "[" * 60 + "1" + "]" * 60, json.dumps({f"m{i}": [i] for i in range(60)})]
    for target in (STRING, JSON):
        assert_cast_like_its_values(JSON, target, values, arrayed(values, 0, 0))
    quotes = [json.dumps(value) for value in values]
    assert_cast_like_its_values(STRING, JSON, quotes, arrayed(quotes, 0, 0))


def test_a_batch_of_which_little_fits_keeps_its_rows_and_reasons() -> None:
    """Values that are left, among others and at both ends, are put in their places."""
    texts = ["x", "1", "1e3", "99999999999", None, "12"] * 50
    records = [json.dumps({"p": text}).encode() for text in texts]
    with built_by("native"):
        made = builder([plan(STRING, "int")], add_metadata=True)
        for record in records:
            made.add(record, 0)
        rows = dictionaries(made.flush())
    assert [row["c"] for row in rows] == [None, 1, None, None, None, 12] * 50
    reasons = [[change["reason"] for change in row["_airbyte_meta"]["changes"]] for row in rows]
    cast, size = "DESTINATION_TYPECAST_ERROR", "DESTINATION_FIELD_SIZE_LIMITATION"
    assert reasons == [[cast], [], [cast], [size], [], []] * 50
    assert made.values_nulled == 150


def test_without_the_compiled_casts_every_value_is_cast_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there was no compiler."""
    monkeypatch.setattr(cast_arrays, "casts", None)
    assert array_cast(STRING, LONG) is None


def test_wrong_use_is_told() -> None:
    """Errors instead of crashes for arguments that make no sense."""
    ends, chars = b"\0\0\0\0\x01\0\0\0", b"1"
    good = (1, 0, False, None, ends, chars)
    assert _casts.cast(good, "text", ("integer", 64, 0, 0)) == (None, None, (b"\x01" + b"\0" * 7,))
    for declared, wanted in (
        ("money", ("integer", 64, 0, 0)),
        ("text", ("money", 0, 0, 0)),
        ("text", ("integer", 12, 0, 0)),
        ("text", ("decimal", 0, 39, 0)),
        ("text", ("decimal", 0, 5, 6)),
        ("text", ("decimal", 0, 0, 0)),
        ("text", ("decimal", 0, 5, -1)),
    ):
        with pytest.raises(ValueError, match="no such"):
            _casts.cast(good, declared, wanted)
    for texts in (
        (2, 0, False, None, ends, chars),
        (1, 0, False, None, ends, b""),
        (1, 8, False, b"\0", ends, chars),
    ):
        with pytest.raises(ValueError, match=r"too few|outside"):
            _casts.cast(texts, "text", ("integer", 64, 0, 0))
    with pytest.raises(TypeError):
        _casts.cast(good, "text", ("integer", 64, 0))  # type: ignore[arg-type]  # that is the point


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.binary(max_size=12) | st.sampled_from([b'"', b'"\\', b"{", b'{"a', b"[[", b"-", b'"a"b"'])),
    st.sampled_from(["text", "number", "date", "time", "moment"]),
)
def test_any_bytes_can_be_given(values: list[bytes], declared: str) -> None:
    """What is no JSON at all does no harm to memory."""
    array = pa.array(values, pa.binary())
    validity, ends, chars = array.buffers()
    for target in (
        "boolean",
        "integer",
        "float32",
        "float64",
        "decimal",
        "date",
        "time",
        "instant",
        "json",
        "bytes",
    ):
        wanted = (target, 32, 9, 2)
        made = _casts.cast((len(array), 0, False, validity, ends, chars), declared, wanted)
        assert len(made) == 3
