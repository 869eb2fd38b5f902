"""Column types in the words of DuckDB, and the leaves of a stream's columns, for comparing them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from airberg.columns.types import ColumnType, Field, Json, List, Primitive, Struct

_SQL = {
    "boolean": "BOOLEAN",
    "long": "BIGINT",
    "double": "DOUBLE",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMPTZ",
    "string": "VARCHAR",
}
"""Types that the shapes have; another one is a KeyError here rather than a wrong comparison."""


def quoted(name: str) -> str:
    """A name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def duckdb_type(column: ColumnType) -> str:
    """The type that DuckDB reads a column as."""
    if isinstance(column, Json):
        return "JSON"
    if isinstance(column, List):
        return f"{duckdb_type(column.element)}[]"
    if isinstance(column, Struct):
        members = (f"{quoted(f.name)} {duckdb_type(f.type)}" for f in column.fields)
        return f"STRUCT({', '.join(members)})"
    if isinstance(column, Primitive):
        return _SQL[column.name]
    raise KeyError(str(column))


@dataclass(frozen=True, slots=True)
class Leaf:
    """Something that is compared: a plain column, a member of a struct, or a whole list.

    Attributes:
        path: Names from the column on.
        kind: `json`, `list` or the name of a primitive type.
    """

    path: tuple[str, ...]
    kind: str

    @property
    def dotted(self) -> str:
        """For people."""
        return ".".join(self.path)


def leaves(fields: Sequence[Field], above: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """The leaves of some columns."""
    for field in fields:
        path = (*above, field.name)
        if isinstance(field.type, Struct):
            yield from leaves(field.type.fields, path)
        elif isinstance(field.type, List):
            yield Leaf(path, "list")
        elif isinstance(field.type, Json):
            yield Leaf(path, "json")
        else:
            assert isinstance(field.type, Primitive)
            yield Leaf(path, field.type.name)
