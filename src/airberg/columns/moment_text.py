"""Dates, timestamps and times of day in a text, in the forms in which Spark casts them.

Spark's grammar (`SparkDateTimeUtils.parseTimestampString`, `stringToDate`, `stringToTime`), and three forms
more: ` BC`, small `t` and `z` (RFC 3339 allows them), a time of day with an offset. Two less: a time without
a date is no timestamp (Spark takes today's date), and zones have IANA names with a slash, no abbreviations.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from airberg.columns.far_dates import near
from airberg.columns.reading import reject

SPACE: Final = "".join(map(chr, range(33)))
"""What may be around a number in a text: ASCII space and control characters."""

_NUMBER = "([0-9]{1,2})"
_DATE = re.compile(rf"([0-9]{{4}})(?:-{_NUMBER}(?:-{_NUMBER}(?:[T ].*|t[0-9].*)?)?)?", re.DOTALL)
_MOMENT = re.compile(
    rf"([0-9]{{4}})(?:-{_NUMBER}(?:-{_NUMBER}"
    rf"(?:[Tt ]{_NUMBER}(?::{_NUMBER}(?::{_NUMBER}(?:\.([0-9]*))?)?\s*(\S.*)?)?)?)?)?",
    re.DOTALL,
)
_PLAIN_YEAR = re.compile(r"(?!0000)[0-9]{4}(?:-|$)")
_LONG_YEAR = re.compile(r"[+-]?[0-9]{7}")
_TIME = re.compile(
    rf"(?:T(?=[0-9])|[\0- \x7f]*(?=[0-9]+:)){_NUMBER}(?::{_NUMBER}(?::{_NUMBER}(?:\.([0-9]*))?)?)?"
    r"\s*(?:([AaPp])[Mm]|([Zz]|[+-].*))?",
    re.DOTALL,
)
_OFFSETS = (  # seconds behind a colon need minutes of two digits
    re.compile(
        r"(?:UTC|GMT|UT)?([+-])([0-9]{1,2})(?::([0-9]{1,2})(?:(?<=:[0-9]{2}):([0-9]{2}))?)?",
    ),
    re.compile(r"(?:UTC|GMT|UT)?([+-])([0-9]{2})([0-9]{2})([0-9]{2})?"),
)
_REGION = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)+")
_UTC: Final = frozenset({"Z", "z", "UTC", "GMT", "UT"})
_MOST_OFFSET: Final = dt.timedelta(hours=18)


class WrittenMoment(NamedTuple):
    """A date and time as they are written.

    Attributes:
        clock: In a year that Python has; with a zone if there is one.
        cycles: By how many cycles of 400 years it was moved for that.
    """

    clock: dt.datetime
    cycles: int


def trimmed(text: str) -> str:
    """The text without the space around it that does not matter, `SPACE` and DEL."""
    return text.strip(SPACE + "\x7f")


def written_moment(text: str) -> WrittenMoment:
    """A timestamp: `2026`, `2026-1-2`, `2026-01-02 03`, `2026-01-02T03:04:05.5+05:00`, also BC.

    Raises:
        ValueRejected, ValueError: The text is none.
    """
    if _LONG_YEAR.match(text := trimmed(text)):
        reject()
    text, cycles = _near(text)
    match = _MOMENT.fullmatch(text)
    if not match:
        reject()
    *date, hour, minute, second, fraction, zone = match.groups()
    clock = (int(hour or 0), int(minute or 0), int(second or 0), _micros(fraction))
    return WrittenMoment(dt.datetime(*_ymd(date), *clock, tzinfo=_zone(zone, cycles)), cycles)


def written_date(text: str) -> tuple[dt.date, int]:
    """The date that a text begins with, as written, and the cycles as in `WrittenMoment`.

    Behind a date with a day anything may follow a space or a `T`, as in Spark: a time, a zone, a remark.

    Raises:
        ValueRejected, ValueError: The text begins with none.
    """
    text, cycles = _near(trimmed(text))
    match = _DATE.fullmatch(text)
    return (dt.date(*_ymd(match.groups())), cycles) if match else reject()


def written_time(text: str) -> dt.time:
    """A time of day, `3:4`, `03:04:05.5`, `3:04 PM`, also with an offset.

    Raises:
        ValueRejected, ValueError: The text is none.
    """
    match = _TIME.fullmatch(text.rstrip(SPACE + "\x7f"))
    if not match:
        reject()
    hour, minute, second, fraction, half, offset = match.groups()
    hours = int(hour)
    if half:
        if not 1 <= hours <= 12:
            reject()
        hours = hours % 12 + (12 if half in "Pp" else 0)
    return dt.time(hours, int(minute or 0), int(second or 0), _micros(fraction), tzinfo=_zone(offset, 0))


def _near(text: str) -> tuple[str, int]:
    plain = _PLAIN_YEAR.match(text) and not text.endswith(" BC")
    return (None if plain else near(text)) or (text, 0)


def _ymd(parts: tuple[str | None, ...] | list[str | None]) -> tuple[int, int, int]:
    year, month, day = parts
    return int(year or 0), int(month or 1), int(day or 1)


def _micros(fraction: str | None) -> int:
    """Digits behind the second; those beyond microseconds are cut off."""
    return int((fraction or "0").ljust(6, "0")[:6])


def _zone(text: str | None, cycles: int) -> dt.tzinfo | None:
    if text is None:
        return None
    if text in _UTC:
        return dt.UTC
    if match := next(filter(None, (form.fullmatch(text) for form in _OFFSETS)), None):
        hours, minutes, seconds = (int(part or 0) for part in match.groups()[1:])
        offset = dt.timedelta(hours=hours, minutes=minutes, seconds=seconds)
        if offset > _MOST_OFFSET or max(minutes, seconds) > 59:
            reject()
        return dt.timezone(offset if match[1] == "+" else -offset)
    if cycles or not _REGION.fullmatch(
        text
    ):  # what a zone did in a year is not known of that 400 years later
        reject()
    try:
        return ZoneInfo(text)
    except (KeyError, OSError):  # a folder of the database is no zone
        reject()
