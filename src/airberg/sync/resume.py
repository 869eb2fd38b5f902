"""Where a run begins: the states that the tables hold, and what was already done.

State lives in the tables, committed with the rows it covers; no side store is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from airberg.lake.note import Note
from airberg.plan.model import StreamPlan
from airberg.protocol.state import State, StateKey, state_from_json, states_for_connector


@dataclass(frozen=True, slots=True)
class Begin:
    """How one stream begins.

    Attributes:
        note: What the table said, None when the job never committed to it.
        generation_id: Grows with each full copy, and is kept when a failed run is tried again
            (Airbyte protocol, refreshes).
        done: This very run has already completed the stream in an earlier attempt.
    """

    note: Note | None
    generation_id: int
    done: bool


def begin(stream: StreamPlan, note: Note | None, run_id: str) -> Begin:
    """Decide how a stream begins from the note in its table."""
    if note is None:
        return Begin(None, 1 if stream.sync_mode == "full_refresh" else 0, False)
    same_run = note.run_id == run_id
    done = same_run and note.complete and stream.sync_mode == "full_refresh"
    generation = note.generation_id
    if stream.sync_mode == "full_refresh" and not same_run:
        generation += 1
    return Begin(note, generation, done)


def states(streams: Sequence[StreamPlan], begins: Mapping[str, Begin]) -> bytes:
    """The content of the connector's state file.

    Per-stream states are given back as they are. A state that several streams share (GLOBAL, LEGACY) is in
    each of their tables, which cannot be committed together: the oldest one is given back, so that nothing
    is lost, and streams whose table has none are taken out of it, so that they are read from the start.
    """
    own: list[State] = []
    shared: list[tuple[tuple[int, int], State]] = []
    fresh: set[StateKey] = set()
    for stream in streams:
        note = begins[stream.table].note
        if stream.sync_mode != "incremental":
            continue
        if note is None or note.state is None:
            fresh.add(StateKey(stream.namespace, stream.name))
            continue
        state = state_from_json(str(note.state).encode())
        if state.kind == "stream":
            own.append(state)
        else:
            shared.append(((note.sync_id, note.number), state))
    if not shared:
        return states_for_connector(own)
    oldest = min(shared, key=lambda entry: entry[0])[1]
    return states_for_connector([_without(oldest, fresh)])


def _without(state: State, streams: set[StateKey]) -> State:
    """A global state that knows nothing of some streams."""
    if state.kind != "global" or not streams:
        return state
    message = msgspec.json.decode(state.raw)
    entries = message["global"].get("stream_states") or []
    message["global"]["stream_states"] = [
        e
        for e in entries
        if StateKey(e["stream_descriptor"].get("namespace") or None, e["stream_descriptor"]["name"])
        not in streams
    ]
    return state_from_json(msgspec.json.encode(message))


def configured_catalog(
    streams: Sequence[StreamPlan], begins: Mapping[str, Begin], sync_id: int
) -> dict[str, Any]:
    """The ConfiguredAirbyteCatalog of a run (Airbyte protocol), without the streams that are done."""
    destination = {"append": "append", "overwrite": "overwrite", "merge": "append_dedup"}
    out = []
    for stream in streams:
        start = begins[stream.table]
        if start.done:
            continue
        key = stream.merge_key or stream.primary_key
        out.append(
            {
                "stream": stream.catalog_stream,
                "sync_mode": stream.sync_mode,
                "destination_sync_mode": destination[stream.mode],
                "cursor_field": list(stream.cursor),
                "primary_key": [list(p) for p in key],
                "generation_id": start.generation_id,
                "minimum_generation_id": start.generation_id if stream.mode == "overwrite" else 0,
                "sync_id": sync_id,
            }
        )
    return {"streams": out}
