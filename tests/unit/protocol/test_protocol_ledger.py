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


def test_global_state_beside_states_of_streams() -> None:
    """Records of a stream with states of its own may be counted there only, or in both."""
    for counted, fits in ((3, True), (5, True), (2, False), (4, False)):
        ledger = Ledger([USERS, ORDERS])
        ledger.add_records(USERS, 2)
        ledger.add_state(state(USERS, 2))
        ledger.add_records(ORDERS, 3)
        if fits:
            assert ledger.add_state(state(None, counted)) == 5
        else:
            with pytest.raises(TransientFailed, match="all streams together"):
                ledger.add_state(state(None, counted))


def test_a_state_tells_how_many_records_it_covers() -> None:
    """Our own count, to be kept with the checkpoint; records of streams not asked for are none of ours."""
    ledger = Ledger([USERS])
    ledger.add_records(USERS, 3)
    ledger.add_records(ORDERS, 2)
    assert ledger.add_state(state(USERS, None)) == 3
    assert ledger.add_state(state(USERS, 0)) == 0
    assert ledger.add_state(state(ORDERS, 2)) == 0
    ledger.add_records(USERS, 4)
    assert ledger.add_state(state(None, 9)) == 7
    assert ledger.add_state(state(None, 0)) == 0
    assert ledger.add_state(State("legacy", b"{}")) == 0


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


@pytest.mark.parametrize(
    ("phases", "fails"),
    [
        (["STARTED", "STARTED", "RUNNING", "RUNNING", "COMPLETE", "COMPLETE"], False),
        (["COMPLETE"], False),
        (["STARTED", "COMPLETE", "RUNNING"], False),
        (["RUNNING", "STARTED", "COMPLETE"], False),
        (["COMPLETE", "STARTED"], True),
        (["COMPLETE", "STARTED", "COMPLETE"], False),
        (["COMPLETE", "INCOMPLETE"], True),
        (["INCOMPLETE", "COMPLETE"], True),
        (["INCOMPLETE", "STARTED", "COMPLETE"], True),
        (["STARTED", "RUNNING"], True),
    ],
)
def test_statuses_that_come_twice_or_out_of_order(phases: list[StreamPhase], fails: bool) -> None:
    """What failed once has failed; what is complete is not undone by a late RUNNING, but by a new start."""
    ledger = finished(USERS)
    for phase in phases:
        ledger.observe(StreamStatus(ORDERS, phase))
    assert ledger.completed(ORDERS) == (not fails)
    if fails:
        with pytest.raises(TransientFailed, match=r"without completing shop\.orders"):
            ledger.verdict(0)
    else:
        ledger.verdict(0)


def test_statuses_of_streams_that_were_not_asked_for_do_not_matter() -> None:
    """Neither a failure of theirs nor their completion says anything about ours."""
    ledger = finished(USERS, ORDERS)
    ledger.observe(StreamStatus(StateKey(None, "other"), "INCOMPLETE"))
    ledger.verdict(0)
    silent = Ledger([USERS])
    silent.observe(StreamStatus(StateKey("shop", "users"), "STARTED"))
    silent.verdict(0)
    assert silent.completed(USERS)


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


@pytest.mark.parametrize("exit_code", [0, 1, -9, None])
@pytest.mark.parametrize("failure_type", ["config_error", "system_error"])
def test_the_reason_comes_with_the_last_words(failure_type: FailureType, exit_code: int | None) -> None:
    """The connector's reason first, then how it ended and the end of its stderr, without secrets."""
    ledger = Ledger([USERS], redact=lambda text: text.replace("hunter2", "***"))
    ledger.observe(TraceError("API key revoked.", "internal hunter2", failure_type, USERS))
    tail = "x" * 2_000 + "\nTraceback\n\n  KeyError: token hunter2\n"
    with pytest.raises((ConfigurationFailed, TransientFailed)) as caught:
        ledger.verdict(exit_code, tail)
    message = caught.value.message
    assert message.startswith("Stream users: API key revoked. ")
    assert "Traceback | KeyError: token ***" in message
    assert "hunter2" not in message
    assert "internal" not in message
    assert len(message) < 700
    assert ("signal 9" in message) == (exit_code == -9)
    assert ("exit code 1" in message) == (exit_code == 1)


def test_a_reason_is_bounded() -> None:
    """A connector may put a whole page into its error."""
    ledger = Ledger([USERS])
    ledger.observe(TraceError("no " * 10_000))
    with pytest.raises(TransientFailed) as caught:
        ledger.verdict(1, "y" * 10_000)
    assert len(caught.value.message) < 2_700


def test_an_incomplete_stream_comes_with_the_last_words() -> None:
    """INCOMPLETE and exit code 0, without a TRACE error: stderr is all there is."""
    ledger = finished(USERS)
    ledger.observe(StreamStatus(ORDERS, "INCOMPLETE"))
    with pytest.raises(TransientFailed, match=r"without completing shop\.orders; its last words: gave up$"):
        ledger.verdict(0, "gave up\n")


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
    ledger.observe(Estimate(None, 100, 4_000))
    assert ledger.estimates == {USERS: Estimate(USERS, 20), None: Estimate(None, 100, 4_000)}


def test_what_is_kept_of_endless_messages_is_bounded() -> None:
    """Millions of errors, statuses, estimates and streams that nobody asked for take no memory."""
    ledger = Ledger([USERS])
    for number in range(30_000):
        stranger = StateKey(None, f"stranger {number}")
        ledger.observe(TraceError(f"error {number}", failure_type="config_error"))
        ledger.observe(StreamStatus(stranger, "STARTED"))
        ledger.observe(Estimate(stranger, 1, 1))
        ledger.add_records(stranger)
    ledger.observe(TraceError("curable"))
    assert ledger.unknown_records == 30_000
    assert len(ledger.estimates) == 0
    assert ledger.phase(StateKey(None, "stranger 1")) is None
    sizes = [len(kept) for kept in vars(ledger).values() if isinstance(kept, dict | list | set)]
    assert max(sizes) <= 10_001
    with pytest.raises(TransientFailed, match=r"^error 0\."):
        ledger.verdict(1)
