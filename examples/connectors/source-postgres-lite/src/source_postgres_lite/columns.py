"""From a PostgreSQL type to a JSON schema, and to the SQL that makes JSON of its values.

PostgreSQL makes the JSON (`row_to_json`), so no value passes through a Python object and none is rounded.
It writes dates and timestamps as ISO 8601, with ` BC` behind and `infinity` where they are so. What JSON has
no exact form for is cast to text first: `numeric` has more digits than a JSON reader keeps, `bytea` becomes
base64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from psycopg import sql

Way = Literal["json", "text", "base64"]

MOMENT = {"type": "string", "format": "date-time"}
_TEXT: dict[str, Any] = {"type": "string"}
_ANY = {"type": ["object", "array", "string", "number", "boolean"]}
_PLAIN: dict[str, tuple[dict[str, Any], Way]] = {
    "bool": ({"type": "boolean"}, "json"),
    "int2": ({"type": "integer"}, "json"),
    "int4": ({"type": "integer"}, "json"),
    "int8": ({"type": "integer"}, "json"),
    "oid": ({"type": "integer"}, "json"),
    "float4": ({"type": "number"}, "json"),
    "float8": ({"type": "number"}, "json"),
    "date": ({"type": "string", "format": "date"}, "json"),
    "timestamp": (MOMENT | {"airbyte_type": "timestamp_without_timezone"}, "json"),
    "timestamptz": (MOMENT | {"airbyte_type": "timestamp_with_timezone"}, "json"),
    "time": ({"type": "string", "format": "time", "airbyte_type": "time_without_timezone"}, "json"),
    "timetz": ({"type": "string", "format": "time", "airbyte_type": "time_with_timezone"}, "json"),
    "json": (_ANY, "json"),
    "jsonb": (_ANY, "json"),
    "bytea": ({"type": "string", "contentEncoding": "base64"}, "base64"),
}
_ORDERED = frozenset(
    {"int2", "int4", "int8", "numeric", "date", "timestamp", "timestamptz", "text", "varchar", "uuid"}
)
"""Types with one order, that of `pg_catalog`: an operator of an extension may not be found where we look."""
_LAKE_DIGITS = 38
"""Integers up to here fit the widest decimal of lakes; the protocol calls them `big_integer`."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        declared: The type as SQL writes it, to cast texts to.
        base: Name of the type in `pg_type` behind domains; of an array that of its elements.
        modifier: `atttypmod`: holds precision and scale of `numeric`; -1 where there are none.
        array: Whether it is an array.
        dimensions: Of an array, as declared; 0 when it is not known, as in views. PostgreSQL does not hold
            values to it; those of one dimension have it in practice, and others are arrays of anything.
        labels: Of an enum.
    """

    name: str
    declared: str
    base: str
    modifier: int
    array: bool
    dimensions: int
    not_null: bool
    labels: tuple[str, ...] = ()
    comment: str | None = None

    @property
    def ordered(self) -> bool:
        """Whether rows can be read in its order and taken up again behind a value."""
        return not self.array and (self.base in _ORDERED or bool(self.labels))

    @property
    def cursor(self) -> bool:
        """Whether it can be a cursor. A row without a value would never be read: so it must be NOT NULL."""
        return self.ordered and self.not_null and not self.labels

    def json_schema(self) -> dict[str, Any]:
        """The schema of its values; `null` is among the types when there may be none."""
        schema = dict(self._element()[0])
        if self.array:
            schema = {"type": "array"} | ({"items": _nullable(schema)} if self.dimensions == 1 else {})
        if self.comment:
            schema["description"] = self.comment
        return schema if self.not_null else _nullable(schema)

    def expression(self, table: sql.Composable) -> sql.Composable:
        """The SQL whose JSON is the value."""
        column = sql.SQL("{}.{}").format(table, sql.Identifier(self.name))
        match self._element()[1]:
            case "json":
                return column
            case "base64" if not self.array:  # `encode` breaks lines
                return sql.SQL(r"translate(encode({}, 'base64'), E'\n', '')").format(column)
        return sql.SQL("{}::text[]" if self.array else "{}::text").format(column)

    def _element(self) -> tuple[dict[str, Any], Way]:
        if self.labels:
            return {"type": "string", "enum": list(self.labels)}, "text"
        if self.base == "numeric":
            return _numeric(self.modifier), "text"
        if self.base == "bytea" and self.array:
            return _TEXT, "text"  # each as \x and hexadecimal digits
        return _PLAIN.get(self.base, (_TEXT, "text"))


def _numeric(modifier: int) -> dict[str, Any]:
    """Text, so that every digit arrives; integers that fit a lake's decimal say so."""
    if modifier >= 4:
        precision = ((modifier - 4) >> 16) & 0xFFFF
        scale = (((modifier - 4) & 0x7FF) ^ 0x400) - 0x400  # 11 bits with a sign, as numeric.c has it
        if scale <= 0 and precision - scale <= _LAKE_DIGITS:
            return {"type": "string", "airbyte_type": "big_integer"}
    return {"type": "string", "airbyte_type": "big_number"}


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    out = schema | {"type": ["null", *types]}
    return out | {"enum": [None, *schema["enum"]]} if "enum" in schema else out
