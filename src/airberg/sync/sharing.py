"""Which streams of a job a run syncs, and which of them can be synced side by side by several tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from airberg.errors import ConfigurationFailed
from airberg.jobs.model import RunRequest
from airberg.lake.note import Note
from airberg.plan.model import JobPlan, StreamPlan
from airberg.plan.names import nearest
from airberg.quoted import quoted
from airberg.sync.resume import shares_state

MAX_PARTS = 1000
"""Airflow refuses to map a task over more than 1024 (`[core] max_map_length`)."""
CHANGE_DATA_CAPTURE = "_ab_cdc_"
"""How the columns begin that Airbyte's connectors add to streams that they read from a database's log."""


def side_by_side(plan: JobPlan, notes: Sequence[Note | None]) -> list[list[str]]:
    """Share the tables of a run out among tasks.

    Each task has a table, or several where there are very many. Streams that a connector reads from one log,
    and gives a state in common, are read by one task: two would read the same log, and each would hold the
    other's position to be its own.

    Args:
        plan: What is to be done.
        notes: What the table of each stream says, in the same order.

    Returns:
        Names of tables by task; at least one task, unless there are no streams.
    """
    tables = [stream.table for stream in plan.streams]
    together = plan.shared_state or any(map(shares_state, notes))
    if together or any(is_read_from_log(stream) for stream in plan.streams):
        return [tables] if tables else []
    each = -(-len(tables) // MAX_PARTS)
    return [tables[start : start + each] for start in range(0, len(tables), max(each, 1))]


def is_read_from_log(stream: StreamPlan) -> bool:
    """Whether the catalog says that a stream is read by change data capture.

    The protocol has no flag of its own for a common state. Streams that have one are those whose cursor the
    source defines and that have the columns of change data capture.
    """
    catalog = stream.catalog_stream
    schema = catalog.get("json_schema")
    properties: Mapping[str, Any] = schema.get("properties", {}) if isinstance(schema, dict) else {}
    return catalog.get("source_defined_cursor") is True and any(
        name.startswith(CHANGE_DATA_CAPTURE) for name in properties
    )


def only_asked(plan: JobPlan, asked: RunRequest, note_of: Callable[[StreamPlan], Note | None]) -> JobPlan:
    """The plan, limited to the streams that are asked for.

    Args:
        plan: Of the job.
        asked: What is asked of the run.
        note_of: What the table of a stream says.

    Raises:
        ConfigurationFailed: A stream is none of the job's, or shares a state with one that is not asked for.
    """
    if not asked.streams:
        return plan
    wanted = frozenset(asked.streams)
    known = {stream.name for stream in plan.streams}
    if unknown := [name for name in asked.streams if name not in known]:
        near = nearest(unknown[0], known)
        hint = f" Did you mean {quoted(near)}?" if near else ""
        raise ConfigurationFailed(
            f"The run is asked to sync the stream {quoted(unknown[0])}, which the job does not have.{hint}",
            guidance="Trigger it with streams of the job, or with none for all of them.",
            code="unknown-stream",
        )
    chosen = tuple(stream for stream in plan.streams if stream.name in wanted)
    if len(chosen) < len(plan.streams) and any(shares_state(note_of(stream)) for stream in plan.streams):
        raise ConfigurationFailed(
            "The streams of this job have a state in common, so no run can sync only some of them.",
            guidance="Trigger it without `streams`.",
            code="shared-state",
        )
    return msgspec.structs.replace(plan, streams=chosen)
