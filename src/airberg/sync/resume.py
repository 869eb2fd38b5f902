"""Where a run begins: the states that the tables hold, and what was already done.

State lives in the tables, committed with the rows it covers; no side store is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from pyiceberg.table import Table

from airberg.jobs.model import Run, StreamReport
from airberg.lake.commit import snapshots_of_run
from airberg.lake.note import Note
from airberg.plan.model import StreamPlan
from airberg.protocol.state import State, StateKey, state_from_json, states_for_connector

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Begin:
    """How one stream begins.

    Attributes:
        note: What the table said, None when the job never committed to it.
        generation_id: Grows with each full copy, and is kept when a failed run is tried again
            (Airbyte protocol, refreshes).
        done: This very run has already completed the stream in an earlier attempt.
        fresh: The stream is read from its beginning whatever its state is, and its rows take the place of
            those that are there, at the end.
    """

    note: Note | None
    generation_id: int
    done: bool
    fresh: bool = False


def begin_all(
    streams: Sequence[StreamPlan],
    notes: Mapping[str, Note | None],
    run_id: str,
    *,
    full_refresh: bool = False,
) -> dict[str, Begin]:
    """How all streams of a run begin, by table.

    Args:
        streams: The streams.
        notes: By table, what it says.
        run_id: The orchestrator's id of the run.
        full_refresh: All of them are asked to be read from their beginning.
    """
    begins = {s.table: begin(s, notes[s.table], run_id, full_refresh=full_refresh) for s in streams}
    sharing = [s.table for s in streams if shares_state(notes[s.table])]
    if full_refresh and not all(begins[table].done for table in sharing):
        # Tables that share a state must come out of one and the same read.
        begins |= {table: replace(begins[table], done=False, fresh=True) for table in sharing}
    return begins


def begin(stream: StreamPlan, note: Note | None, run_id: str, *, full_refresh: bool = False) -> Begin:
    """Decide how a stream begins from the note in its table."""
    whole = stream.sync_mode == "full_refresh"
    if note is None:
        return Begin(None, 1 if whole else 0, False)
    same_run = note.run_id == run_id
    done = same_run and note.complete and (whole or full_refresh)
    generation = note.generation_id
    if (whole or full_refresh) and not same_run:
        generation += 1
    return Begin(note, generation, done, fresh=full_refresh and not done)


def shares_state(note: Note | None) -> bool:
    """Whether a table holds a state that its stream shares with others."""
    if note is None or note.state is None:
        return False
    return note.shared > 0 or state_from_json(str(note.state).encode()).key is None


def earlier_report(run: Run, stream: StreamPlan, table: Table) -> StreamReport | None:
    """What earlier attempts of a run did to a stream's table: their report, and commits it does not know.

    An attempt may be killed right after a commit, before it could report it.
    """
    told = next((r for r in run.report.streams if r.table == stream.table), None)
    made = snapshots_of_run(table, run.job_id, run.flow_run_id)
    if told is None and not made:
        return None
    told = told or StreamReport(stream=stream.name, table=stream.table)
    ids = tuple(dict.fromkeys((*told.snapshot_ids, *made)))
    return msgspec.structs.replace(told, snapshot_ids=ids)


def states(streams: Sequence[StreamPlan], begins: Mapping[str, Begin]) -> bytes:
    """The content of the connector's state file.

    Per-stream states are given back as they are. A state that several streams share (GLOBAL, LEGACY) is in
    each of their tables, and the same in all once promises are kept. Where it is not (a stream was left out
    of the job for a time), the oldest one is given back, so that nothing is lost. Streams whose table has
    none are taken out of it, so that they are read from the start.
    """
    own: list[State] = []
    shared: list[tuple[tuple[int, int, int], State]] = []
    behind: dict[str, tuple[int, int, int]] = {}
    fresh: set[StateKey] = set()
    for stream in streams:
        start = begins[stream.table]
        note = start.note
        if stream.sync_mode != "incremental":
            continue
        if note is None or note.state is None or start.fresh:
            fresh.add(stream.state_key)
            continue
        state = state_from_json(str(note.state).encode())
        if state.kind == "stream":
            own.append(state)
        else:
            shared.append((_age(note), state))
            behind[stream.table] = _age(note)
    if not shared:
        return states_for_connector(own)
    first, oldest = min(shared, key=lambda entry: entry[0])
    if any(age[0] != first[0] for age in behind.values()):
        names = ", ".join(name for name, age in behind.items() if age == first)
        log.warning("%s stands at an older state than other tables: all are read from there again", names)
    if oldest.kind == "legacy":
        return states_for_connector([oldest])
    return b"[" + b",".join(state.raw for state in (_without(oldest, fresh), *own)) + b"]"


def _age(note: Note) -> tuple[int, int, int]:
    """Orders shared states by their checkpoint. Numbers of tables count only for notes of old versions."""
    return (note.shared, 0, 0) if note.shared else (0, note.sync_id, note.number)


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
        replaced = stream.mode == "overwrite" or start.fresh
        out.append(
            {
                "stream": stream.catalog_stream,
                "sync_mode": stream.sync_mode,
                "destination_sync_mode": destination[stream.mode],
                "cursor_field": list(stream.cursor),
                "primary_key": [list(p) for p in key],
                "generation_id": start.generation_id,
                "minimum_generation_id": start.generation_id if replaced else 0,
                "sync_id": sync_id,
            }
        )
    return {"streams": out}
