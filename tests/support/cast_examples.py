"""The examples of docs/reference/casts.md: for each source and target type what becomes of a value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from airberg.columns.convert import single_conversion, untouched
from airberg.columns.json_text import parse_exact
from airberg.columns.reading import REJECTIONS, SIZE, TYPECAST, reason_of
from airberg.columns.targets import parse_target_type
from airberg.columns.types import ColumnType, Field, List, Primitive, Struct
from airberg.plan.model import ColumnPlan
from support.pages import Page

CASTS = Page("docs/reference/casts.md")
NULLS = {TYPECAST: "null", SIZE: "null, too large"}


@dataclass(frozen=True)
class Example:
    """A row of the page.

    Attributes:
        value: JSON text of a value in a record.
        declared: Type of the column by its schema.
        target: Target of the cast.
        becomes: What comes out, as text, or `null`, or `null, too large`.
        in_spark: The same for Spark; empty where it agrees, without backticks where it is only described.
    """

    value: str
    declared: str
    target: str
    becomes: str
    in_spark: str

    @property
    def source(self) -> ColumnType:
        """The declared type."""
        return parsed_type(self.declared)

    def __str__(self) -> str:
        return f"{self.value}-{self.declared}-{self.target}"


def examples() -> Iterator[Example]:
    """All rows of the page."""
    for line in CASTS.prose.splitlines():
        if re.match(r"## To ", line):
            for value, declared, target, becomes, in_spark in CASTS.table(line.lstrip("# ")):
                yield Example(code(value), code(declared), code(target), code(becomes), in_spark)


def cast_outcome(source: ColumnType, target: str | None, value: str) -> tuple[Any, str | None]:
    """What becomes of a JSON value, cast if there is a target: a value of Python, or None and the reason."""
    cast_to = parse_target_type(target) if target else None
    column = msgspec.structs.replace(untouched("c", source), cast_to=cast_to)
    assert isinstance(column, ColumnPlan)
    convert = single_conversion(column, lambda rule: (_ for _ in ()).throw(AssertionError(rule)))
    try:
        return convert(parse_exact(value.encode())), None
    except REJECTIONS as error:
        return None, reason_of(error)


def shown(value: Any, reason: str | None = None) -> str:
    """An outcome as the page writes it; quotes around a text that has space around it."""
    if value is None:
        return NULLS.get(reason or TYPECAST, str(reason))
    return f'"{value}"' if isinstance(value, str) and value != value.strip() else str(value)


def code(cell: str) -> str:
    """What a cell has between backticks."""
    return cell.strip("`")


def parsed_type(text: str) -> ColumnType:
    """A column type from its words; `timestamp` as a target would have a zone, as a column it has none."""
    text = code(text)
    if text.startswith("struct<"):
        members = (m.split(": ") for m in text[len("struct<") : -1].split(", "))
        return Struct(tuple(Field(n, parsed_type(t)) for n, t in members))
    if text.startswith("list<"):
        return List(parsed_type(text[len("list<") : -1]))
    if text == "timestamp" or text == "timestamptz":
        return Primitive(text)
    return parse_target_type(text)
