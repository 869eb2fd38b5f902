"""Schedules: what is refused, and when they come true."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from airberg.flows.schedule import PRESETS, check_schedule, check_timezone, next_times

FIELD = st.one_of(
    st.just("*"),
    st.integers(1, 12).map(str),
    st.integers(2, 11).map(lambda n: f"*/{n}"),
    st.tuples(st.integers(1, 5), st.integers(6, 11)).map(lambda p: f"{p[0]}-{p[1]}"),
)
MOMENT = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)).map(lambda t: t.replace(tzinfo=UTC))


@pytest.mark.parametrize(
    "text",
    [*PRESETS, "0 3 * * *", "*/15 8-18 * * MON-FRI", "0 3 * * MON#1", "0 3 L * *", "0 3 * * 7", "0 0 29 2 *"],
)
def test_schedules_that_can_be_used(text: str) -> None:
    """Presets and five-field expressions are accepted, names and the rarer forms too."""
    assert check_schedule(text) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("*/15 * * * * *", "6 fields"),
        ("@reboot", "not one of @hourly"),
        ("@once", "not one of"),
        ("@Daily", "not one of"),
        ("0 0 31 2 *", "come true"),
        ("61 * * * *", "cron expression"),
        ("a b c d e", "cron expression"),
        ("H 3 * * *", "random"),
        ("R * * * *", "random"),
        ("R(0-9)/2 * * * *", "random"),
        ("0\n3 * * *", "cannot be printed"),
        ("0 3 * * *" + " " * 300, "longer than"),
    ],
)
def test_schedules_that_cannot_be_used(text: str, says: str) -> None:
    """What Airflow would refuse, misread or never run is refused, with the reason."""
    problem = check_schedule(text) or ""
    assert says in problem
    assert len(text) < 6 or text not in problem


@settings(max_examples=100, deadline=None)
@given(
    st.text(max_size=40) | st.lists(st.text("0123456789*/-,#LWRH@ ", max_size=6), max_size=7).map(" ".join)
)
def test_any_text_is_judged(text: str) -> None:
    """Whatever the text: a verdict, never an exception; and what is accepted has a next time."""
    if check_schedule(text) is None:
        assert len(next_times(text, "UTC", datetime(2026, 1, 1, tzinfo=UTC), 1)) == 1


@settings(max_examples=80, deadline=None)
@given(st.tuples(FIELD, FIELD, FIELD, FIELD, FIELD).map(" ".join), MOMENT)
def test_times_rise_and_fit_in_utc(schedule: str, after: datetime) -> None:
    """Times rise, begin after the moment, and have whole minutes."""
    assume(check_schedule(schedule) is None)
    times = next_times(schedule, "UTC", after, 4)
    assert [after, *times] == sorted({after, *times})
    assert all(t.second == t.microsecond == 0 for t in times)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 23),
    st.integers(0, 59),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    MOMENT,
)
def test_a_daily_schedule_runs_once_a_day(hour: int, minute: int, zone: str, after: datetime) -> None:
    """Across every change of the clock a daily schedule has one time on each local day."""
    local = zoneinfo.ZoneInfo(zone)
    times = [t.astimezone(local) for t in next_times(f"{minute} {hour} * * *", zone, after, 30)]
    days = [t.date() for t in times]
    assert days == [days[0] + timedelta(days=n) for n in range(30)]
    shift = [60 * (t.hour - hour) + t.minute - minute for t in times]
    # Only a time that the clock skips is shown otherwise: later by the skipped half hour or hour.
    assert sorted(shift)[:-1] == [0] * 29
    assert sorted(shift)[-1] in (0, 30, 60)


def test_a_time_that_the_clock_skips_comes_an_hour_later() -> None:
    """02:30 does not exist in Berlin on 29 March 2026: the run is at 03:30 summer time."""
    assert next_times("30 2 * * *", "Europe/Berlin", datetime(2026, 3, 28, 12, tzinfo=UTC), 2) == [
        datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
        datetime(2026, 3, 30, 0, 30, tzinfo=UTC),
    ]


def test_a_time_that_the_clock_shows_twice_comes_once() -> None:
    """02:30 comes twice in Berlin on 25 October 2026: the run is at the second."""
    assert next_times("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 24, 12, tzinfo=UTC), 2) == [
        datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
        datetime(2026, 10, 26, 1, 30, tzinfo=UTC),
    ]


def test_an_hourly_schedule_runs_through_a_change() -> None:
    """Every hour means every hour, through the hour that comes twice as well."""
    first = datetime(2026, 10, 24, 22, 30, tzinfo=UTC)
    times = next_times("30 * * * *", "Europe/Berlin", first, 5)
    assert times == [first + timedelta(hours=n) for n in range(1, 6)]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Europe/Berlin", None),
        ("UTC", None),
        ("europe/berlin", "Did you mean Europe/Berlin?"),
        ("Europe/Berln", "Did you mean Europe/Berlin?"),
        ("../../etc/passwd", "not a time zone"),
        ("", "not a time zone"),
        ("Factory", "not a time zone"),
        ("x" * 5000, "not a time zone"),
    ],
)
def test_time_zones(name: str, says: str | None) -> None:
    """IANA names are accepted; anything else is refused, with the name that was probably meant."""
    problem = check_timezone(name)
    assert problem is None if says is None else says in (problem or "")
    assert len(problem or "") < 300


@pytest.mark.parametrize("schedule", ["* * * * *", "30 2 * * *", "0 * * * *", "@daily"])
@pytest.mark.parametrize("second", [0, 1, 30, 59])
def test_every_moment_of_a_minute_has_the_same_next_times(schedule: str, second: int) -> None:
    """A time is due strictly after the moment, also when that is on the second of another one."""
    minute = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
    times = next_times(schedule, "Europe/Berlin", minute, 3)
    assert times[0] > minute
    assert next_times(schedule, "Europe/Berlin", minute.replace(second=second, microsecond=7), 3) == times
