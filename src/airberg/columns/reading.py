"""Reading: a JSON value becomes the value of the type that the stream's schema declares.

Strict, but not where nothing is lost: 3.0 is a fine integer, "12" a fine number, and any value has a text.
That is also what Airbyte's own destinations take (their `AirbyteValueCoercer`). Everything else is rejected;
the caller writes null and the reason.
"""

from __future__ import annotations

import base64
import datetime as dt
import math
import re
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Inexact, InvalidOperation
from decimal import Decimal as Exact
from typing import Any, Final, NoReturn, TypeAlias

from airberg.columns.far_dates import (
    Day,
    FarTimestamp,
    FarTimestamptz,
    Moment,
    micros_of,
    moment_in_utc,
    moved_day,
    moved_moment,
    near,
    without_zone,
)
from airberg.columns.json_text import CellValue, JsonValue, json_text
from airberg.columns.types import ColumnType, Decimal, Json, List, Primitive
from airberg.errors import ValueRejected

Convert: TypeAlias = Callable[[Any], CellValue]
"""From one value, not None, to another; raises one of `REJECTIONS` when it does not fit."""

TYPECAST: Final = "DESTINATION_TYPECAST_ERROR"
SIZE: Final = "DESTINATION_FIELD_SIZE_LIMITATION"
SERIALIZATION: Final = "DESTINATION_SERIALIZATION_ERROR"
# Reasons of `_airbyte_meta.changes` in the Airbyte protocol (AirbyteRecordMessageMetaChange).

REJECTIONS: Final = (ValueRejected, ValueError, TypeError, ArithmeticError, RecursionError)
"""What a conversion raises for a value that does not fit. `reason_of` tells the reason."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")
_MAX_EXPONENT: Final = 400
"""Numbers of more digits before the point fit no column; expanding them could take all memory."""

_PLAIN_DIGITS: Final = 40
_READING_DAY: Final = dt.date(2000, 1, 1)


def reason_of(error: Exception) -> str:
    """The protocol's reason for a rejection."""
    if isinstance(error, ValueRejected):
        return error.reason
    return SERIALIZATION if isinstance(error, UnicodeEncodeError) else TYPECAST


def reader(source: ColumnType) -> Convert:
    """The conversion from JSON to a declared type.

    Objects and lists are only checked to be that: their members are converted elsewhere.
    """
    if isinstance(source, Primitive):
        return _READERS[source.name]
    if isinstance(source, Decimal):
        return decimal_reader(source)
    if isinstance(source, Json):
        return json_text
    return _list if isinstance(source, List) else _object


def reject(reason: str = TYPECAST) -> NoReturn:
    """Raise the rejection of a value."""
    raise ValueRejected(reason)


# ---- numbers -----------------------------------------------------------------------------------------------


def parse_number(text: str) -> Exact:
    """The number that a text is, exactly.

    Raises:
        ValueRejected: It is not one (as `NaN` and `Infinity` are not).
    """
    if not _NUMBER.fullmatch(text):
        reject()
    return Exact(text)


def expandable(number: Exact) -> Exact:
    """The same number, if it is safe to write out all its digits."""
    if not number.is_finite():
        reject()
    if number.adjusted() > _MAX_EXPONENT:
        reject(SIZE)
    return number


def integer_reader(bits: int) -> Convert:
    """Integers of a range; also whole numbers that are written otherwise."""
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1

    def read(value: JsonValue) -> int:
        if type(value) is int:
            number = value
        elif isinstance(value, float):
            if not value.is_integer():
                reject()
            number = int(value)
        elif isinstance(value, Exact | str):
            exact = expandable(parse_number(value) if isinstance(value, str) else value)
            if exact != exact.to_integral_value():
                reject()
            number = int(exact)
        else:
            reject()
        return number if low <= number <= high else reject(SIZE)

    return read


def to_float(value: int | float | Exact) -> float:
    """The nearest double; rejects what is beyond its range."""
    try:
        number = float(value)
    except OverflowError:
        reject(SIZE)
    return number if math.isfinite(number) else reject(SIZE)


def decimal_reader(target: Decimal, *, rounded: bool = False) -> Convert:
    """Numbers of a precision and scale; further digits are rejected, or rounded half up as Spark does."""
    unit = Exact(1).scaleb(-target.scale)
    traps = [InvalidOperation] if rounded else [InvalidOperation, Inexact]
    context = Context(prec=target.precision, rounding=ROUND_HALF_UP, traps=traps)

    def read(value: JsonValue) -> Exact:
        match value:
            case bool():
                reject()
            case str():
                number = parse_number(value)
            case float():
                number = Exact(repr(value))
            case int() | Exact():
                number = Exact(value)
            case _:
                reject()
        if not number.is_finite():
            reject()
        try:
            return number.quantize(unit, context=context)
        except Inexact:
            reject()
        except InvalidOperation:
            reject(SIZE)

    return read


