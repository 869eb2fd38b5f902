"""From a stream's JSON schema to column types.

The rules are those of the Airbyte protocol (supported data types) with the types of its own lake
destinations, except that integers and decimals beyond 64 bits stay exact:

| schema | type |
|---|---|
| `integer`, or `number` with `airbyte_type: integer` | long |
| `number` | double |
| `airbyte_type: big_integer` | decimal(38,0) |
| `airbyte_type: big_number` | string: its scale is unknown, so only the text is exact; cast it to a decimal |
| `boolean` | boolean |
| `string` with format `date`, `time` | date, time |
| `string` with format `date-time` | timestamptz; timestamp when `airbyte_type` says without time zone |
| `string` with `contentEncoding: base64` or `airbyte_type: binary_data` | binary |
| any other `string`, whatever its format | string |
| `object` with properties, and nothing that declares more of them | struct |
| `array` whose items have one type that is not JSON | list |
| unions, variants, maps, free objects, tuples, no type at all, anything that is not understood | JSON |

`null` among the types only says that the value may be missing, which every column may be.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

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

MAX_DEPTH: Final = 32
"""Schemas that nest deeper become JSON at this level."""

MAX_TYPES: Final = 10_000
"""After so many types in one stream the rest becomes JSON: references can multiply without end."""

BIG_INTEGER: Final = Decimal(38, 0)

_WELL_KNOWN: Final[Mapping[str, ColumnType]] = {
    "String": STRING,
    "BinaryData": BINARY,
    "Boolean": BOOLEAN,
    "Date": DATE,
    "TimestampWithTimezone": TIMESTAMPTZ,
    "TimestampWithoutTimezone": TIMESTAMP,
    "TimeWithTimezone": TIME,
    "TimeWithoutTimezone": TIME,
    "Integer": LONG,
    "Number": DOUBLE,
}
"""`WellKnownTypes.json#/definitions/...` of version 1 of the protocol."""

_BY_AIRBYTE_TYPE: Final[Mapping[str, ColumnType]] = {
    "big_integer": BIG_INTEGER,
    "big_number": STRING,
    "binary_data": BINARY,
    "timestamp_with_timezone": TIMESTAMPTZ,
    "timestamp_without_timezone": TIMESTAMP,
    "time_with_timezone": TIME,
    "time_without_timezone": TIME,
}

_BY_FORMAT: Final[Mapping[str, ColumnType]] = {"date": DATE, "date-time": TIMESTAMPTZ, "time": TIME}


def column_type(schema: object, root: object = None) -> ColumnType:
    """The type of a column with this schema. Never fails: what is not understood is JSON.

    Args:
        schema: The JSON schema of one property.
        root: The schema of the stream, for local references (`#/definitions/...`).
    """
    return _Reader(root if root is not None else schema).type_of(schema, 0)


def stream_fields(json_schema: object) -> tuple[Field, ...]:
    """The columns of a stream, in the order of the schema; empty when it declares no properties."""
    return _Reader(json_schema).fields_of(json_schema, 0)


class _Reader:
    """Reads one stream's schema. Counts the types that it makes, and knows which references it is inside."""

    def __init__(self, root: object) -> None:
        self._root = root
        self._made = 0
        self._inside = {"#"}

    def fields_of(self, schema: object, depth: int) -> tuple[Field, ...]:
        """One field for each property."""
        resolved = self._resolved(schema)
        properties = resolved.get("properties") if isinstance(resolved, dict) else None
        if not isinstance(properties, dict):
            return ()
        return tuple(
            Field(str(name), self.type_of(member, depth + 1), _description(member))
            for name, member in properties.items()
        )

    def type_of(self, schema: object, depth: int) -> ColumnType:
        """The type of one schema."""
        self._made += 1
        if depth > MAX_DEPTH or self._made > MAX_TYPES:
            return JSON
        ref = schema.get("$ref") if isinstance(schema, dict) else None
        if not isinstance(ref, str):
            return self._type_of_resolved(schema, depth)
        if ref in self._inside:
            return JSON  # a type that contains itself has no end
        self._inside.add(ref)
        try:
            return self._type_of_resolved(self._resolved(schema), depth)
        finally:
            self._inside.discard(ref)

    def _type_of_resolved(self, schema: object, depth: int) -> ColumnType:
        if isinstance(schema, str):
            return _WELL_KNOWN.get(schema, JSON)
        if not isinstance(schema, dict):
            return JSON
        names = _type_names(schema)
        if names is None:
            return self._untyped(schema, depth)
        if names <= {"integer", "number"} and names:
            return _numeric(schema, "integer" if "number" not in names else "number")
        if len(names) != 1:
            return JSON
        match next(iter(names)):
            case "boolean":
                return BOOLEAN
            case "string":
                return _textual(schema)
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
        return JSON

    def _untyped(self, schema: dict[str, Any], depth: int) -> ColumnType:
        """A schema without `type`: a union of one type (besides null) is that type."""
        options = schema.get("oneOf") or schema.get("anyOf") or schema.get("allOf")
        if isinstance(options, list):
            types = {self.type_of(o, depth + 1) for o in options if not _is_null(o)}
            return types.pop() if len(types) == 1 else JSON
        return self._object(schema, depth)  # without properties that is JSON

    def _object(self, schema: dict[str, Any], depth: int) -> ColumnType:
        if self._has_other_members(schema):
            return JSON  # a struct would lose them
        fields = self.fields_of(schema, depth)
        return Struct(fields) if fields else JSON

    def _has_other_members(self, schema: dict[str, Any]) -> bool:
        """Whether an object declares members besides its `properties`: in variants, or by pattern."""
        if any(
            isinstance(s := schema.get(k), dict) and s for k in ("additionalProperties", "patternProperties")
        ):
            return True
        options = [o for k in ("oneOf", "anyOf", "allOf") if isinstance(o := schema.get(k), list)]
        resolved = (self._resolved(option) for option in itertools.chain.from_iterable(options))
        return any(isinstance(option, dict) and option.get("properties") for option in resolved)

    def _array(self, schema: dict[str, Any], depth: int) -> ColumnType:
        items = schema.get("items")
        if not isinstance(items, dict) or schema.get("prefixItems"):
            return JSON  # none, or a tuple with a type for each place
        element = self.type_of(items, depth + 1)
        return JSON if element == JSON else List(element)

    def _resolved(self, schema: object) -> object:
        """What a `$ref` stands for: a schema, the name of a well-known type, None when it leads nowhere."""
        for _ in range(MAX_DEPTH):
            ref = schema.get("$ref") if isinstance(schema, dict) else None
            if not isinstance(ref, str):
                return schema
            file, _, pointer = ref.partition("#")
            if file == "WellKnownTypes.json":
                return pointer.rpartition("/")[2]
            schema = self._at(pointer) if not file else None
        return None

    def _at(self, pointer: str) -> object:
        """What a JSON pointer (RFC 6901) leads to in the stream's schema."""
        found = self._root
        for part in _parts(pointer):
            if isinstance(found, dict):
                found = found.get(part)
            elif isinstance(found, list) and part.isdecimal() and len(part) < 6 and int(part) < len(found):
                found = found[int(part)]
            else:
                return None
        return found


