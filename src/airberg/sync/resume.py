"""Where a run begins: the states that the tables hold, and what was already done.

State lives in the tables, committed with the rows it covers; no side store is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airberg.lake.note import Note
from airberg.plan.model import StreamPlan
from airberg.protocol.state import is_shared, without_streams


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


def states(streams: Sequence[StreamPlan], begins: Mapping[str, Begin]) -> list[dict[str, Any]]:
    """The content of the connector's state file.

    Per-stream states are given back as they are. A state that several streams share (GLOBAL, LEGACY) is in
    each of their tables, which cannot be committed together: the oldest one is given back, so that nothing
    is lost, and streams whose table has none are taken out of it, so that they are read from the start.
    """
    own: list[dict[str, Any]] = []
    shared: list[Note] = []
    fresh: list[StreamPlan] = []
    for stream in streams:
        note = begins[stream.table].note
        if stream.sync_mode != "incremental" or note is None or note.state is None:
            if stream.sync_mode == "incremental":
                fresh.append(stream)
            continue
        if is_shared(note.state):
            shared.append(note)
        else:
            own.append(note.state)
    if shared:
        oldest = min(shared, key=lambda n: (n.sync_id, n.number))
        assert oldest.state is not None  # noqa: S101 - notes without state were sorted out above
        return [without_streams(oldest.state, [(s.namespace, s.name) for s in fresh])]
    return own


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
