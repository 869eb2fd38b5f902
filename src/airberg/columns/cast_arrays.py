"""Casts of whole columns: what `airberg.columns.casting` says of each value, for the plain ones among them.

The compiled casts (`native/casts.hpp`) go over the JSON values of a column, as the records have them, with
all their digits. They take the values that are written in a plain form and fit; every other one is left, and
cast by itself: the meaning of a cast has one home, and so have the reasons of values that cannot be cast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import pyarrow as pa

from airberg.columns.arrow import arrow_type
from airberg.columns.compiled import casts
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
    List,
    Struct,
)

if TYPE_CHECKING:
    from airberg.columns._casts import Made, Texts, Wanted


class Cast(NamedTuple):
    """A column that was cast.

    Attributes:
        made: The values, null where one was left.
        left: True where a value was left; None when none was.
    """

    made: pa.Array
    left: pa.Array | None = None


ArrayCast: TypeAlias = Callable[[pa.Array], Cast]

_DECLARED: Final[Mapping[ColumnType, str]] = {
    **dict.fromkeys((BYTE, SHORT, INT, LONG, FLOAT, DOUBLE), "number"),
    DATE: "date",
    TIME: "time",
    TIMESTAMP: "moment",
    TIMESTAMPTZ: "moment",
}
_BITS: Final[Mapping[ColumnType, int]] = {BYTE: 8, SHORT: 16, INT: 32, LONG: 64}
_NAMES: Final[Mapping[ColumnType, str]] = {
    BOOLEAN: "boolean",
    **dict.fromkeys(_BITS, "integer"),
    FLOAT: "float32",
    DOUBLE: "float64",
    DATE: "date",
    TIME: "time",
    TIMESTAMP: "local",
    TIMESTAMPTZ: "instant",
    STRING: "string",
    BINARY: "bytes",
    JSON: "json",
}


def array_cast(source: ColumnType, target: ColumnType) -> ArrayCast | None:
    """The cast of a column's JSON values, all at once; None where each of them is cast by itself.

    The cast takes a string or binary array, slices too, of JSON texts as the compiled reader gives them.

    Args:
        source: The declared type.
        target: What is cast to; the arrays that are made are of its Arrow type.
    """
    if casts is None or isinstance(target, Struct | List):
        return None
    as_written = target in (STRING, JSON)
    if source == BINARY and not as_written:
        return None
    number = isinstance(source, Decimal)
    declared = "text" if as_written else "number" if number else _DECLARED.get(source, "text")
    return partial(_cast, casts.cast, declared, _wanted(source, target), arrow_type(target))


def _wanted(source: ColumnType, target: ColumnType) -> Wanted:
    if isinstance(target, Decimal):
        return "decimal", 0, target.precision, target.scale
    name = "parsed" if target == JSON and source == STRING else _NAMES[target]
    return name, _BITS.get(target, 0), 0, 0


def _cast(
    cast: Callable[[Texts, str, Wanted], Made],
    declared: str,
    wanted: Wanted,
    kind: pa.DataType,
    values: pa.Array,
) -> Cast:
    validity, ends, chars = values.buffers()
    texts = len(values), values.offset, False, validity, ends, chars
    valid, left, buffers = cast(texts, declared, wanted)
    return Cast(
        _array(kind, len(values), valid, *buffers),
        None if left is None else _array(pa.bool_(), len(values), None, left),
    )


def _array(kind: pa.DataType, length: int, validity: bytes | None, *buffers: bytes) -> pa.Array:
    lent = [None if validity is None else pa.py_buffer(validity), *map(pa.py_buffer, buffers)]
    return pa.Array.from_buffers(kind, length, lent)
