"""JSON schemas to column types."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.columns.json_schema import MAX_DEPTH, MAX_TYPES, column_type, stream_fields
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


def s(**members: object) -> dict[str, object]:
    """A string schema."""
    return {"type": "string", **members}


REF = "WellKnownTypes.json#/definitions/"


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "integer"}, LONG),
        ({"type": ["null", "integer"]}, LONG),
        ({"type": "integer", "airbyte_type": "big_integer"}, Decimal(38, 0)),
        ({"type": "number"}, DOUBLE),
        ({"type": ["integer", "number", "null"]}, DOUBLE),
        ({"type": "number", "airbyte_type": "integer"}, LONG),
        ({"type": "number", "airbyte_type": "big_number"}, STRING),
        ({"type": "number", "airbyte_type": "float"}, DOUBLE),
        ({"type": "boolean"}, BOOLEAN),
        (s(), STRING),
        (s(format="email"), STRING),
        (s(format=["date"]), STRING),
        (s(format="date"), DATE),
        (s(format="date-time"), TIMESTAMPTZ),
        (s(format="date-time", airbyte_type="timestamp_with_timezone"), TIMESTAMPTZ),
        (s(format="date-time", airbyte_type="timestamp_without_timezone"), TIMESTAMP),
        (s(airbyte_type="timestamp_without_timezone"), TIMESTAMP),
        (s(format="time"), TIME),
        (s(format="time", airbyte_type="time_with_timezone"), TIME),
        (s(airbyte_type="big_integer"), Decimal(38, 0)),
        (s(airbyte_type="big_number"), STRING),
        (s(contentEncoding="base64"), BINARY),
        (s(airbyte_type="binary_data"), BINARY),
        (s(airbyte_type="unheard_of"), STRING),
        (s(airbyte_type=7, enum=["a"]), STRING),
        ({"type": "object"}, JSON),
        ({"type": "object", "properties": {}}, JSON),
        ({"type": "object", "additionalProperties": {"type": "string"}}, JSON),
        ({"type": "object", "properties": {"a": s()}}, Struct((Field("a", STRING),))),
        ({"properties": {"a": s()}}, Struct((Field("a", STRING),))),
        ({"type": "object", "patternProperties": {"^x": s()}}, JSON),
        ({"type": "object", "properties": {"a": s()}, "patternProperties": {"^x": s()}}, JSON),
        ({"type": "object", "properties": {"a": s()}, "additionalProperties": s()}, JSON),
        (
            {"type": "object", "properties": {"a": s()}, "additionalProperties": True},
            Struct((Field("a", STRING),)),
        ),
        (
            {
                "type": "object",
                "properties": {"a": s()},
                "oneOf": [{"required": ["a"]}],
                "additionalProperties": {},
            },
            Struct((Field("a", STRING),)),
        ),
        ({"type": "object", "properties": {"a": s()}, "oneOf": [{"properties": {"b": s()}}]}, JSON),
        ({"oneOf": [{"type": "object", "properties": {"a": s()}}, {"properties": {"b": s()}}]}, JSON),
        ({"allOf": [{"properties": {"a": s()}}, {"properties": {"b": s()}}]}, JSON),
        ({"oneOf": [{"type": "null"}, {"properties": {"a": s()}}]}, Struct((Field("a", STRING),))),
        ({"type": "array"}, JSON),
        ({"type": "array", "items": s()}, List(STRING)),
        ({"type": ["null", "array"], "items": {"type": ["null", "integer"]}}, List(LONG)),
        ({"type": "array", "items": [s(), s()]}, JSON),
        ({"type": "array", "items": {}}, JSON),
        ({"type": "array", "prefixItems": [s(), {"type": "integer"}], "items": s()}, JSON),
        ({"format": "date-time"}, JSON),
        ({"type": ["null"]}, JSON),
        ({"type": "array", "items": {"type": ["string", "integer"]}}, JSON),
        ({"type": ["string", "integer"]}, JSON),
        ({"type": ["string", "object"], "properties": {"a": s()}}, JSON),
        ({"oneOf": [s(), {"type": "integer"}]}, JSON),
        ({"anyOf": [s(format="date"), {"type": "null"}]}, DATE),
        ({"anyOf": [s(), s(format="uri")]}, STRING),
        ({"allOf": [{"$ref": REF + "Number"}]}, DOUBLE),
        ({"type": "string", "oneOf": [{"const": "a"}]}, STRING),
        ({}, JSON),
        ({"enum": ["a"]}, JSON),
        ({"type": "null"}, JSON),
        ({"type": []}, JSON),
        ({"type": "money"}, JSON),
        ({"type": 7}, JSON),
        ({"type": [["string"]]}, JSON),
        (True, JSON),
        (None, JSON),
        ([], JSON),
        ({"$ref": REF + "TimestampWithoutTimezone"}, TIMESTAMP),
        ({"$ref": "WellKnownTypes.json#definitions/Integer"}, LONG),
        ({"$ref": REF + "Unknown"}, JSON),
        ({"$ref": "other.json#/a"}, JSON),
        ({"$ref": "#/nowhere"}, JSON),
        ({"$ref": "#"}, JSON),
        ({"$ref": 7, "type": "boolean"}, BOOLEAN),
    ],
)
def test_column_type(schema: object, expected: ColumnType) -> None:
    """Each row of the documented table, and what is not understood."""
    assert column_type(schema) == expected


def test_fields_keep_order_and_descriptions() -> None:
    """Columns come in the order of the schema, with its descriptions."""
    schema = {"properties": {"b": s(description="the b"), "a": {"type": "integer", "description": 7}}}
    assert stream_fields(schema) == (Field("b", STRING, "the b"), Field("a", LONG))


def test_local_references() -> None:
    """A reference into the same schema is what it points to, through escapes and other references."""
    schema = {
        "definitions": {"a/b~c": {"$ref": "#/$defs/0"}, "e": {"type": "array", "items": {"type": "boolean"}}},
        "$defs": [s(format="date")],
        "properties": {
            "x": {"$ref": "#/definitions/a~1b~0c"},
            "y": {"$ref": "#/definitions/e"},
            "z": {"$ref": "#/$defs/1"},
        },
    }
    assert [f.type for f in stream_fields(schema)] == [DATE, List(BOOLEAN), JSON]


def test_recursive_types_become_json() -> None:
    """A type inside itself is JSON there, so that there is an end."""
    node = {
        "type": "object",
        "properties": {"id": {"type": "integer"}, "next": {"$ref": "#/definitions/node"}},
    }
    schema = {"definitions": {"node": node}, "properties": {"head": {"$ref": "#/definitions/node"}}}
    inner = Struct((Field("id", LONG), Field("next", JSON)))
    assert stream_fields(schema) == (Field("head", inner),)
    assert column_type({"properties": {"self": {"$ref": "#"}}}) == Struct((Field("self", JSON),))


def test_reference_loops_end() -> None:
    """References that only lead to each other are JSON."""
    schema = {
        "definitions": {"a": {"$ref": "#/definitions/b"}, "b": {"$ref": "#/definitions/a"}},
        "properties": {"x": {"$ref": "#/definitions/a"}},
    }
    assert stream_fields(schema) == (Field("x", JSON),)


def test_deep_schemas_become_json() -> None:
    """Below the limit everything is JSON."""
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(200):
        schema = {"type": "object", "properties": {"a": schema}}
    depth, kind = 0, column_type(schema)
    while isinstance(kind, Struct):
        depth, kind = depth + 1, kind.fields[0].type
    assert (depth, kind) == (MAX_DEPTH + 1, JSON)


def test_references_that_multiply_are_bounded() -> None:
    """A small schema cannot ask for a table of a million columns."""
    definitions: dict[str, Any] = {"t0": {"type": "integer"}}
    for i in range(1, 25):
        ref = {"$ref": f"#/definitions/t{i - 1}"}
        definitions[f"t{i}"] = {"type": "object", "properties": {"a": ref, "b": ref}}
    fields = stream_fields({"definitions": definitions, "properties": {"x": {"$ref": "#/definitions/t24"}}})

    def count(kind: ColumnType) -> int:
        return 1 + (sum(count(f.type) for f in kind.fields) if isinstance(kind, Struct) else 0)

    assert 1_000 < count(fields[0].type) < 2 * MAX_TYPES


@pytest.mark.parametrize("schema", [None, {}, [], "x", {"properties": []}, {"properties": None}])
def test_no_properties_no_fields(schema: object) -> None:
    """A stream that declares nothing has no columns of its own."""
    assert stream_fields(schema) == ()


WORDS = [
    "type",
    "properties",
    "items",
    "oneOf",
    "anyOf",
    "allOf",
    "$ref",
    "format",
    "airbyte_type",
    "definitions",
]
VALUES = ["string", "object", "array", "null", "integer", "date-time", "#", "#/properties", "#/definitions/a"]
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(VALUES) | st.text(max_size=3),
    lambda c: (
        st.lists(c, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=2), c, max_size=4)
    ),
    max_leaves=25,
)


@settings(max_examples=100, deadline=None)
@given(ANY)
def test_hostile_schemas_never_fail(schema: object) -> None:
    """Whatever a connector declares, there is a type."""
    assert column_type(schema) is not None
    assert all(isinstance(f.name, str) for f in stream_fields({"properties": {"a": schema, "b": schema}}))
