"""The state of a job, as its tables hold it: shown, replaced, forgotten. No run may be at work meanwhile.

A change is a commit like that of a run: it asserts what was seen, and makes a snapshot, so that nothing that
was begun before it can land after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import msgspec
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from airberg.errors import Conflict, InvalidRequest, Problem
from airberg.lake.commit import Committer
from airberg.lake.note import Note, Sealer, head_of, is_sealed, property_name, read_note
from airberg.lake.rewind import unfinished
from airberg.lake.snapshots import FileChanges
from airberg.lake.tables import find_table
from airberg.lake.together import is_open, unkept
from airberg.plan.model import JobPlan, StreamPlan
from airberg.protocol.state import State, StateKey, state_from_json
from airberg.sync.given_states import GivenStates
from airberg.sync.job_tables import JobState, StreamState

BY_SERVICE = "state__"
"""A state that somebody set has an id of this kind in the place of a run's."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A stream of a job with its table, as far as there is one.

    Attributes:
        text: The job's note in it, as stored.
        head: That note without its state.
    """

    stream: StreamPlan
    table: Table | None
    text: str | None
    head: Note | None

    @property
    def name(self) -> str:
        """Name of the table in the job's namespace."""
        return self.stream.table


def standings(catalog: Catalog, job_id: UUID, plan: JobPlan) -> list[Standing]:
    """Where the streams of a job stand.

    Raises:
        TransientFailed, ConfigurationFailed: The catalog or its storage failed or refused, or a note is
            damaged.
    """
    found = []
    for stream in plan.streams:
        table = find_table(catalog, plan.namespace, stream.table)
        text = table.properties.get(property_name(job_id)) if table is not None else None
        found.append(Standing(stream, table, text, None if text is None else head_of(text)))
    return found


def shown(job_id: UUID, plan: JobPlan, found: Sequence[Standing]) -> JobState:
    """Where a job stands, without states that may hold values of protected columns.

    Raises:
        ConfigurationFailed: A note is damaged.
    """
    guarded = any(stream.protect_state for stream in plan.streams)
    streams = [_shown(job_id, plan, standing, guarded=guarded) for standing in found]
    messages = {msgspec.json.encode(s.state): s.state for s in streams if s.state is not None}
    return JobState(
        streams=tuple(streams), states=tuple(messages.values()), unfinished=tuple(unfinished_tables(found))
    )


def _shown(job_id: UUID, plan: JobPlan, standing: Standing, *, guarded: bool) -> StreamState:
    stream, table, text, head = standing.stream, standing.table, standing.text, standing.head
    described: dict[str, Any] = {
        "stream": stream.name,
        "namespace": stream.namespace,
        "table": ".".join((*plan.namespace, stream.table)),
        "exists": table is not None,
        "sync_mode": stream.sync_mode,
        "snapshot_id": table.metadata.current_snapshot_id if table else None,
    }
    if table is None or text is None or head is None:
        return StreamState(**described)
    protected = guarded or is_sealed(text)
    state = None if protected else _state_of(read_note(table, job_id))
    return StreamState(
        **described,
        kind=state.kind if state else None,
        state=msgspec.json.decode(state.raw) if state else None,
        protected=protected,
        checkpoint=head.number,
        shared=head.shared,
        flow_run_id=head.run_id or None,
        complete=head.complete,
        generation_id=head.generation_id,
    )


def _state_of(note: Note | None) -> State | None:
    return None if note is None or note.state is None else state_from_json(str(note.state).encode())


def unfinished_tables(found: Iterable[Standing]) -> list[str]:
    """Names of tables that the next run brings to where the others are, before it reads anything."""
    known = {s.name: (s.table, s.head) for s in found if s.table is not None}
    names = {table.name()[-1] for table, _, _ in unfinished((t, n) for t, n in known.values() if t)}
    for _, promise in unkept(head for _, head in known.values()):
        table, head = known.get(promise.table[-1], (None, None))
        if table is not None and table.name() == promise.table and is_open(promise, table, head):
            names.add(promise.table[-1])
    return sorted(names)


