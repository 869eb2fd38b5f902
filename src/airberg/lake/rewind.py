"""Rewind: the tables of a job go back to what they were, each with the state that it had then.

One commit a table: a new snapshot that has the files of the earlier one, and it for its parent, together with
the note of then. A new one, not the earlier one itself: a commit of a run that was thought dead asserts the
snapshot that it was made on, and must never land on the rewound table.

Several tables are committed one after the other. Each note of a rewind names all its tables
(`Note.rewound`). So whoever comes next sees what is still to be done, and does it: the next run before it
reads anything, or the same rewind when it is asked for again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from airberg.columns.noted import protected_column
from airberg.errors import ConfigurationFailed, Conflict
from airberg.lake.commit import Committed, Committer
from airberg.lake.note import Note, RewoundTable, Sealer, is_sealed, read_note
from airberg.lake.past import Past, read_past, snapshot_of
from airberg.lake.snapshots import Base, FileChanges
from airberg.lake.steps import Step, reached

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Return:
    """A table on its way back.

    Attributes:
        table: As it is.
        past: What it goes back to.
        snapshot: The snapshot of the past.
    """

    table: Table
    past: Past
    snapshot: Snapshot | None


def rewind(
    catalog: Catalog,
    job_id: str,
    returns: Sequence[Return],
    *,
    sealer: Sealer,
    guard: Callable[[], None],
    foreign: Callable[[Table, int | None], None],
) -> list[Committed]:
    """Take tables back, all of them or, after a crash, those that were reached.

    Args:
        catalog: Their catalog.
        job_id: The job whose notes go back with them.
        returns: The tables, in the order in which they are committed.
        sealer: Opens sealed states, and seals them again.
        guard: Called right before each commit; raises when the job's lease is lost.
        foreign: Called with the table and the snapshot to go back to, whenever the table has changed; raises
            when commits of others would be lost.

    Raises:
        LeaseHeld, TransientFailed, ConfigurationFailed: As `Committer.commit`.
        Conflict: As `foreign`, or a snapshot has expired meanwhile.
    """
    parts = _parts(job_id, returns, sealer)
    done = []
    for index, (back, part) in enumerate(zip(returns, parts, strict=True)):
        if index:
            reached(Step.BETWEEN_TABLES, back.table.name())
        done.append(_take_back(catalog, job_id, back, part, tuple(parts), sealer, guard, foreign))
    return done


def unfinished(notes: Iterable[tuple[Table, Note | None]]) -> list[tuple[Table, RewoundTable, Note]]:
    """The tables that a rewind was to take back and did not come to, with a note that says so."""
    known = {table.name(): (table, note) for table, note in notes}
    found: dict[tuple[str, ...], tuple[Table, RewoundTable, Note]] = {}
    for _, note in known.values():
        for part in note.rewound if note else ():
            table, there = known.get(part.table, (None, None))
            if table is None or note is None or str(table.metadata.table_uuid) != part.table_uuid:
                continue
            if (there.number if there else 0) < part.number:
                found[part.table] = (table, part, note)
    return list(found.values())


def finish_rewind(
    catalog: Catalog,
    job_id: str,
    tables: Iterable[Table],
    *,
    sealer: Sealer,
    guard: Callable[[], None],
) -> list[str]:
    """Take back the tables that a rewind did not come to; their names in the namespace. See `rewind`.

    Raises:
        ConfigurationFailed: What a table was is gone meanwhile (`rewind-unfinished`).
    """
    noted = [(table, read_note(table, job_id, sealer)) for table in tables]
    names = []
    for table, part, note in unfinished(noted):
        name = ".".join(table.name())
        past = read_past(table.io, part.metadata)
        try:
            if past is None:
                raise Conflict("Its older metadata file is gone.")
            back = Return(table, past, snapshot_of(table, past))
        except Conflict as error:
            raise ConfigurationFailed(
                f"A rewind ended before it came to {name}, and cannot be completed: {error.message}",
                guidance="Rewind to another run, or delete the job's state to load everything anew.",
                code="rewind-unfinished",
            ) from None
        reached(Step.COMPLETING, table.name())
        _take_back(catalog, job_id, back, part, note.rewound, sealer, guard, lambda _, __: None)
        reached(Step.COMPLETED, table.name())
        log.info("%s: a rewind that was begun is completed", name)
        names.append(table.name()[-1])
    return names


def _parts(job_id: str, returns: Sequence[Return], sealer: Sealer) -> list[RewoundTable]:
    """What the notes are going to say: numbers go on, so that no commit made before can land."""
    now = [read_note(back.table, job_id, sealer) for back in returns]
    then = [back.past.note_head(job_id) for back in returns]
    newest = max((note.shared for note in (*now, *then) if note), default=0)
    order = sorted({note.shared for note in then if note and note.shared})
    return [
        RewoundTable(
            table=tuple(back.table.name()),
            table_uuid=str(back.table.metadata.table_uuid),
            metadata=back.past.metadata,
            number=1 + max((note.number for note in (here, earlier) if note), default=0),
            shared=newest + 1 + order.index(earlier.shared) if earlier and earlier.shared else 0,
        )
        for back, here, earlier in zip(returns, now, then, strict=True)
    ]


def _take_back(
    catalog: Catalog,
    job_id: str,
    back: Return,
    part: RewoundTable,
    rewound: tuple[RewoundTable, ...],
    sealer: Sealer,
    guard: Callable[[], None],
    foreign: Callable[[Table, int | None], None],
) -> Committed:
    text = back.past.note_text(job_id)
    seal = sealer if text is not None and is_sealed(text) else None
    before = back.past.note(job_id, sealer) or Note(run_id="", attempt=0, number=0)
    note = msgspec.structs.replace(
        before, number=part.number, shared=part.shared, leads=False, promises=(), rewound=rewound
    )
    here = back.table
    committer = Committer(
        catalog, here, job_id, started_from=read_note(here, job_id, sealer), sealer=seal, guard=guard
    )
    base = back.past.snapshot_id

    def plan(table: Table) -> FileChanges:
        snapshot_of(table, back.past)
        foreign(table, base)
        return FileChanges(back_to=Base(base))

    return committer.commit(note, plan, _facts_of_then(here.properties, back.past.properties), "rewind")


def _facts_of_then(now: Mapping[str, str], then: Mapping[str, str]) -> dict[str, str | None]:
    """How columns were protected: that is true of the rows of then, whatever a swap has changed since."""
    facts = {name: value for name, value in then.items() if protected_column(name) is not None}
    return dict.fromkeys(name for name in now if protected_column(name) is not None) | facts
