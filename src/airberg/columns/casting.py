"""Casts, with Spark's meaning (its `cast` without ANSI mode), except that what overflows is rejected.

| to | from |
|---|---|
| string | anything, as the source wrote it: text as it is, everything else as JSON |
| json | text that is JSON; anything else as JSON |
| boolean | numbers (not 0), `true t yes y 1` and `false f no n 0` |
| integers | numbers towards zero, text with digits, booleans, timestamps as whole seconds since 1970 |
| float, double | numbers, numeric text, `NaN` and `Infinity`, booleans, timestamps |
| decimal | the same without the last two of text, rounded half up |
| date | text that begins with a date, also `2026`, `2026-1`, or BC; timestamps by their day in UTC |
| timestamps | ISO text, dates at midnight, numbers as seconds since 1970; without an offset it is UTC |
| time | text (`3:04`, `03:04:05.5`, `3:04 PM`); timestamps by their time in UTC |
| binary | text, in UTF-8 |

ASCII space and control characters around text do not matter. Text without meaning in the target is
rejected. `docs/reference/casts.md` has an example of each kind, and where Spark differs; tests compare both.
"""

from __future__ import annotations

import datetime as dt
import math
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
    without_zone,
)
from airberg.columns.json_text import CellValue, JsonValue, json_text, parse_exact
from airberg.columns.moment_text import SPACE, trimmed, written_date, written_moment, written_time
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
    Primitive,
)

_SECOND_US: Final = 1_000_000
_TRUE: Final = frozenset({"true", "t", "yes", "y", "1"})
_FALSE: Final = frozenset({"false", "f", "no", "n", "0"})
_BITS: Final = {"byte": 8, "short": 16, "int": 32, "long": 64}

_NUMBERS: Final = frozenset({BYTE, SHORT, INT, LONG, FLOAT, DOUBLE})
_READ_FIRST: Final = frozenset({DATE, TIME, TIMESTAMP, TIMESTAMPTZ, BINARY})

_FAR: Final = (FarDate, FarTimestamp, FarTimestamptz)
_INTEGER = re.compile(r"([+-]?[0-9]*)(?:\.([0-9]*))?")
_WORDS: Final = {
    sign + word: number
    for word, numbers in {
        "inf": (math.inf, math.inf, -math.inf),
        "infinity": (math.inf, math.inf, -math.inf),
        "nan": (math.nan, math.nan, math.nan),
    }.items()
    for sign, number in zip(("", "+", "-"), numbers, strict=True)
}
_MAX_DIGITS: Final = 30
"""Integers of more digits fit no column; leading zeros aside."""


def caster(source: ColumnType, target: ColumnType) -> Convert:
    """The cast of a column's JSON values.

    Texts that are declared as numbers, dates, times or bytes are read as such first, which gives them their
    meaning; every other value, and one that is not what was declared, is cast as what it is.
    """
    if target == STRING:
        return text_of
    if target == JSON:
        return _json_from_text if source == STRING else json_text
    to = _target(target)
    if source in _NUMBERS or isinstance(source, Decimal):
        return lambda value: to(_read_number(value) if isinstance(value, str) else value)
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


def _read_number(text: str) -> Exact | str:
    try:
        return parse_number(text)
    except REJECTIONS:
        return text


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
            return parse_number(value.strip(SPACE))
    return reject()


def _integer_of(text: str) -> int:
    """Spark's integers in a text: digits, and a fraction that is cut off, but no exponent."""
    match = _INTEGER.fullmatch(trimmed(text))
    if not match:
        reject()
    digits, fraction = match.groups()
    if digits in ("", "+", "-") and not fraction:
        reject()
    significant = digits.lstrip("+-0") or "0"
    if len(significant) > _MAX_DIGITS:
        reject(SIZE)
    return -int(significant) if digits.startswith("-") else int(significant)


def _to_integer(bits: int) -> Convert:
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1

    def cast(value: CellValue) -> int:
        if isinstance(value, dt.datetime | FarTimestamp | FarTimestamptz):
            number = micros_of(value) // _SECOND_US  # Spark rounds down, also before 1970
        elif isinstance(value, str):
            number = _integer_of(value)
        else:
            found = _number(value)
            number = int(expandable(found)) if isinstance(found, Exact) else int(found)
        return number if low <= number <= high else reject(SIZE)

    return cast


def _to_decimal(target: Decimal) -> Convert:
    read = decimal_reader(target, rounded=True)
    return lambda value: read(_number(value))


def _to_double(value: CellValue) -> float:
    if isinstance(value, str) and (word := _WORDS.get(value.strip(SPACE).lower())) is not None:
        return word
    return to_float(_number(value))


def _to_float(value: CellValue) -> float:
    try:
        (single,) = struct.unpack("<f", struct.pack("<f", _to_double(value)))
    except OverflowError:
        reject(SIZE)
    return float(single)


def _to_boolean(value: CellValue) -> bool:
    if isinstance(value, str):
        word = trimmed(value).lower()
        return True if word in _TRUE else False if word in _FALSE else reject()
    if isinstance(value, bool | int | float | Exact) and not isinstance(value, _FAR):
        return bool(value)
    return reject()


# ---- dates and times ---------------------------------------------------------------------------------------


def _to_timestamptz(value: CellValue) -> dt.datetime | FarTimestamptz:
    match value:
        case dt.datetime() | FarTimestamp() | FarTimestamptz():
            return in_utc(value)
        case dt.date() | FarDate():
            return moment_in_utc(days_of(value) * DAY_US)
        case str():
            moment = written_moment(value)
            return moved_moment(moment.clock, moment.cycles)
        case bool():
            reject()
        case int() | float() | Exact():
            exact = expandable(Exact(number_text(value)))
            return moment_in_utc(int(exact.scaleb(6)))
    return reject()


def _to_timestamp(value: CellValue) -> dt.datetime | FarTimestamp:
    if isinstance(value, str):  # as written: an offset does not move the clock, as in Spark
        moment = written_moment(value)
        return without_zone(moved_moment(moment.clock.replace(tzinfo=None), moment.cycles))
    return without_zone(_to_timestamptz(value))


def _to_date(value: CellValue) -> Day:
    match value:
        case dt.datetime() | FarTimestamp() | FarTimestamptz():
            return day_at(micros_of(value) // DAY_US)
        case dt.date() | FarDate():
            return value
        case str():
            return moved_day(*written_date(value))
    return reject()


def _to_time(value: CellValue) -> dt.time:
    match value:
        case dt.datetime() | FarTimestamp() | FarTimestamptz():
            return (dt.datetime.min + dt.timedelta(microseconds=micros_of(value) % DAY_US)).time()
        case dt.time():
            return value
        case str():
            return utc_time(written_time(value))
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
