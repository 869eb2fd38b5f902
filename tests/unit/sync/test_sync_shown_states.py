"""States as runs report them: what concerns the stream, without secrets, and nothing of protected columns."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from airberg.jobs.model import ReportedState
from airberg.protocol.state import StateKey
from airberg.sources.redact import MASK, Redactor
from airberg.sync.shown_states import ALL_STATES_BYTES, LEAST_BYTES, STATE_BYTES, ShownStates

USERS = StateKey("shop", "users")
OTHERS = StateKey(None, "users")


def shown(state: Any, *, protects: bool = False, streams: int = 1, key: StateKey = USERS) -> ReportedState:
    """What is reported of a state."""
    redact = Redactor(["hunter2", '5"%'])
    text = state if isinstance(state, str) else json.dumps(state)
    found = ShownStates(protects=protects, streams=streams, redact=redact.text).shown(key, text)
    assert found is not None
    return found


def stream_state(value: Any, name: str = "users", namespace: str | None = "shop") -> dict[str, Any]:
    """A state of one stream."""
    return {"stream_descriptor": {"name": name, "namespace": namespace}, "stream_state": value}


def value_of(state: ReportedState) -> Any:
    """The value that is shown."""
    assert state.text is not None
    assert state.withheld is None
    assert state.bytes == len(state.text.encode())
    assert state.sha256 == hashlib.sha256(state.text.encode()).hexdigest()
    return json.loads(state.text)


def test_what_is_shown_of_each_kind() -> None:
    """The state itself; of a shared one the part that is shared, and that of the stream."""
    assert value_of(shown({"type": "STREAM", "stream": stream_state({"cursor": 5})})) == {"cursor": 5}
    assert value_of(shown({"type": "LEGACY", "data": {"users": 1}})) == {"users": 1}
    both = [stream_state({"n": 1}), stream_state({"n": 2}, namespace=None), stream_state({"n": 3}, "orders")]
    message = {"type": "GLOBAL", "global": {"shared_state": {"lsn": 7}, "stream_states": both}}
    assert value_of(shown(message)) == {"shared_state": {"lsn": 7}, "stream_state": {"n": 1}}
    assert value_of(shown(message, key=OTHERS)) == {"shared_state": {"lsn": 7}, "stream_state": {"n": 2}}
    assert value_of(shown(message, key=StateKey(None, "x"))) == {"shared_state": {"lsn": 7}}


def test_nothing_of_protected_columns() -> None:
    """Not even a digest: a value that people can think of could be found by it."""
    found = shown({"type": "STREAM", "stream": stream_state({"cursor": "ann@example.com"})}, protects=True)
    assert found == ReportedState(withheld="protected")


def test_secrets_are_taken_out() -> None:
    """In any form; a text that is no JSON then is not shown."""
    state = {"type": "STREAM", "stream": stream_state({"url": "http://u:hunter2@h", "q": '5"%'})}
    assert value_of(shown(state)) == {"url": f"http://u:{MASK}@h", "q": MASK}
    numbers = ShownStates(protects=False, streams=1, redact=Redactor(["12345678"]).text)
    bare = numbers.shown(USERS, '{"type":"STREAM","stream":{"stream_state":{"n":12345678}}}')
    assert bare == ReportedState(withheld="unreadable")


@pytest.mark.parametrize("streams", [1, 8, 9, 1_000])
def test_what_is_too_large_is_told_apart_by_its_digest(streams: int) -> None:
    """Each state has a limit, and so have all together, as long as each gets a little."""
    limit = min(STATE_BYTES, max(LEAST_BYTES, ALL_STATES_BYTES // (2 * streams)))
    fits = shown({"type": "LEGACY", "data": {"t": "x" * (limit - 8)}}, streams=streams)
    assert fits.bytes == limit
    assert value_of(fits) == {"t": "x" * (limit - 8)}
    large = shown({"type": "LEGACY", "data": {"t": "x" * (limit - 7)}}, streams=streams)
    assert (large.text, large.withheld, large.bytes) == (None, "too-large", limit + 1)
    other = shown({"type": "LEGACY", "data": {"t": "y" * (limit - 7)}}, streams=streams)
    assert large.sha256 != other.sha256


@pytest.mark.parametrize(
    "state",
    [
        '{"type":"LEGACY","data":{"n":"\\ud800"}}',
        '{"type":"STREAM","stream":{"stream_state":' + "[" * 5_000 + "]" * 5_000 + "}}",
        '{"type":"STREAM","stream":[]}',
        "[]",
        "nothing",
        '{"type":"LEGACY"}',
    ],
    ids=["half a pair", "very deep", "a list", "no object", "no JSON", "no data"],
)
def test_odd_states_are_withheld(state: str) -> None:
    """A run does not fail for what only people look at."""
    assert shown(state).withheld in ("unreadable", "too-large")


def test_deep_states_are_for_programs() -> None:
    """An answer that nests a thousandfold cannot be written."""
    deep = json.loads("[" * 100 + "]" * 100)
    assert shown({"type": "LEGACY", "data": {"d": deep}}).withheld == "too-large"


def test_no_state() -> None:
    """Of a stream that has none."""
    assert ShownStates(protects=True, streams=1, redact=str).shown(USERS, None) is None
