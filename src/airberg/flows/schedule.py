"""Cron schedules: what Airflow will accept, and when it will run.

Airflow reads a schedule with croniter in `CronTriggerTimetable`. The checks here are stricter where Airflow
would accept a schedule and then never run it, or run it at other times than its writer meant.
"""

from __future__ import annotations

import difflib
import functools
import re
import zoneinfo
from datetime import UTC, datetime

from croniter import CroniterBadDateError, CroniterError, croniter

PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
MAX_LENGTH = 200
_DRAWN = re.compile(r"(^|[\s,])[rh]($|[\s,/(])", re.IGNORECASE)
"""`R` and `H`: croniter draws such a field anew at each reading."""
_ANY_DAY = datetime(2024, 1, 1)


def check_schedule(text: str) -> str | None:
    """What is wrong with a schedule, as a sentence that does not repeat it; None when it can be used.

    Refused although Airflow accepts them: six or seven fields (Airflow takes seconds as the *last* field),
    `@once`, `@reboot`, random fields, and expressions that never come true (31 February).
    """
    if len(text) > MAX_LENGTH:
        return f"The schedule is longer than {MAX_LENGTH} characters."
    if not text.isprintable():
        return "The schedule has characters that cannot be printed."
    if text.startswith("@"):
        return None if text in PRESETS else f"The schedule is not one of {', '.join(PRESETS)}."
    fields = text.split()
    if len(fields) != 5:
        return f"The schedule has {len(fields)} fields; a cron expression has five."
    if _DRAWN.search(text):
        return "The schedule has a random field."
    try:
        if not croniter.is_valid(text, strict=True):
            return "The schedule is not a cron expression that can come true."
        croniter(text, _ANY_DAY).get_next(datetime)
    except CroniterBadDateError:
        return "The schedule never comes true."
    except (CroniterError, ValueError, OverflowError):
        return "The schedule is not a cron expression."
    return None


def check_timezone(name: str) -> str | None:
    """What is wrong with the name of a time zone, as a sentence; None when it is an IANA name."""
    known = _zones()
    if name in known:
        return None
    folded = {zone.casefold(): zone for zone in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.7)
    hint = f" Did you mean {folded[near[0]]}?" if near else ""
    return f"This is not a time zone of the IANA database.{hint}"


def next_times(schedule: str, timezone: str, after: datetime, n: int) -> list[datetime]:
    """The next `n` times a schedule comes true after a moment, in UTC, as Airflow computes them.

    A time that the clock skips when it goes forward comes one hour later; one that it shows twice when it
    goes back comes at the second. A schedule for every hour runs every hour through both changes.

    Args:
        schedule: One that `check_schedule` accepts.
        timezone: One that `check_timezone` accepts.
        after: An aware datetime.
        n: How many.
    """
    # Schedules count in minutes, so that all moments of one minute have the same next times.
    return list(_times_after(schedule, timezone, after.astimezone(UTC).replace(second=0, microsecond=0), n))


@functools.lru_cache(maxsize=20_000)
def _times_after(schedule: str, timezone: str, after: datetime, n: int) -> tuple[datetime, ...]:
    """A page of jobs asks this a hundred times a second, and each answer is one to two milliseconds."""
    zone = zoneinfo.ZoneInfo(timezone)
    expression = PRESETS.get(schedule, schedule)
    times: list[datetime] = []
    current = after
    while len(times) < n:
        naive = current.astimezone(zone).replace(tzinfo=None, fold=0)
        cron = croniter(expression, naive)
        scheduled = cron.get_next(datetime)
        if cron.expanded[1] == ["*"]:
            current += scheduled - naive
        else:
            current = _later_reading(scheduled, zone)
        times.append(current)
    return tuple(times)


def _later_reading(local: datetime, zone: zoneinfo.ZoneInfo) -> datetime:
    """A wall clock's time in UTC; of the two readings around a change of the clock, the later one."""
    return max(local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))


@functools.cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones()) - {"Factory", "localtime"}
