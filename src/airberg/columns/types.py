"""Types of columns, as small frozen values without any library behind them.

They are what the plan stores, so they must serialise; Arrow and Iceberg types are made from them at the
edges (`airberg.columns.arrow`, `airberg.lake.schema`).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

PrimitiveName: TypeAlias = Literal[
    "boolean",
    "byte",
    "short",
    "int",
    "long",
    "float",
    "double",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "string",
    "binary",
]


class Primitive(msgspec.Struct, frozen=True, tag="primitive", tag_field="kind"):
    """A type without parameters; `timestamp` has no zone, `timestamptz` is UTC, both in microseconds.

    `byte` and `short` are targets of casts only: they limit the range, and a table holds them as `int`.
    """

    name: PrimitiveName

    def __str__(self) -> str:
        return self.name


class Decimal(msgspec.Struct, frozen=True, tag="decimal", tag_field="kind"):
    """An exact number; `precision` is at most 38."""

    precision: int
    scale: int

    def __str__(self) -> str:
        return f"decimal({self.precision},{self.scale})"


class Json(msgspec.Struct, frozen=True, tag="json", tag_field="kind"):
    """A string column that holds JSON text: unions, free objects, tuples."""

    def __str__(self) -> str:
        return "json"


class Field(msgspec.Struct, frozen=True):
    """One member of a struct. Everything is nullable: a source may leave out any property.

    Attributes:
        source: Name of the property in the record, where a member inside a list could not keep it.
    """

    name: str
    type: ColumnType
    doc: str | None = None
    source: str | None = None


class Struct(msgspec.Struct, frozen=True, tag="struct", tag_field="kind"):
    """An object with declared properties."""

    fields: tuple[Field, ...]

    def __str__(self) -> str:
        return "struct<" + ", ".join(f"{f.name}: {f.type}" for f in self.fields) + ">"


class List(msgspec.Struct, frozen=True, tag="list", tag_field="kind"):
    """An array whose items have one type."""

    element: ColumnType

    def __str__(self) -> str:
        return f"list<{self.element}>"


ColumnType: TypeAlias = Primitive | Decimal | Json | Struct | List

BOOLEAN = Primitive("boolean")
BYTE = Primitive("byte")
SHORT = Primitive("short")
INT = Primitive("int")
LONG = Primitive("long")
FLOAT = Primitive("float")
DOUBLE = Primitive("double")
DATE = Primitive("date")
TIME = Primitive("time")
TIMESTAMP = Primitive("timestamp")
TIMESTAMPTZ = Primitive("timestamptz")
STRING = Primitive("string")
BINARY = Primitive("binary")
JSON = Json()


def stored_type(target: ColumnType) -> ColumnType:
    """The type that a table has for the target of a cast: Iceberg has no integers narrower than `int`."""
    return INT if target in (BYTE, SHORT) else target
