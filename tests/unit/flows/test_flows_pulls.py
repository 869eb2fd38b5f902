"""What the API remembers of those who ask for flows, whatever they say of themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import airberg
import airberg_airflow
from airberg.flows import pulls as module
from airberg.flows.pulls import FeedPulls
from airberg_airflow.sender import sender_headers


def test_the_package_is_of_this_version() -> None:
    """The package for Airflow says the version of the whole."""
    assert airberg_airflow.__version__ == airberg.__version__


def test_what_the_bundle_says_is_understood() -> None:
    """Host, versions and a clock that is ours."""
    said = sender_headers()
    pulls = FeedPulls("1")
    pulls.note(said["User-Agent"], said["Date"])
    [seen] = pulls.seen().pulls
    assert (seen.package, seen.clock_s) == (airberg.__version__, 0.0)
    assert seen.python is not None
    assert seen.host
    assert seen.airflow == "unknown"  # it is not installed beside the tests


@given(st.text(max_size=700), st.none() | st.text(max_size=60))
def test_hostile_headers_are_noted_short(user_agent: str, date: str | None) -> None:
    """Nothing that somebody sends is kept longer than a name, or breaks anything."""
    pulls = FeedPulls("1")
    pulls.note(user_agent, date)
    pulls.refuse(user_agent)
    [seen] = pulls.seen().pulls
    assert all(len(text or "") <= 64 for text in (seen.host, seen.airflow, seen.package, seen.python))
    assert len(pulls.seen().refused.address or "") <= 64


@pytest.mark.parametrize(("ahead_s", "told"), [(0, 0.0), (-1, 0.0), (40, 40.0), (-40, -40.0)])
def test_clocks_are_compared(ahead_s: int, told: float) -> None:
    """A header without fractions of a second cannot tell less than one."""
    pulls = FeedPulls("1")
    pulls.note("host/a", format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_s), usegmt=True))
    [seen] = pulls.seen().pulls
    assert seen.clock_s == pytest.approx(told, abs=1.6)
    assert (seen.clock_s == 0.0) == (told == 0.0) or abs(ahead_s) <= 1


def test_the_last_hosts_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many hosts, those that asked last, each with its count."""
    monkeypatch.setattr(module, "MOST_HOSTS", 2)
    pulls = FeedPulls("1")
    for host in ("a", "b", "a", "c"):
        pulls.note(f"host/{host}", None)
    assert [(p.host, p.count) for p in pulls.seen().pulls] == [("c", 1), ("a", 2)]
