"""Where a run begins: states of streams, states that streams share, and both."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from airberg.lake.note import Note
from airberg.plan.model import StreamPlan
from airberg.protocol.state import State, StateKey, state_from_json
from airberg.sync.checkpoint import covered_by
from airberg.sync.resume import Begin, states


def plan(name: str) -> StreamPlan:
    """An incremental stream."""
    return StreamPlan(
        name=name, table=name, sync_mode="incremental", mode="append", columns=(), catalog_stream={}
    )


def own(name: str, cursor: int) -> str:
    """A state of one stream."""
    part = {"stream_descriptor": {"name": name}, "stream_state": {"cursor": cursor}}
    return json.dumps({"type": "STREAM", "stream": part})


def common(lsn: int, *names: str) -> str:
    """A state of several streams."""
    parts = [{"stream_descriptor": {"name": name}, "stream_state": {"lsn": lsn}} for name in names]
    return json.dumps({"type": "GLOBAL", "global": {"shared_state": {"lsn": lsn}, "stream_states": parts}})


def given(**noted: tuple[str, dict[str, int]] | None) -> list[dict[str, Any]]:
    """What the connector is given for notes: a state, and what else the note says."""
    begins = {}
    for name, entry in noted.items():
        note = None
        if entry is not None:
            fields = {"number": 1, "sync_id": 1, **entry[1]}
            note = Note(run_id="r", attempt=1, state=entry[0], **fields)
        begins[name] = Begin(note, 0, False)
    found: list[dict[str, Any]] = json.loads(states([plan(name) for name in noted], begins))
    return found


def test_an_empty_namespace_is_none() -> None:
    """A new stream whose namespace is empty is taken out of the shared state, and so read from its start."""
    old, new = plan("a"), msgspec.structs.replace(plan("b"), namespace="")
    note = Note(run_id="r", attempt=1, number=1, sync_id=1, shared=1, state=common(5, "a", "b"))
    [found] = json.loads(states([old, new], {"a": Begin(note, 0, False), "b": Begin(None, 0, False)}))
    assert [part["stream_descriptor"]["name"] for part in found["global"]["stream_states"]] == ["a"]


def test_own_states_are_given_back() -> None:
    """Each of its stream; nothing for a stream that has none."""
    found = given(a=(own("a", 1), {}), b=(own("b", 2), {}), c=None)
    assert [part["stream"]["stream_state"]["cursor"] for part in found] == [1, 2]


def test_a_shared_state_is_given_once_with_those_of_other_streams() -> None:
    """A stream without a note is taken out of the shared one: it is read from its start."""
    found = given(
        a=(common(5, "a", "b", "d"), {"shared": 3}),
        b=(common(5, "a", "b", "d"), {"shared": 3}),
        c=(own("c", 7), {}),
        d=None,
    )
    assert [part["type"] for part in found] == ["GLOBAL", "STREAM"]
    named = [part["stream_descriptor"]["name"] for part in found[0]["global"]["stream_states"]]
    assert named == ["a", "b"]
    assert found[0]["global"]["shared_state"] == {"lsn": 5}


def test_the_oldest_shared_state_counts(caplog: pytest.LogCaptureFixture) -> None:
    """By the number of the shared checkpoint, not by how often a table was committed to; with a warning."""
    found = given(
        a=(common(9, "a", "b"), {"shared": 4, "number": 2}),
        b=(common(5, "a", "b"), {"shared": 3, "number": 90}),
    )
    assert found[0]["global"]["shared_state"] == {"lsn": 5}
    assert "b stands at an older state" in caplog.text


def test_notes_of_old_versions_are_older_than_shared_checkpoints() -> None:
    """Among themselves their own numbers have to do."""
    newer = (common(9, "a", "b"), {"shared": 1})
    assert given(a=newer, b=(common(5, "a", "b"), {"number": 90}))[0]["global"]["shared_state"] == {"lsn": 5}
    found = given(a=(common(9, "a"), {"number": 8}), b=(common(5, "a"), {"number": 7}))
    assert found[0]["global"]["shared_state"] == {"lsn": 5}


@dataclass(frozen=True)
class Stands:
    """A stream, by what its newest state is."""

    own_state: bool
    shares_state: bool = False
    shared: int = 0
    waits: bool = False

    def prepare(self, shared: int | None, *, complete: bool) -> Any:
        """Nothing to do here."""

    def finish(self) -> None:
        """Nothing to do here."""


@pytest.mark.parametrize(
    ("state", "covered"),
    [
        (own("a", 1), "a"),
        (own("unknown", 1), ""),
        (common(1, "a"), "ab"),
        (common(1, "a", "c"), "abc"),
        (json.dumps({"type": "LEGACY", "data": {"a": 1}}), "ab"),
    ],
)
def test_what_a_state_covers(state: str, covered: str) -> None:
    """A shared one: all streams, but for one with a state of its own that it does not name."""
    sinks = {
        StateKey(None, "a"): Stands(own_state=False),
        StateKey(None, "b"): Stands(own_state=False),
        StateKey(None, "c"): Stands(own_state=True),
    }
    message: State = state_from_json(state.encode())
    assert covered_by(message, sinks) == [sinks[StateKey(None, name)] for name in covered]
