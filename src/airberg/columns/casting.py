"""Casts, with Spark's meaning, except that what overflows is rejected instead of wrapped around.

| to | from |
|---|---|
| string | anything, as the source wrote it: text as it is, everything else as JSON |
| json | text that is JSON; anything else as JSON |
| boolean | numbers (not 0), `true t yes y 1` and `false f no n 0` |
| integers | numbers towards zero, numeric text, booleans, timestamps as whole seconds since 1970 |
| float, double | the same, with fractions |
| decimal | the same, rounded half up |
| date | ISO text, also partial (`2026`, `2026-1`), with a time, or ` BC`; timestamps by their day in UTC |
| timestamps | ISO text, dates at midnight, numbers as seconds since 1970; without an offset it is UTC |
| time | ISO text; timestamps by their time in UTC |
| binary | text, in UTF-8 |

Space around text does not matter. Text without meaning in the target is rejected.
"""

from __future__ import annotations

import datetime as dt
import re
import struct
from decimal import Decimal as Exact
from typing import Final

from airberg.columns.far_dates import (
    DAY_US,
    Day,
    FarDate,
    FarTimestamp,
    FarTimestamptz,
    day_at,
    days_of,
    micros_of,
    moment_in_utc,
    moved_day,
    moved_moment,
    near,
    without_zone,
)
from airberg.columns.json_text import CellValue, JsonValue, json_text, parse_exact
from airberg.columns.reading import (
    REJECTIONS,
    SIZE,
    Convert,
    decimal_reader,
    expandable,
    in_utc,
    number_text,
    parse_number,
    reader,
    reject,
    text_of,
    to_float,
    utc_time,
)
from airberg.columns.types import (
    BINARY,
    DATE,
    JSON,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    ColumnType,
    Decimal,
    Primitive,
)

_SECOND_US: Final = 1_000_000
_TRUE: Final = frozenset({"true", "t", "yes", "y", "1"})
_FALSE: Final = frozenset({"false", "f", "no", "n", "0"})
_BITS: Final = {"byte": 8, "short": 16, "int": 32, "long": 64}

_READ_FIRST: Final = frozenset({DATE, TIME, TIMESTAMP, TIMESTAMPTZ, BINARY})

_FAR: Final = (FarDate, FarTimestamp, FarTimestamptz)
_MOMENT = re.compile(
    r"([0-9]{4})(?:-([0-9]{1,2})(?:-([0-9]{1,2})"
    r"(?:[T ]([0-9]{1,2})(?::([0-9]{1,2})(?::([0-9]{1,2})(?:\.([0-9]*))?)?)?)?"
    r"\s*(?:(Z|UTC|GMT)|([+-])([0-9]{1,2})(?::?([0-9]{2}))?)?)?)?",
    re.IGNORECASE,
)


def caster(source: ColumnType, target: ColumnType) -> Convert:
    """The cast of a column's JSON values.

    Texts that are declared as dates, times or bytes are read as such first, which gives them their meaning;
    every other value, and one that is not what was declared, is cast as what it is.
    """
    if target == STRING:
        return text_of
    if target == JSON:
        return _json_from_text if source == STRING else json_text
    to = _target(target)
    if source not in _READ_FIRST:
        return to
    read = reader(source)

    def cast(value: JsonValue) -> CellValue:
        try:
            value = read(value)
        except REJECTIONS:
            if source == BINARY:
                raise
        return to(value)

    return cast


def _target(target: ColumnType) -> Convert:
    if isinstance(target, Decimal):
        return _to_decimal(target)
    if not isinstance(target, Primitive):
        raise TypeError(f"there are no casts to {target}")
    if bits := _BITS.get(target.name):
        return _to_integer(bits)
    return _CASTS[target.name]


def _json_from_text(value: JsonValue) -> str:
    if not isinstance(value, str):
        return json_text(value)
    parse_exact(value.encode())
    return value


# ---- numbers and booleans ----------------------------------------------------------------------------------


def _number(value: CellValue) -> int | float | Exact:
    """What a value is as a number: timestamps are seconds since 1970."""
    match value:
        case dt.datetime() | FarTimestamp() | FarTimestamptz():
            return Exact(micros_of(value)).scaleb(-6)
        case FarDate():
            reject()
        case bool():
            return int(value)
        case int() | float() | Exact():
            return value
        case str():
            return parse_number(value.strip())
    return reject()