def _parts(pointer: str) -> Iterator[str]:
    for part in unquote(pointer).split("/")[1:]:
        yield part.replace("~1", "/").replace("~0", "~")


def _description(schema: object) -> str | None:
    text = schema.get("description") if isinstance(schema, dict) else None
    return text if isinstance(text, str) and text else None


def _type_names(schema: dict[str, Any]) -> set[str] | None:
    """The types besides null; None when the schema does not say."""
    declared = schema.get("type")
    if declared is None:
        return None
    listed = declared if isinstance(declared, list) else [declared]
    return {name if isinstance(name, str) else "?" for name in listed if name is not None} - {"null"}


def _is_null(schema: object) -> bool:
    return isinstance(schema, dict) and schema.get("type") in ("null", ["null"])


def _airbyte_type(schema: dict[str, Any]) -> str:
    declared = schema.get("airbyte_type")
    return declared if isinstance(declared, str) else ""


def _numeric(schema: dict[str, Any], name: str) -> ColumnType:
    declared = _airbyte_type(schema)
    if declared in ("big_integer", "big_number"):
        return _BY_AIRBYTE_TYPE[declared]
    return LONG if name == "integer" or declared == "integer" else DOUBLE


def _textual(schema: dict[str, Any]) -> ColumnType:
    by_format = schema.get("format")
    declared = _BY_AIRBYTE_TYPE.get(_airbyte_type(schema))
    if by_format == "date":
        return DATE
    if declared is not None:
        return declared
    if schema.get("contentEncoding") == "base64":
        return BINARY
    return _BY_FORMAT.get(by_format, STRING) if isinstance(by_format, str) else STRING
