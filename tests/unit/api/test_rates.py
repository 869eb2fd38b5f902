"""Token buckets, by a clock of the test."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airberg.api import rates
from airberg.api.limit_settings import LimitSettings
from airberg.api.rates import Buckets, Rates, kind_of, network_of
from airberg.errors import TooManyRequests


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def buckets(allowance: int) -> tuple[Buckets, Clock]:
    """Buckets with a clock."""
    clock = Clock()
    return Buckets("writes", allowance, clock), clock


def test_all_of_the_allowance_may_come_at_once_and_no_more() -> None:
    """The answer says what is left, and a refusal when to come again and which setting it is."""
    found, _ = buckets(3)
    standings = [found.take("ann") for _ in range(3)]
    assert [s.left for s in standings if s] == [2, 1, 0]
    assert standings[-1] is not None
    assert standings[-1].headers() == {
        "RateLimit-Policy": '"writes";q=3;w=60',
        "RateLimit": '"writes";r=0;t=60',
    }
    with pytest.raises(TooManyRequests) as e:
        found.take("ann")
    assert (e.value.retry_after, e.value.code) == (20, "rate-limited")
    assert "AIRBERG_LIMITS__WRITES_PER_MINUTE" in e.value.guidance
    assert found.take("bob") is not None


def test_who_waits_as_told_is_served() -> None:
    """And not a second before."""
    found, clock = buckets(3)
    for _ in range(3):
        found.take("ann")
    clock.now += 19
    with pytest.raises(TooManyRequests) as e:
        found.take("ann")
    clock.now += e.value.retry_after
    assert found.take("ann") is not None
    with pytest.raises(TooManyRequests):
        found.take("ann")


@given(
    st.integers(1, 200),
    st.lists(st.floats(0, 30, allow_nan=False), min_size=1, max_size=300),
)
def test_no_caller_gets_more_than_the_allowance_and_what_time_brings(
    allowance: int, pauses: list[float]
) -> None:
    """Whatever the pauses; and whoever is below both is never refused."""
    found, clock = buckets(allowance)
    tokens = float(allowance)
    for pause in pauses:
        clock.now += pause
        tokens = min(allowance, tokens + pause * allowance / 60)
        try:
            found.take("ann")
        except TooManyRequests:
            assert tokens < 1 + 1e-3
        else:
            assert tokens > 1 - 1e-3
            tokens -= 1


def test_without_a_limit_nothing_is_counted() -> None:
    """0 switches one off."""
    found, _ = buckets(0)
    assert all(found.take("ann") is None for _ in range(1000))
    found.check("ann")


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was not seen for longest is forgotten first."""
    monkeypatch.setattr(rates, "MAX_BUCKETS", 10)
    found, _ = buckets(1)
    for number in range(11):
        found.take(f"caller {number}")
    assert found.take("caller 0") is not None
    with pytest.raises(TooManyRequests):
        found.take("caller 10")


def test_wrong_credentials_close_an_address_and_not_another() -> None:
    """Also for those that would hold: they are not looked at."""
    clock = Clock()
    found = Rates(LimitSettings(failed_logins_per_minute=2), clock)
    for _ in range(5):  # those that come too late are not counted again: it opens after half a minute
        found.count_failure("2001:db8::1")
    with pytest.raises(TooManyRequests):
        found.check_address("2001:db8::ffff")
    found.check_address("2001:db8:0:1::1")
    clock.now += 31
    found.check_address("2001:db8::1")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1:2:3:4", "2001:db8::"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
    ],
)
def test_networks(address: str, network: str) -> None:
    """64 bits of IPv6 are one client."""
    assert network_of(address) == network


@pytest.mark.parametrize(
    ("method", "path", "query", "kind"),
    [
        ("GET", "/api/jobs", "", "reads"),
        ("HEAD", "/api/airbyte/ingest", "", "reads"),
        ("DELETE", "/api/jobs/1", "", "writes"),
        ("POST", "/api/airbyte/ingest", "", "source-questions"),
        ("POST", "/api/airbyte/ingest", "dry_run=true&preflight=run", "source-questions"),
        ("POST", "/api/airbyte/ingest", "preflight=skip", "writes"),
        ("POST", "/api/airbyte/check", "preflight=skip", "source-questions"),
    ],
)
def test_kinds(method: str, path: str, query: str, kind: str) -> None:
    """What asks a source has an allowance of its own."""
    assert kind_of(method, path, query) == kind