def refuse_unfinished(found: Iterable[Standing]) -> None:
    """Refuse to change one of several tables that do not stand together.

    Raises:
        Conflict: They do not.
    """
    if names := unfinished_tables(found):
        raise Conflict(
            f"The last run, or a rewind, ended before it came to {', '.join(names)}.",
            guidance="Start a run, which completes that first; or delete the state of all streams.",
            code="checkpoint-unfinished",
        )


def to_set(
    job_id: UUID, plan: JobPlan, given: GivenStates, found: Sequence[Standing], sealer: Sealer
) -> dict[str, str]:
    """Which table gets which state, as JSON text.

    Raises:
        InvalidRequest: A state is of another kind than those in the tables.
        Conflict: A table is not there yet, or the tables do not stand together.
    """
    refuse_unfinished(found)
    by_key = {s.stream.state_key: s for s in found if s.stream.sync_mode == "incremental"}
    now = {
        key: _state_of(read_note(s.table, job_id, sealer)) for key, s in by_key.items() if s.table is not None
    }
    problems: list[Problem] = []
    wanted: dict[StateKey, tuple[int, State]] = dict(given.own)
    if given.common is not None:
        covered = given.common[1].streams
        wanted |= {
            key: given.common
            for key in by_key
            if key not in given.own
            and ((present := now.get(key)) is None or present.kind != "stream" or key in covered)
        }
    for key, (place, state) in wanted.items():
        present = now.get(key)
        if present is not None and present.kind != state.kind:
            message = f"The source gives the stream {str(key)!r} a state of type {present.kind.upper()}."
            problems.append(
                Problem(f"/states/{place}", "state-kind-differs", message, "Send one of that type.")
            )
    if problems:
        raise InvalidRequest(problems)
    if missing := [".".join((*plan.namespace, by_key[k].name)) for k in wanted if by_key[k].table is None]:
        raise Conflict(
            f"There is no table {', '.join(missing)} yet, which would hold the state.",
            guidance="Let the job run once.",
            code="no-table-yet",
        )
    return {by_key[key].name: state.raw.decode() for key, (_, state) in wanted.items()}


def change(
    catalog: Catalog,
    job_id: UUID,
    plan: JobPlan,
    found: Sequence[Standing],
    states: Mapping[str, str | None],
    *,
    sealer: Sealer,
    guard: Callable[[], None],
) -> None:
    """Set the state of some tables; None forgets it.

    Args:
        catalog: Of the tables.
        job_id: The job.
        plan: Its plan.
        found: Where its streams stand.
        states: By the name of the table; a table that the job never wrote to has none to forget.
        sealer: Seals states, where the job protects columns.
        guard: Called before each commit; raises when the job's lease is lost.

    Raises:
        LeaseHeld, TransientFailed, ConfigurationFailed: As `Committer.commit`.
    """
    sealed = any(stream.protect_state for stream in plan.streams)
    newest = max((s.head.shared for s in found if s.head), default=0)
    act = f"{BY_SERVICE}{uuid4()}"
    for standing in sorted(found, key=lambda s: s.name):
        table, head = standing.table, standing.head
        if standing.name not in states or table is None:
            continue
        state = states[standing.name]
        if state is None and head is None:
            continue
        common = state is not None and state_from_json(state.encode()).key is None
        before = head or Note(run_id=act, attempt=0, number=0)
        note = Note(
            run_id=act,
            attempt=0,
            number=before.number + 1,
            generation_id=before.generation_id,
            sync_id=before.sync_id,
            state=state,
            shared=newest + 1 if common else before.shared,
        )
        committer = Committer(
            catalog, table, job_id, started_from=head, sealer=sealer if sealed else None, guard=guard
        )
        committer.commit(note, lambda _: FileChanges(always=True), act="state")