def number_text(value: int | float | Exact) -> str:
    """A number with all its digits, without an exponent unless it is very large or very small."""
    if isinstance(value, Exact) and -_PLAIN_DIGITS < value.adjusted() < _PLAIN_DIGITS:
        return format(value, "f")
    return repr(value) if isinstance(value, float) else str(value)


def _double(value: JsonValue) -> float:
    if isinstance(value, str):
        return to_float(parse_number(value))
    if isinstance(value, int | float | Exact) and not isinstance(value, bool):
        return to_float(value)
    return reject()


# ---- text, binary, boolean ---------------------------------------------------------------------------------


def text_of(value: JsonValue) -> str:
    """Text as it is; anything else as JSON writes it."""
    if isinstance(value, str):
        value.encode()  # half a surrogate pair cannot be stored
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return number_text(value) if isinstance(value, int | float | Exact) else json_text(value)


def _boolean(value: JsonValue) -> bool:
    return value if isinstance(value, bool) else reject()


def _binary(value: JsonValue) -> bytes:
    return base64.b64decode(value, validate=True) if isinstance(value, str) else reject()


def _object(value: JsonValue) -> dict[str, Any]:
    return value if isinstance(value, dict) else reject()


def _list(value: JsonValue) -> list[Any]:
    return value if isinstance(value, list) else reject()


# ---- dates and times ---------------------------------------------------------------------------------------


def _parsed(value: JsonValue) -> tuple[dt.datetime, int]:
    """ISO 8601 by the standard library, and the cycles of years by which a far one was moved to be read.

    Digits beyond microseconds are cut off.
    """
    if not isinstance(value, str):
        reject()
    try:
        return dt.datetime.fromisoformat(_with_zulu(value)), 0
    except ValueError:
        if (moved := near(value)) is None:
            raise
    text, cycles = moved
    return dt.datetime.fromisoformat(_with_zulu(text)), cycles


def _with_zulu(text: str) -> str:
    return text[:-1] + "Z" if text.endswith("z") else text  # RFC 3339 allows the small letter


def _timestamptz(value: JsonValue) -> dt.datetime | FarTimestamptz:
    """In UTC. Without an offset it is taken for UTC: some sources declare a zone and send none."""
    moment, cycles = _parsed(value)
    return moved_moment(moment, cycles) if cycles else in_utc(moment)


def in_utc(moment: Moment) -> dt.datetime | FarTimestamptz:
    """The moment in UTC; one without zone is taken for UTC."""
    if not isinstance(moment, dt.datetime):
        return FarTimestamptz(moment)
    try:
        return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
    except OverflowError:  # its offset takes it out of the years of Python
        return moment_in_utc(micros_of(moment))


def _timestamp(value: JsonValue) -> dt.datetime | FarTimestamp:
    """Without zone. An offset that was sent all the same is honoured: the result is the time in UTC."""
    return without_zone(_timestamptz(value))


def _date(value: JsonValue) -> Day:
    """A date; also a date-time at midnight, which many sources send for one."""
    if not isinstance(value, str):
        reject()
    if len(value) <= 10 and not value.startswith(("-", "+")):
        try:
            return dt.date.fromisoformat(value)
        except ValueError:
            pass
    moment, cycles = _parsed(value)
    if moment.timetz().replace(tzinfo=None) != dt.time(0):
        reject()
    return moved_day(moment.date(), cycles) if cycles else moment.date()


def _time(value: JsonValue) -> dt.time:
    """The time of day; with an offset, the one in UTC (Iceberg's time has no zone)."""
    if not isinstance(value, str):
        reject()
    return utc_time(dt.time.fromisoformat(_with_zulu(value)))


def utc_time(time: dt.time) -> dt.time:
    """The time of day in UTC."""
    if time.tzinfo is None:
        return time
    return dt.datetime.combine(_READING_DAY, time).astimezone(dt.UTC).time()


_READERS: Final[dict[str, Convert]] = {
    "boolean": _boolean,
    "byte": integer_reader(8),
    "short": integer_reader(16),
    "int": integer_reader(32),
    "long": integer_reader(64),
    "float": _double,
    "double": _double,
    "date": _date,
    "time": _time,
    "timestamp": _timestamp,
    "timestamptz": _timestamptz,
    "string": text_of,
    "binary": _binary,
}