def _to_integer(bits: int) -> Convert:
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1

    def cast(value: CellValue) -> int:
        if isinstance(value, dt.datetime | FarTimestamp | FarTimestamptz):
            number = micros_of(value) // _SECOND_US  # Spark rounds down, also before 1970
        else:
            found = _number(value)
            number = int(expandable(found)) if isinstance(found, Exact) else int(found)
        return number if low <= number <= high else reject(SIZE)

    return cast


def _to_decimal(target: Decimal) -> Convert:
    read = decimal_reader(target, rounded=True)
    return lambda value: read(_number(value))


def _to_double(value: CellValue) -> float:
    return to_float(_number(value))


def _to_float(value: CellValue) -> float:
    try:
        (single,) = struct.unpack("<f", struct.pack("<f", _to_double(value)))
    except OverflowError:
        reject(SIZE)
    return float(single)


def _to_boolean(value: CellValue) -> bool:
    if isinstance(value, str):
        word = value.strip().lower()
        return True if word in _TRUE else False if word in _FALSE else reject()
    if isinstance(value, bool | int | float | Exact) and not isinstance(value, _FAR):
        return bool(value)
    return reject()


# ---- dates and times ---------------------------------------------------------------------------------------


def _moment(text: str) -> tuple[dt.datetime, int]:
    """Spark's forms of a date or timestamp in a text, also with ` BC`; without an offset it has no zone.

    The second value is by how many cycles of years a far one was moved.
    """
    text, cycles = near(text.strip()) or (text.strip(), 0)
    match = _MOMENT.fullmatch(text)
    if not match:
        reject()
    year, month, day, hour, minute, second, fraction, utc, sign, hours, minutes = match.groups()
    zone: dt.tzinfo | None = dt.UTC if utc else None
    if sign:
        offset = dt.timedelta(hours=int(hours), minutes=int(minutes or 0))
        zone = dt.timezone(offset if sign == "+" else -offset)
    micro = int((fraction or "0").ljust(6, "0")[:6])
    clock = (int(hour or 0), int(minute or 0), int(second or 0), micro)
    return dt.datetime(int(year), int(month or 1), int(day or 1), *clock, tzinfo=zone), cycles


def _to_timestamptz(value: CellValue) -> dt.datetime | FarTimestamptz:
    match value:
        case dt.datetime() | FarTimestamp() | FarTimestamptz():
            return in_utc(value)
        case dt.date() | FarDate():
            return moment_in_utc(days_of(value) * DAY_US)
        case str():
            moment, cycles = _moment(value)
            return moved_moment(moment, cycles)
        case bool():
            reject()
        case int() | float() | Exact():
            exact = expandable(Exact(number_text(value)))
            return moment_in_utc(int(exact.scaleb(6)))
    return reject()


def _to_timestamp(value: CellValue) -> dt.datetime | FarTimestamp:
    return without_zone(_to_timestamptz(value))


def _to_date(value: CellValue) -> Day:
    match value:
        case dt.datetime() | FarTimestamp() | FarTimestamptz():
            return day_at(micros_of(value) // DAY_US)
        case dt.date() | FarDate():
            return value
        case str():
            moment, cycles = _moment(value)  # as written: an offset does not move the day, as in Spark
            return moved_day(moment.date(), cycles)
    return reject()


def _to_time(value: CellValue) -> dt.time:
    match value:
        case dt.datetime() | FarTimestamp() | FarTimestamptz():
            return (dt.datetime.min + dt.timedelta(microseconds=micros_of(value) % DAY_US)).time()
        case dt.time():
            return value
        case str():
            return utc_time(dt.time.fromisoformat(value.strip()))
    return reject()


def _to_binary(value: CellValue) -> bytes:
    match value:
        case bytes():
            return value
        case str():
            return value.encode()
    return reject()


_CASTS: Final[dict[str, Convert]] = {
    "boolean": _to_boolean,
    "float": _to_float,
    "double": _to_double,
    "date": _to_date,
    "time": _to_time,
    "timestamp": _to_timestamp,
    "timestamptz": _to_timestamptz,
    "binary": _to_binary,
}
