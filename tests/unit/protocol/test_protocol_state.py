"""States: read, kept and handed back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airberg.protocol.messages import decode
from airberg.protocol.state import State, StateKey, state_from_json, states_for_connector


def stream_state(name: str, cursor: object, namespace: str | None = None, **more: Any) -> State:
    """A per-stream STATE message as a connector sends it."""
    described = {"name": name} | ({"namespace": namespace} if namespace else {})
    body = {"stream_descriptor": described, "stream_state": {"cursor": cursor}}
    message = decode(
        json.dumps({"type": "STATE", "state": {"type": "STREAM", "stream": body} | more}).encode()
    )
    assert isinstance(message, State)
    return message


def test_latest_state_of_each_stream_is_handed_back() -> None:
    """The file has one entry per stream and namespace: the newest, untouched, without statistics."""
    raw = (
        b'{"type":"STREAM","stream":{"stream_descriptor":{"name":"users"},"stream_state":'
        b'{"n": 1.50,  "at":"\\u00e9", "k":[1,2]}},"sourceStats":{"recordCount":3.0}}'
    )
    latest = state_from_json(raw)
    content = states_for_connector(
        [stream_state("users", 1), stream_state("users", 7, "crm"), stream_state("orders", 2), latest]
    )
    assert b'"stream_state":{"n": 1.50,  "at":"\\u00e9", "k":[1,2]}' in content
    assert b"sourceStats" not in content
    entries = json.loads(content)
    keys = [
        (e["stream"]["stream_descriptor"].get("namespace"), e["stream"]["stream_descriptor"]["name"])
        for e in entries
    ]
    assert sorted(keys, key=str) == [("crm", "users"), (None, "orders"), (None, "users")]


def test_stored_state_is_read_back() -> None:
    """`raw` of a state is all that needs to be stored."""
    state = stream_state("users", 5, "crm", sourceStats={"recordCount": 3})
    assert state.record_count == 3
    again = state_from_json(state.raw)
    assert (again.key, again.raw, again.record_count) == (StateKey("crm", "users"), state.raw, None)


def test_global_state_stands_alone() -> None:
    """Only the newest global state is handed back, under the key `global`."""
    states = []
    for lsn in (1, 2):
        body = {
            "shared_state": {"lsn": lsn},
            "stream_states": [{"stream_descriptor": {"name": "a", "namespace": "n"}, "stream_state": {}}],
        }
        states.append(state_from_json(json.dumps({"type": "GLOBAL", "global": body}).encode()))
    assert states[0].streams == (StateKey("n", "a"),)
    entries = json.loads(states_for_connector(states))
    assert [entry["global"]["shared_state"] for entry in entries] == [{"lsn": 2}]


def test_legacy_state_is_the_blob_itself() -> None:
    """A state without a type is legacy, and its data is the whole file."""
    message = decode(b'{"type":"STATE","state":{"data":{"users":{"id":3}}}}')
    assert isinstance(message, State)
    assert message.kind == "legacy"
    assert json.loads(states_for_connector([message])) == {"users": {"id": 3}}


def test_the_latest_kind_counts() -> None:
    """A connector that changed from per-stream to global state gets only the global one."""
    newer = state_from_json(b'{"type":"GLOBAL","global":{"shared_state":{},"stream_states":[]}}')
    assert len(json.loads(states_for_connector([stream_state("users", 1), newer]))) == 1
    assert states_for_connector([]) == b"[]"


@pytest.mark.parametrize(
    "stats", [None, {}, {"recordCount": None}, {"recordCount": "3"}, {"recordCount": 1.5}]
)
def test_counts_that_are_no_counts_are_absent(stats: object) -> None:
    """Statistics of another form are not compared."""
    assert stream_state("users", 1, sourceStats=stats).record_count is None


def test_repr_hides_cursor_values() -> None:
    """Cursor values may be personal data and stay out of logs."""
    assert "ada@example.org" not in repr(stream_state("users", "ada@example.org"))


def test_members_that_are_null_are_as_if_they_were_not_there() -> None:
    """Some SDKs write every member of a message."""
    legacy = state_from_json(b'{"type":null,"stream":null,"global":null,"data":{"id":3},"sourceStats":null}')
    assert (legacy.kind, legacy.record_count) == ("legacy", None)
    shared = state_from_json(b'{"type":"GLOBAL","global":{"shared_state":{},"stream_states":null}}')
    assert (shared.kind, shared.streams) == ("global", ())
