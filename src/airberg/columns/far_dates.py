"""Days and moments that Python has not: before year 1, which sources write with ` BC`, and after 9999.

Iceberg and Arrow hold them: a date is a number of days, a timestamp one of microseconds, since 1970. Where
Python has a date or datetime we use that, else the number, as one of the types below. They are integers, so
Arrow takes them among dates, and types of their own, so that nobody takes them for numbers.

The calendar is the proleptic Gregorian one, with a year 0 (which is 1 BC), as in ISO 8601 and in the Iceberg
specification. It repeats every 400 years: a far text is read, and written, in a year that Python has.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

from airberg.errors import ValueRejected


class FarDate(int):
    """A day, as days since 1970-01-01."""

    __slots__ = ()

    def __str__(self) -> str:
        return _day_text(self)


class FarTimestamp(int):
    """A moment without zone, as microseconds since 1970-01-01."""

    __slots__ = ()

    def __str__(self) -> str:
        return _moment_text(self)


class FarTimestamptz(int):
    """A moment in UTC, as microseconds since 1970-01-01."""

    __slots__ = ()

    def __str__(self) -> str:
        return _moment_text(self) + "Z"


Day = dt.date | FarDate
Moment = dt.datetime | FarTimestamp | FarTimestamptz

MAX_DAYS: Final = 2**31 - 2
"""Dates reach so many days to both sides; engines take the last one of 32 bits for infinity."""

MAX_MICROS: Final = 106_751_991 * 86_400_000_000
"""Timestamps reach so many microseconds to both sides: the whole days of 64 bits, as DuckDB has it."""

DAY_US: Final = 86_400_000_000
_CYCLE_YEARS: Final = 400
_CYCLE_DAYS: Final = 146_097
_MICRO: Final = dt.timedelta(microseconds=1)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_EPOCH_DAY: Final = _EPOCH.toordinal()
_BASE: Final = 2000  # the cycle that far years are moved to
_BASE_DAY: Final = dt.date(_BASE, 1, 1).toordinal() - _EPOCH_DAY

_FAR = re.compile(r"([+-]?)([0-9]{4,7})(?=-|$)(.*?)( BC)?", re.DOTALL)


def near(text: str) -> tuple[str, int] | None:
    """A far date or timestamp as a text of a year that Python has, and the cycles that it was moved by.

    Years have four to seven digits, with `-` before year 0 and, if one likes, `+` after; or ` BC` at the end.

    Returns:
        None when the text is not of that form.
    """
    match = _FAR.fullmatch(text)
    if not match:
        return None
    sign, digits, rest, bc = match.groups()
    year = int(digits)
    if ((bc or sign == "-") and not year) or (bc and sign):
        return None  # there is no year -0 and no year 0 BC
    year = 1 - year if bc else -year if sign == "-" else year
    cycles, moved = divmod(year - _BASE, _CYCLE_YEARS)
    return f"{_BASE + moved:04}{rest}", cycles


# ---- from and to numbers -----------------------------------------------------------------------------------


def days_of(day: Day) -> int:
    """Days since 1970."""
    return int(day) if isinstance(day, int) else day.toordinal() - _EPOCH_DAY


def micros_of(moment: Moment) -> int:
    """Microseconds since 1970; a datetime without zone is taken for UTC."""
    if isinstance(moment, int):
        return int(moment)
    return ((moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment) - _EPOCH) // _MICRO


def day_at(days: int) -> Day:
    """The day so many days after 1970-01-01.

    Raises:
        ValueRejected: A column cannot hold it.
    """
    if 1 <= days + _EPOCH_DAY <= dt.date.max.toordinal():
        return dt.date.fromordinal(days + _EPOCH_DAY)
    return FarDate(_within(days, MAX_DAYS))


def moment_in_utc(micros: int) -> dt.datetime | FarTimestamptz:
    """The moment so many microseconds after 1970, in UTC.

    Raises:
        ValueRejected: A column cannot hold it.
    """
    try:
        return _EPOCH + dt.timedelta(microseconds=micros)
    except OverflowError:
        return FarTimestamptz(_within(micros, MAX_MICROS))


def without_zone(moment: Moment) -> dt.datetime | FarTimestamp:
    """The same clock, without a zone."""
    return moment.replace(tzinfo=None) if isinstance(moment, dt.datetime) else FarTimestamp(moment)


def moved_day(day: dt.date, cycles: int) -> Day:
    """The day so many cycles of 400 years later."""
    return day_at(days_of(day) + cycles * _CYCLE_DAYS)


def moved_moment(moment: dt.datetime, cycles: int) -> dt.datetime | FarTimestamptz:
    """The moment so many cycles of 400 years later, in UTC."""
    return moment_in_utc(micros_of(moment) + cycles * _CYCLE_DAYS * DAY_US)


def _within(number: int, limit: int) -> int:
    if not -limit <= number <= limit:
        raise ValueRejected("DESTINATION_FIELD_SIZE_LIMITATION")
    return number


# ---- to text -----------------------------------------------------------------------------------------------


def _day_text(days: int) -> str:
    """`-0043-03-15`, `12026-01-01`: what Spark and DuckDB read back."""
    cycles, moved = divmod(days - _BASE_DAY, _CYCLE_DAYS)
    day = dt.date.fromordinal(moved + _BASE_DAY + _EPOCH_DAY)
    year = day.year + cycles * _CYCLE_YEARS
    return f"{'-' if year < 0 else ''}{abs(year):04}-{day:%m-%d}"


def _moment_text(micros: int) -> str:
    days, clock = divmod(micros, DAY_US)
    time = (dt.datetime.min + dt.timedelta(microseconds=clock)).time()
    return f"{_day_text(days)}T{time.isoformat(timespec='microseconds')}"
