"""Casts of whole columns: what `airberg.columns.casting` says of each value, for the plain ones among them.

A column that was read as values of its declared type is cast by Arrow where Arrow's result is that of the
cast of single values. Values that could be another matter (a text that is not written in the most usual way,
a number out of range) are left, and cast one by one: the meaning of a cast has one home.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from airberg.columns.canonical import canonical_array
from airberg.columns.far_dates import DAY_US, MAX_MICROS
from airberg.columns.types import (
    BINARY,
    BOOLEAN,
    BYTE,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    SHORT,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    ColumnType,
    Decimal,
)


class Cast(NamedTuple):
    """A column that was cast.

    Attributes:
        made: The values, null where one was left.
        left: True where a value was left; None when none was.
    """

    made: pa.Array
    left: pa.Array | None = None


ArrayCast: TypeAlias = Callable[[pa.Array], Cast]

_SECOND_US: Final = 1_000_000
_EXACT_DOUBLE: Final = 2**53
_LONG_DIGITS: Final = 19
_MOST_DIGITS: Final = 38
_BITS: Final = {BYTE: 8, SHORT: 16, INT: 32, LONG: 64}
_CLOCK: Final = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
_YEAR: Final = "(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"  # year 0 is a far one
_DATE: Final = f"{_YEAR}-[0-9]{{2}}-[0-9]{{2}}"
_OFFSET: Final = "(?:Z|[+-](?:0[0-9]|1[0-7]):[0-5][0-9])"
_TRUE: Final = pa.array(["true", "t", "yes", "y", "1"])
_WORDS: Final = pa.concat_arrays([_TRUE, pa.array(["false", "f", "no", "n", "0"])])
_NAIVE: Final = pa.timestamp("us")
_ZONED: Final = pa.timestamp("us", tz="UTC")


def array_cast(source: ColumnType, target: ColumnType) -> ArrayCast | None:
    """The cast of arrays of a declared type; None where every value is cast by itself.

    Args:
        source: The declared type; the arrays are of its Arrow type.
        target: What is cast to. Of a `float` doubles are made that are exactly one.
    """
    if source == BOOLEAN and target != STRING:
        of_number = array_cast(LONG, target) if target in _BITS or target == DOUBLE else None
        return of_number and (lambda values: of_number(values.cast(pa.int64())))
    if isinstance(target, Decimal):
        to_decimal = _TO_DECIMAL.get(source)
        return None if to_decimal is None else to_decimal(target)
    if target in _BITS and source in _TO_LONG:
        return partial(_narrow, _TO_LONG[source], _BITS[target])
    return _CASTS.get((source, target))


def _all(values: pa.Array) -> Cast:
    return Cast(values)


def _where(fits: pa.Array, values: pa.Array, cast: Callable[[pa.Array], pa.Array]) -> Cast:
    """The cast of the values that fit."""
    if pc.all(fits).as_py() is not False:  # nulls neither fit nor are left
        return Cast(cast(values))
    return Cast(cast(pc.if_else(fits, values, pa.scalar(None, values.type))), pc.invert(fits))


def _within(values: pa.Array, low: int, high: int) -> pa.Array:
    return pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high))


# ---- integers ----------------------------------------------------------------------------------------------


def _narrow(to_long: ArrayCast, bits: int, values: pa.Array) -> Cast:
    """To integers of some width by way of the widest."""
    long, left = to_long(values)
    if bits == _BITS[LONG]:
        return Cast(long, left)
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    fits = _within(long, low, high)
    made, beyond = _where(fits, long, lambda found: found.cast(pa.int32()))
    if left is None or beyond is None:
        return Cast(made, beyond if left is None else left)
    return Cast(made, pc.or_(left, pc.fill_null(beyond, fill_value=False)))


def _long_to_decimal(target: Decimal) -> ArrayCast | None:
    if _LONG_DIGITS + target.scale > _MOST_DIGITS:
        return None
    wide = pa.decimal128(_LONG_DIGITS + target.scale, target.scale)
    narrow = pa.decimal128(target.precision, target.scale)
    limit = min(10 ** (target.precision - target.scale), 2**63) - 1

    def cast(values: pa.Array) -> Cast:
        return _where(_within(values, -limit, limit), values, lambda found: found.cast(wide).cast(narrow))

    return cast


def _long_to_timestamp(kind: pa.DataType, values: pa.Array) -> Cast:
    """Seconds since 1970."""
    limit = MAX_MICROS // _SECOND_US
    fits = _within(values, -limit, limit)
    return _where(fits, values, lambda found: pc.multiply(found, _SECOND_US).view(kind))


def _to_single(values: pa.Array) -> pa.Array:
    """The doubles that are nearest among those of half the width."""
    return values.cast(pa.float32(), safe=False).cast(pa.float64())


def _doubles(values: pa.Array) -> pa.Array:
    return values.cast(pa.float64(), safe=False)


# ---- text --------------------------------------------------------------------------------------------------


def _written(form: str, cast: Callable[[pa.Array], pa.Array], texts: pa.Array) -> Cast:
    """The cast of the texts that are wholly of a form; of none when Arrow refuses one of them after all."""
    try:
        return _where(pc.match_substring_regex(texts, f"^(?:{form})$"), texts, cast)
    except pa.ArrowInvalid:  # 2023-02-30, 25:00:00
        return Cast(cast(pa.nulls(len(texts), texts.type)), pc.is_valid(texts))


def _text_to_decimal(target: Decimal) -> ArrayCast | None:
    whole = target.precision - target.scale
    if whole < 1:
        return None
    fraction = rf"(?:\.[0-9]{{1,{target.scale}}})?" if target.scale else ""
    kind = pa.decimal128(target.precision, target.scale)
    return partial(_written, f"-?[0-9]{{1,{whole}}}{fraction}", lambda texts: texts.cast(kind))


def _text_to_boolean(texts: pa.Array) -> Cast:
    known = pc.if_else(pc.is_valid(texts), pc.is_in(texts, _WORDS), None)
    return _where(known, texts, lambda found: pc.if_else(pc.is_valid(found), pc.is_in(found, _TRUE), None))


def _text_to_timestamptz(texts: pa.Array) -> Cast:
    """With an offset or without one, which is UTC; both in one column are left."""
    with_offset = _written(f"{_DATE}[T ]{_CLOCK}{_OFFSET}", lambda found: found.cast(_ZONED), texts)
    if with_offset.made.null_count < len(texts) or texts.null_count == len(texts):
        return with_offset
    return _written(f"{_DATE}(?:[T ]{_CLOCK})?", lambda found: found.cast(_NAIVE).view(_ZONED), texts)


def _clock(texts: pa.Array) -> pa.Array:
    moments = pc.binary_join_element_wise("1970-01-01T", texts, "").cast(_NAIVE)  # Arrow reads no times
    return moments.view(pa.int64()).view(pa.time64("us"))


_INTEGER: Final = "-?[0-9]{1,18}"
_NUMBER: Final = r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?"


# ---- days and moments --------------------------------------------------------------------------------------


def _parts(micros: pa.Array, unit: int) -> tuple[pa.Array, pa.Array]:
    """Whole units, rounded down, and what is left of each number."""
    towards_zero = pc.divide(micros, unit)
    rest = pc.subtract(micros, pc.multiply(towards_zero, unit))
    before = pc.less(rest, 0)
    return (
        pc.if_else(before, pc.subtract(towards_zero, 1), towards_zero),
        pc.if_else(before, pc.add(rest, unit), rest),
    )


def _moment_to_long(moments: pa.Array) -> Cast:
    return Cast(_parts(moments.view(pa.int64()), _SECOND_US)[0])


def _moment_to_date(moments: pa.Array) -> Cast:
    return Cast(_parts(moments.view(pa.int64()), DAY_US)[0].cast(pa.int32()).view(pa.date32()))


def _moment_to_time(moments: pa.Array) -> Cast:
    return Cast(_parts(moments.view(pa.int64()), DAY_US)[1].view(pa.time64("us")))


def _moment_to_double(moments: pa.Array) -> Cast:
    micros = moments.view(pa.int64())
    exact = _within(micros, -_EXACT_DOUBLE, _EXACT_DOUBLE)
    return _where(exact, micros, lambda found: pc.divide(_doubles(found), float(_SECOND_US)))


def _date_to_timestamp(kind: pa.DataType, dates: pa.Array) -> Cast:
    days = dates.view(pa.int32()).cast(pa.int64())
    limit = MAX_MICROS // DAY_US
    return _where(_within(days, -limit, limit), days, lambda found: pc.multiply(found, DAY_US).view(kind))


_TO_LONG: Final[Mapping[ColumnType, ArrayCast]] = {
    LONG: _all,
    STRING: partial(_written, _INTEGER, lambda texts: texts.cast(pa.int64())),
    TIMESTAMP: _moment_to_long,
    TIMESTAMPTZ: _moment_to_long,
}
_TO_DECIMAL: Final[Mapping[ColumnType, Callable[[Decimal], ArrayCast | None]]] = {
    LONG: _long_to_decimal,
    STRING: _text_to_decimal,
}
_CASTS: Final[Mapping[tuple[ColumnType, ColumnType], ArrayCast]] = {
    (BOOLEAN, STRING): lambda values: Cast(canonical_array(values).cast(pa.string())),
    (LONG, STRING): lambda values: Cast(canonical_array(values).cast(pa.string())),
    (LONG, BOOLEAN): lambda values: Cast(pc.not_equal(values, 0)),
    (LONG, DOUBLE): lambda values: Cast(_doubles(values)),
    (LONG, FLOAT): lambda values: Cast(_to_single(_doubles(values))),
    (LONG, TIMESTAMP): partial(_long_to_timestamp, _NAIVE),
    (LONG, TIMESTAMPTZ): partial(_long_to_timestamp, _ZONED),
    (STRING, STRING): _all,
    (STRING, BINARY): lambda texts: Cast(texts.cast(pa.binary())),
    (STRING, BOOLEAN): _text_to_boolean,
    (STRING, DOUBLE): partial(_written, _NUMBER, _doubles),
    (STRING, FLOAT): partial(_written, _NUMBER, lambda texts: _to_single(_doubles(texts))),
    (STRING, DATE): partial(_written, _DATE, lambda texts: texts.cast(pa.date32())),
    (STRING, TIME): partial(_written, _CLOCK, _clock),
    (STRING, TIMESTAMP): partial(_written, f"{_DATE}(?:[T ]{_CLOCK})?", lambda texts: texts.cast(_NAIVE)),
    (STRING, TIMESTAMPTZ): _text_to_timestamptz,
    (DATE, DATE): _all,
    (DATE, TIMESTAMP): partial(_date_to_timestamp, _NAIVE),
    (DATE, TIMESTAMPTZ): partial(_date_to_timestamp, _ZONED),
    **{
        (moment, target): cast
        for moment in (TIMESTAMP, TIMESTAMPTZ)
        for target, cast in (
            (DATE, _moment_to_date),
            (TIME, _moment_to_time),
            (DOUBLE, _moment_to_double),
            (TIMESTAMP, lambda moments: Cast(moments.view(pa.int64()).view(_NAIVE))),
            (TIMESTAMPTZ, lambda moments: Cast(moments.view(pa.int64()).view(_ZONED))),
        )
    },
}
