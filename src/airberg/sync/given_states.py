"""State messages that somebody gives for a job, checked against its plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from airberg.errors import InvalidRequest, Problem
from airberg.plan.model import JobPlan, StreamPlan
from airberg.protocol.state import State, StateKey, state_from_json

MAX_STATE_BYTES = 1024 * 1024
"""The longest state that is taken: it becomes part of the table's metadata."""
MAX_STATES = 10_000
SHAPE = (
    'Send what the connector writes: {"type": "STREAM", "stream": {"stream_descriptor": {"name": ...}, '
    '"stream_state": {...}}}, or {"type": "GLOBAL", "global": {"shared_state": ..., "stream_states": [...]}}.'
)


@dataclass(frozen=True, slots=True)
class GivenStates:
    """Checked state messages, each with its place among those that were given.

    Attributes:
        own: By stream.
        common: The one of several streams.
    """

    own: Mapping[StateKey, tuple[int, State]] = field(default_factory=dict)
    common: tuple[int, State] | None = None


def check_states(messages: Sequence[Any], plan: JobPlan) -> GivenStates:
    """Read state messages.

    Args:
        messages: Decoded JSON.
        plan: Of the job; only streams that it reads incrementally have a state.

    Raises:
        InvalidRequest: With everything that is wrong, each with its place.
    """
    known = {stream.state_key: stream for stream in plan.streams}
    own: dict[StateKey, tuple[int, State]] = {}
    common: tuple[int, State] | None = None
    problems: list[Problem] = []
    if not messages or len(messages) > MAX_STATES:
        said = f"`states` has {len(messages)} messages, not 1 to {MAX_STATES}."
        raise InvalidRequest.one("/states", "out-of-range", said, SHAPE)
    for place, message in enumerate(messages):
        at = f"/states/{place}"
        state = _state(message, at, problems)
        if state is None:
            continue
        if state.key is None:
            if common is not None:
                said = "There are two states for all streams."
                problems.append(Problem(at, "state-given-twice", said, "Send one."))
            common = (place, state)
            problems += [p for key in state.streams if (p := _unknown(key, known, at))]
        elif (problem := _unknown(state.key, known, at)) is not None:
            problems.append(problem)
        elif state.key in own:
            said = f"The stream {str(state.key)!r} has a state already."
            problems.append(Problem(at, "state-given-twice", said, "Send one for each stream."))
        else:
            own[state.key] = (place, state)
    if problems:
        raise InvalidRequest(problems)
    return GivenStates(own, common)


def find_streams(plan: JobPlan, names: Sequence[str]) -> list[StreamPlan]:
    """The streams that are named, as `name` or `namespace.name`.

    Raises:
        InvalidRequest: There is none of a name, several, or it has no state.
    """
    found: list[StreamPlan] = []
    problems: list[Problem] = []
    for name in names:
        fits = [s for s in plan.streams if str(s.state_key) == name]
        fits = fits or [s for s in plan.streams if s.name == name]
        if len(fits) != 1:
            what = f"There are {len(fits)} streams {name[:100]!r}." if fits else f"No stream {name[:100]!r}."
            problems.append(Problem("", "unknown-stream", what, _streams_of(plan)))
        elif fits[0].sync_mode != "incremental":
            problems.append(_without_state(fits[0], ""))
        else:
            found.append(fits[0])
    if problems:
        raise InvalidRequest(problems)
    return found


def _state(message: Any, at: str, problems: list[Problem]) -> State | None:  # noqa: ANN401 - decoded JSON
    try:
        text = msgspec.json.encode(message)
        if len(text) > MAX_STATE_BYTES:
            said = f"The state has {len(text):,} bytes, over {MAX_STATE_BYTES:,}."
            guidance = "It becomes part of the metadata of a table: send a smaller one."
            problems.append(Problem(at, "state-too-large", said, guidance))
            return None
        state = state_from_json(text)
        _check_bodies(msgspec.json.decode(state.raw))
    # Of msgspec too, whose message may quote the state; half a surrogate pair, or a number beyond 64 bits.
    except (ValueError, OverflowError):
        problems.append(Problem(at, "bad-state", "This is no Airbyte state message.", SHAPE))
        return None
    return state


def _check_bodies(message: Mapping[str, Any]) -> None:
    """What the connector's own library would refuse: bodies of states are objects."""
    common = message.get("global", {})
    entries = [message["stream"]] if "stream" in message else common.get("stream_states") or []
    bodies = [common.get("shared_state"), *(entry.get("stream_state") for entry in entries)]
    if any(body is not None and not isinstance(body, dict) for body in bodies):
        raise ValueError("the body of a state is no object")


def _unknown(key: StateKey, known: Mapping[StateKey, StreamPlan], at: str) -> Problem | None:
    stream = known.get(key)
    if stream is None:
        names = ", ".join(sorted(map(str, known))[:20])
        said = f"The job reads no stream {str(key)[:100]!r}."
        return Problem(at, "unknown-stream", said, f"Its streams: {names}.")
    return None if stream.sync_mode == "incremental" else _without_state(stream, at)


def _without_state(stream: StreamPlan, at: str) -> Problem:
    said = f"The stream {str(stream.state_key)!r} is read in full each time: it has no state."
    return Problem(at, "stream-without-state", said, "Leave it out.")


def _streams_of(plan: JobPlan) -> str:
    return f"Streams of the job: {', '.join(sorted(str(s.state_key) for s in plan.streams)[:20])}."
