"""The books of one read: what arrived, what the source says it sent, and whether the run succeeded.

A connector's exit code alone decides nothing: a run has failed when there was a TRACE error, an INCOMPLETE
stream, a stream that began and never said how it ended, or an exit code other than 0. Counts in STATE
messages (`sourceStats.recordCount`) are compared with what arrived, so that a lost record fails the
checkpoint instead of vanishing.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import assert_never

import msgspec

from airberg.errors import ConfigurationFailed, RunError, TransientFailed
from airberg.protocol.messages import Estimate, Message, Record, StreamPhase, StreamStatus, TraceError
from airberg.protocol.state import State, StateKey

_MAX_MESSAGE = 2_000
_MAX_UNKNOWN = 10_000
_OTHERS = StateKey(None, "(others)")
"""Counts the records of all streams that were not asked for, after so many of them."""
_GUIDANCE_RETRY = "Nothing after the last checkpoint was kept; the next attempt goes on from there."
_HINTS = {
    6: " (it gave up)",
    9: " (out of memory?)",
    11: " (it crashed)",
    15: " (it was asked to end)",
    25: " (a file grew over the limit)",
}
_GUIDANCE_CONFIG = "Correct the source configuration, then run the job again."


class Ledger:
    """Counts of one read, over the streams that were asked for.

    Args:
        streams: The streams of the configured catalog.
        redact: Makes of a connector's text what may be told of it: without secrets, or nothing.
    """

    def __init__(self, streams: Iterable[StateKey], *, redact: Callable[[str], str] = str) -> None:
        self._read: dict[StateKey, int] = dict.fromkeys(streams, 0)
        self._since_state: dict[StateKey, int] = dict.fromkeys(self._read, 0)
        self._unknown: dict[StateKey, int] = {}
        self._since_global: dict[StateKey, int] = {}
        self._own_states: set[StateKey] = set()
        self._phases: dict[StateKey, StreamPhase] = {}
        self._estimates: dict[StateKey | None, Estimate] = {}
        self._errors: list[TraceError] = []
        self._redact = redact

    # ---- what arrives --------------------------------------------------------------------------------------

    def add_records(self, stream: StateKey, count: int = 1) -> bool:
        """Note records of a stream; False when the stream was not asked for and they are to be ignored."""
        if stream not in self._read and stream not in self._unknown and len(self._unknown) >= _MAX_UNKNOWN:
            stream = _OTHERS
        self._since_global[stream] = self._since_global.get(stream, 0) + count
        if stream in self._read:
            self._read[stream] += count
            self._since_state[stream] += count
            return True
        self._unknown[stream] = self._unknown.get(stream, 0) + count
        return False

    def observe(self, message: Message) -> None:
        """Note any message.

        Raises:
            TransientFailed: A state says that the source sent more or fewer records than arrived.
        """
        if isinstance(message, Record):
            self.add_records(message.key)
        elif isinstance(message, State):
            self.add_state(message)
        elif isinstance(message, StreamStatus) and message.stream in self._read:
            self._phases[message.stream] = _next_phase(self._phases.get(message.stream), message.phase)
        elif isinstance(message, TraceError):
            self._add_error(message)
        elif isinstance(message, Estimate) and (message.stream is None or message.stream in self._read):
            self._estimates[message.stream] = message

    def _add_error(self, error: TraceError) -> None:
        """The first is the cause, the first that a retry may cure decides; a connector may send millions."""
        if not self._errors or (_curable(error) and not any(map(_curable, self._errors))):
            self._errors.append(error)

    def add_state(self, state: State) -> int:
        """Compare a state's count with the records since the state before, and start counting anew.

        Returns:
            How many records of the streams that were asked for it covers: our own count of what the source
            tells in `sourceStats`, which the protocol calls `destinationStats`.

        Raises:
            TransientFailed: They differ; the checkpoint must not be committed.
        """
        match state.kind:
            case "stream":
                if state.key is None or state.key not in self._since_state:
                    return 0
                self._own_states.add(state.key)
                taken, self._since_state[state.key] = self._since_state[state.key], 0
                arrived, possible = taken, {taken}
            case "global" | "legacy":
                since, self._since_global = self._since_global, {}
                taken = sum(count for stream, count in since.items() if stream in self._read)
                arrived = sum(since.values())
                # Of streams that have states of their own, too, some sources count the records there only.
                own = sum(count for stream, count in since.items() if stream in self._own_states)
                possible = {arrived, arrived - own}
            case _:
                assert_never(state.kind)
        if state.record_count is not None and state.record_count not in possible:
            what = f"stream {state.key}" if state.key else "all streams together"
            raise TransientFailed(
                f"The source counted {state.record_count} records of {what} since the last checkpoint, "
                f"but {arrived} arrived.",
                guidance=_GUIDANCE_RETRY,
                code="record-count-mismatch",
            )
        return taken

    # ---- what is known -------------------------------------------------------------------------------------

    def records(self, stream: StateKey) -> int:
        """Records of an asked-for stream so far."""
        return self._read[stream]

    @property
    def unknown_records(self) -> int:
        """Records of streams that were not asked for."""
        return sum(self._unknown.values())

    @property
    def estimates(self) -> dict[StateKey | None, Estimate]:
        """The newest estimate per stream; under None that of the whole sync."""
        return dict(self._estimates)

    def phase(self, stream: StateKey) -> StreamPhase | None:
        """How far a stream is, None when the connector has not said."""
        return self._phases.get(stream)

    def completed(self, stream: StateKey) -> bool:
        """Whether the stream was read to its end, provided that `verdict` raised nothing.

        A connector that says no status of any stream (they are optional) completes with its exit code.
        """
        return not self._phases or self._phases.get(stream) == "COMPLETE"

    # ---- how it ended --------------------------------------------------------------------------------------

    def verdict(self, exit_code: int | None, stderr_tail: str = "") -> None:
        """Decide, after the last line, whether the read succeeded.

        Args:
            exit_code: The connector's exit code; negative when a signal ended it.
            stderr_tail: The last lines of its standard error; secrets are taken out of them here, too.

        Raises:
            ConfigurationFailed: The connector says that its configuration is at fault.
            TransientFailed: It failed for any other reason.
        """
        stderr_tail = self._redact(stderr_tail)
        if self._errors:
            raise self._reported_error(exit_code, stderr_tail)
        if exit_code != 0:
            raise TransientFailed(
                exit_sentence(exit_code, stderr_tail), guidance=_GUIDANCE_RETRY, code="connector-exited"
            )
        phases = self._phases
        unfinished = [stream for stream in self._read if phases and phases.get(stream) != "COMPLETE"]
        if unfinished:
            names = ", ".join(str(stream) for stream in unfinished[:10])
            raise TransientFailed(
                f"The connector ended without completing {names}" + _last_words(stderr_tail),
                guidance=_GUIDANCE_RETRY,
                code="stream-incomplete",
            )

    def _reported_error(self, exit_code: int | None, stderr_tail: str) -> RunError:
        # The first error is the cause; the SDK of Airbyte adds a summary of its own at the end.
        # One that a retry may cure is enough to try again.
        first = self._errors[0]
        curable = list(filter(_curable, self._errors))
        failure_type = curable[0].failure_type if curable else "config_error"
        replaced = msgspec.structs.replace(first, failure_type=failure_type)
        error = run_error(replaced, self._redact, self._read)
        if exit_code == 0 and not stderr_tail.strip():
            return error
        ended = exit_sentence(exit_code, stderr_tail)
        return type(error)(f"{_as_sentence(error.message)} {ended}", guidance=error.guidance, code=error.code)


def _curable(error: TraceError) -> bool:
    return error.failure_type != "config_error"


def _next_phase(before: StreamPhase | None, said: StreamPhase) -> StreamPhase:
    """Statuses may come twice or late: a failure stays one, and a late RUNNING does not undo COMPLETE."""
    if before == "INCOMPLETE" or (before == "COMPLETE" and said == "RUNNING"):
        return before
    return said


def run_error(
    error: TraceError, redact: Callable[[str], str] = str, streams: Container[StateKey] = ()
) -> RunError:
    """The run's error for a TRACE error: the connector's own message, its failure type decides.

    Args:
        redact: See `Ledger`.
        streams: Streams that may be named; another name is a text of the connector's like any other.
    """
    text = redact(error.message).strip()[:_MAX_MESSAGE]
    if error.stream in streams and error.stream is not None and error.stream.name not in text:
        text = f"Stream {error.stream}: {text}"
    if error.failure_type == "config_error":
        return ConfigurationFailed(text, guidance=_GUIDANCE_CONFIG, code="connector-configuration")
    return TransientFailed(text, guidance=_GUIDANCE_RETRY, code="connector-error")


def exit_sentence(exit_code: int | None, stderr_tail: str = "") -> str:
    """One sentence about an exit code, with the last lines that the connector wrote to its standard error."""
    if exit_code is None:
        how = "did not end"
    elif exit_code < 0:
        how = f"was ended by signal {-exit_code}{_HINTS.get(-exit_code, '')}"
    else:
        # Above 128 it is what a shell, or an engine of containers, says of a signal.
        how = f"ended with exit code {exit_code}{_HINTS.get(exit_code - 128, '')}"
    return f"The connector {how}" + _last_words(stderr_tail)


def _last_words(stderr_tail: str) -> str:
    last = " | ".join(line.strip() for line in stderr_tail.splitlines() if line.strip())[-500:]
    return f"; its last words: {last}" if last else "."


def _as_sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
