"""Checkpoints of a run: which streams a state covers, and commits that belong together.

A state of one stream is committed with the rows of its table. A state that streams share (GLOBAL, LEGACY)
is committed to all their tables or to none: see `airberg.lake.together`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from pyiceberg.table import Table

from airberg.errors import ConfigurationFailed, LeaseHeld
from airberg.lake.note import Note, Sealer, read_note
from airberg.lake.promise import Promise
from airberg.lake.together import Member, commit_together, is_open, keep, unkept
from airberg.lake.writers import TableWriter
from airberg.plan.model import StreamPlan
from airberg.protocol.state import State, StateKey

log = logging.getLogger(__name__)


class Sink(Protocol):
    """What a checkpoint needs of a stream on its way into its table."""

    @property
    def own_state(self) -> bool:
        """Whether the newest state of the stream is its own, not one that it shares."""
        ...

    @property
    def shares_state(self) -> bool:
        """Whether the newest state of the stream is one that it shares."""
        ...

    @property
    def shared(self) -> int:
        """Number of the newest shared checkpoint of the stream; see `Note.shared`."""
        ...

    @property
    def waits(self) -> bool:
        """Whether a state that covers its rows waits to be committed."""
        ...

    def prepare(self, shared: int | None, *, complete: bool) -> Member:
        """Stage and mark what is to be committed.

        Args:
            shared: Number of the shared checkpoint; None for a checkpoint of the stream alone.
            complete: Everything is to be committed, and the stream is complete; else what its last state
                covers.
        """
        ...

    def finish(self) -> None:
        """Commit everything, alone: the stream is complete."""
        ...


AnySink = TypeVar("AnySink", bound=Sink)


def covered_by(state: State, sinks: Mapping[StateKey, AnySink]) -> list[AnySink]:
    """The streams whose records so far a state covers.

    A shared state covers all streams, but for those that have a state of their own and are not named in it:
    a source may give some of its streams a common state and others one each.
    """
    if state.key is not None:
        return [sinks[state.key]] if state.key in sinks else []
    return [sink for key, sink in sinks.items() if key in state.streams or not sink.own_state]


def checkpoint_together(sinks: Iterable[Sink]) -> None:
    """Commit what the last states of streams cover: streams with a shared state all or none.

    Raises:
        RunError: As `commit_together`.
    """
    _commit(list(sinks), complete=False)


def finish_together(sinks: Iterable[Sink]) -> None:
    """Commit everything: the streams are complete.

    Raises:
        RunError: As `commit_together`.
    """
    _commit(list(sinks), complete=True)


def _commit(sinks: Sequence[Sink], *, complete: bool) -> None:
    ready = [sink for sink in sinks if complete or sink.waits]
    if sharing := [sink for sink in ready if sink.shares_state]:
        number = 1 + max(sink.shared for sink in sharing)
        commit_together([sink.prepare(number, complete=complete) for sink in sharing])
    for sink in ready:
        if sink.shares_state:
            continue
        if complete:
            sink.finish()
        else:
            commit_together([sink.prepare(None, complete=False)])


def keep_promises(
    streams: Sequence[StreamPlan],
    tables: dict[str, Table],
    job_id: str,
    sealer: Sealer,
    open_writer: Callable[[StreamPlan, Table, Note | None], TableWriter],
) -> None:
    """Complete the shared checkpoint that an earlier run began: make the commits that it did not come to.

    Args:
        streams: The streams of this run.
        tables: Their tables, by name; those that are committed to are replaced by what they are then.
        job_id: The job.
        sealer: Opens sealed states.
        open_writer: Opens the writer of a stream, as for its rows.

    Raises:
        ConfigurationFailed: `promise-broken`, in append mode: rows would be lost or doubled otherwise. A
            merge reads them again instead, which gives the same rows.
        RunError: As `TableWriter.commit`.
    """
    found = {s.table: s for s in streams if s.sync_mode == "incremental" and s.mode != "overwrite"}
    notes = {name: read_note(tables[name], job_id, sealer) for name in found}
    for note, promise in unkept(notes.values()):
        name = promise.table[-1]
        if (
            name in found
            and tables[name].name() == promise.table
            and is_open(promise, tables[name], notes[name])
        ):
            writer = open_writer(found[name], tables[name], notes[name])
            tables[name] = _keep(found[name], writer, note, promise, lambda t: read_note(t, job_id, sealer))


def _keep(
    stream: StreamPlan,
    writer: TableWriter,
    note: Note,
    promise: Promise,
    noted: Callable[[Table], Note | None],
) -> Table:
    """Keep one promise; the table afterwards."""
    try:
        keep(note, promise, writer)
    except LeaseHeld:
        # The run that promised may have lived long enough to keep it itself, a moment ago.
        table = writer.table.refresh()
        there = noted(table)
        if there is None or there.shared != note.shared or there.run_id != note.run_id:
            raise
        return table
    except ConfigurationFailed as error:
        if error.code != "promise-broken" or stream.mode != "merge":
            raise
        log.warning("%s: %s It is merged again from the state before.", stream.name, error.message)
    finally:
        writer.discard()
    return writer.table.refresh()
