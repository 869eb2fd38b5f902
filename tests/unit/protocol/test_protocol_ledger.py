"""The books of a read: counts, statuses, the verdict."""

from __future__ import annotations

import pytest

from airberg.errors import ConfigurationFailed, TransientFailed
from airberg.protocol.ledger import Ledger
from airberg.protocol.messages import Estimate, FailureType, StreamPhase, StreamStatus, TraceError
from airberg.protocol.state import State, StateKey

USERS, ORDERS = StateKey(None, "users"), StateKey("shop", "orders")


def state(key: StateKey | None, count: int | None) -> State:
    """A state with a count of the source."""
    return State("stream" if key else "global", b"{}", key, record_count=count)


def finished(*streams: StateKey) -> Ledger:
    """A ledger in which the streams have completed."""
    ledger = Ledger([USERS, ORDERS])
    for stream in streams:
        ledger.observe(StreamStatus(stream, "COMPLETE"))
    return ledger


def test_counts_are_per_stream_since_its_last_state() -> None:
    """Interleaved streams are counted apart, and from zero after each state."""
    ledger = Ledger([USERS, ORDERS])
    ledger.add_records(USERS, 3)
    ledger.add_records(ORDERS, 5)
    ledger.add_state(state(USERS, 3))
    ledger.add_records(USERS)
    ledger.add_state(state(ORDERS, 5))
    ledger.add_state(state(USERS, 1))
    ledger.add_state(state(USERS, 0))
    assert (ledger.records(USERS), ledger.records(ORDERS)) == (4, 5)


def test_lost_record_fails_the_checkpoint() -> None:
    """A difference between the source's count and ours names the stream and both numbers."""
    ledger = Ledger([USERS, ORDERS])
    ledger.add_records(ORDERS, 4)
    with pytest.raises(
        TransientFailed, match=r"counted 5 records of stream shop\.orders .* but 4 arrived"
    ) as caught:
        ledger.observe(state(ORDERS, 5))
    assert caught.value.code == "record-count-mismatch"


def test_absent_counts_and_unknown_streams_are_not_compared() -> None:
    """Connectors need not count, and streams that nobody asked for do not matter."""
    ledger = Ledger([USERS])
    ledger.add_records(USERS, 4)
    ledger.add_state(state(USERS, None))
    assert ledger.add_records(ORDERS, 2) is False
    ledger.add_state(state(ORDERS, 9))
    assert ledger.unknown_records == 2


def test_global_state_counts_all_streams() -> None:
    """A global state's count covers every record since the one before."""
    ledger = Ledger([USERS, ORDERS])
    ledger.add_records(USERS, 2)
    ledger.add_records(ORDERS, 3)
    ledger.add_state(state(None, 5))
    ledger.add_records(USERS, 1)
    with pytest.raises(TransientFailed, match="all streams together"):
        ledger.add_state(state(None, 5))


def test_success_needs_exit_code_zero_and_completed_streams() -> None:
    """A clean end passes, and then every stream counts as completed."""
    ledger = finished(USERS, ORDERS)
    ledger.verdict(0)
    assert ledger.completed(USERS)
    assert ledger.completed(ORDERS)


def test_connector_without_statuses_completes_with_its_exit_code() -> None:
    """Statuses are optional: without any, exit code 0 is enough."""
    ledger = Ledger([USERS])
    ledger.verdict(0)
    assert ledger.completed(USERS)


@pytest.mark.parametrize("phase", ["STARTED", "RUNNING", "INCOMPLETE"])
def test_stream_that_did_not_complete_fails_a_run_with_exit_code_zero(phase: StreamPhase) -> None:
    """A stream that began and did not complete fails the run and is not completed."""
    ledger = finished(USERS)
    ledger.observe(StreamStatus(ORDERS, phase))
    with pytest.raises(TransientFailed, match=r"without completing shop\.orders") as caught:
        ledger.verdict(0)
    assert caught.value.code == "stream-incomplete"
    assert not ledger.completed(ORDERS)
    assert ledger.phase(ORDERS) == phase


def test_stream_that_is_not_mentioned_fails_when_others_are() -> None:
    """A connector that says statuses has to say one of every stream."""
    with pytest.raises(TransientFailed, match=r"shop\.orders"):
        finished(USERS).verdict(0)


@pytest.mark.parametrize(
    ("failure_type", "error"),
    [
        ("config_error", ConfigurationFailed),
        ("transient_error", TransientFailed),
        ("system_error", TransientFailed),
    ],
)
def test_trace_error_fails_the_run_whatever_the_exit_code(
    failure_type: FailureType, error: type[Exception]
) -> None:
    """The connector's own message is the error, its failure type decides about a retry."""
    ledger = finished(USERS, ORDERS)
    ledger.observe(TraceError("API key revoked", None, failure_type))
    with pytest.raises(error, match=r"^API key revoked"):
        ledger.verdict(0)


def test_first_error_is_told_and_a_curable_one_allows_a_retry() -> None:
    """Summaries at the end do not hide the cause; one transient error is worth another attempt."""
    ledger = Ledger([USERS, ORDERS])
    ledger.observe(TraceError("no right to read it", None, "config_error", ORDERS))
    ledger.observe(TraceError("rate limit", None, "transient_error", USERS))
    with pytest.raises(TransientFailed, match=r"Stream shop\.orders: no right to read it"):
        ledger.verdict(1)


def test_exit_code_is_told_with_the_last_words() -> None:
    """Without a TRACE error the exit code fails the run, and the end of stderr says why."""
    with pytest.raises(TransientFailed, match=r"exit code 3; its last words: ImportError \| no module x$"):
        finished(USERS, ORDERS).verdict(3, "ImportError\n\n  no module x\n")
    with pytest.raises(TransientFailed, match=r"signal 9 \(out of memory\?\)"):
        finished(USERS, ORDERS).verdict(-9)


def test_secrets_are_taken_out_of_messages() -> None:
    """The error is made with the redactor that the ledger got."""
    ledger = Ledger([USERS], redact=lambda text: text.replace("hunter2", "***"))
    ledger.observe(TraceError("login with hunter2 failed", None, "config_error"))
    with pytest.raises(ConfigurationFailed, match=r"login with \*\*\* failed"):
        ledger.verdict(1)


def test_estimates_are_kept() -> None:
    """The newest estimate of each stream is there for the progress display."""
    ledger = Ledger([USERS])
    ledger.observe(Estimate(USERS, 10))
    ledger.observe(Estimate(USERS, 20))
    assert ledger.estimates == {USERS: Estimate(USERS, 20)}
