"""Commits to several tables that belong together: all of them, or none, whatever happens in between.

Iceberg commits one table at a time. So one commit decides: that to the leader, the first table by name. Its
note carries a promise (`airberg.lake.promise`) for each other table, whose files are closed by then. When
the process ends before all promises are kept, the next run keeps them before it reads anything. When the
leader's commit does not land, nothing has happened.

Why two runs of a job cannot decide differently: the leader of a job's tables is always the same one, and
its commit makes a snapshot even if it brings no rows, so of two that were made on the same snapshot only
one can land. Promised rows are written anew by who keeps the promise, through the ordinary way of the mode.
So it does not matter what has become of the schema meanwhile, nor whether a run that was thought dead still
writes: its commit finds another note in the table and is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from airberg.lake.catalog import catalog_errors
from airberg.lake.files import delete_quietly
from airberg.lake.note import Note
from airberg.lake.promise import Promise, PromisedFile, broken, promised_files
from airberg.lake.scan import file_batches
from airberg.lake.steps import Step, reached
from airberg.lake.writers import CommitReport, TableWriter

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Member:
    """One table of a shared checkpoint.

    Attributes:
        writer: Its writer, marked up to where the state covers the rows.
        note: What the commit notes; without promises.
        landed: Called when the commit has landed, before that of the next table.
    """

    writer: TableWriter
    note: Note
    landed: Callable[[CommitReport], None]


def commit_together(members: Sequence[Member]) -> None:
    """Commit what is marked in each table, with its note.

    Args:
        members: Tables whose notes hold the same state, of the same run and shared checkpoint.

    Raises:
        LeaseHeld, TransientFailed, ConfigurationFailed: As `TableWriter.commit`. Tables that had been told
            by `landed` are committed; if there is one, the others are promised, and a later call with them
            or the next run commits them.
    """
    leader, *others = sorted(members, key=lambda member: member.writer.table.name())
    if not others or not any(_has_rows(member.writer) for member in members):
        # Without rows the tables may stand at different states: each is true.
        for member in (leader, *others):
            member.landed(member.writer.commit(member.note))
        return
    promises: list[Promise] = []
    try:
        promises += [member.writer.promise(member.note) for member in others]
        reached(Step.PROMISED, leader.writer.table.name())
        note = msgspec.structs.replace(leader.note, leads=True, promises=tuple(promises))
        done = leader.writer.commit(note)
    except BaseException:
        if not leader.writer.in_doubt:
            for member in others:
                member.writer.withdraw()
        raise
    leader.landed(done)
    for index, member in enumerate(others):
        reached(Step.BETWEEN_TABLES, member.writer.table.name())
        # Each repeats the promises that are left: the leader's table may be dropped by somebody.
        note = msgspec.structs.replace(member.note, promises=tuple(promises[index + 1 :]))
        done = member.writer.commit(note)
        member.writer.withdraw()
        _forget(member.writer.table, promises[index])
        member.landed(done)


def _has_rows(writer: TableWriter) -> bool:
    return writer.staged_rows > writer.rows_since_mark


def unkept(notes: Iterable[Note | None]) -> list[tuple[Note, Promise]]:
    """The promises of the newest shared checkpoint, with the notes that make them, one for each table."""
    known = [note for note in notes if note is not None]
    newest = max((note.shared for note in known), default=0)
    found: dict[tuple[str, ...], tuple[Note, Promise]] = {}
    for note in known:
        if note.shared == newest:
            for promise in note.promises:
                found.setdefault(promise.table, (note, promise))
    return list(found.values())


def is_open(promise: Promise, table: Table, note: Note | None) -> bool:
    """Whether a promise is still to be kept, by the table and the job's note in it.

    A table that was made anew, or a note that was removed or replaced by another run, is left alone.
    """
    if str(table.metadata.table_uuid) != promise.table_uuid:
        return False
    return (note.identity if note else None) == promise.before


def keep(note: Note, promise: Promise, writer: TableWriter) -> CommitReport:
    """Make a promised commit.

    Args:
        note: The note that makes the promise.
        promise: An open promise of it.
        writer: A fresh writer of the table, that started from the note in it.

    Raises:
        ConfigurationFailed: `promise-broken`: its files are gone or not what they were.
        LeaseHeld, TransientFailed: As `TableWriter.commit`.
    """
    table = writer.table
    reached(Step.COMPLETING, table.name())
    files = promised_files(table, promise)
    for file in files:
        _write_again(table, promise, file, writer)
    writer.mark()
    done = writer.commit(
        msgspec.structs.replace(
            note,
            number=promise.number,
            generation_id=promise.generation_id,
            complete=promise.complete,
            rows=promise.rows,
            destination_records=promise.destination_records,
            leads=False,
            promises=(),
        )
    )
    for file in files:
        delete_quietly(table.io, file.path)
    _forget(table, promise)
    reached(Step.COMPLETED, table.name())
    log.info(
        "%s: %s rows of a checkpoint that was begun are committed",
        ".".join(table.name()),
        promise_rows(files),
    )
    return done


def promise_rows(files: Sequence[PromisedFile]) -> int:
    """Rows in promised files."""
    return sum(file.rows for file in files)


def _write_again(table: Table, promise: Promise, file: PromisedFile, writer: TableWriter) -> None:
    """Stage the rows of a promised file; values of encrypted columns are copied as they are."""
    rows = 0
    with catalog_errors("reading a promised file"):
        try:
            size = len(table.io.new_input(file.path))
            if size != file.bytes:
                raise broken(promise, f"a file has {size} bytes instead of {file.bytes}")
            for _, batch in file_batches(table, _data_file(file), table.schema()):
                writer.write(batch)
                rows += batch.num_rows
        except FileNotFoundError:
            raise broken(promise, "a file of it is gone") from None
    if rows != file.rows:
        raise broken(promise, f"a file has {rows} rows instead of {file.rows}")


def _data_file(file: PromisedFile) -> DataFile:
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=file.path,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=file.rows,
        file_size_in_bytes=file.bytes,
    )


def _forget(table: Table, promise: Promise) -> None:
    if promise.files_in is not None:
        delete_quietly(table.io, promise.files_in.path)
