"""Promises: what the first of several commits says about the others that belong to it.

A state that several tables share is committed with the rows of each of them, one table after the other.
The first commit carries, in its note, a promise for every other table: which closed files hold its rows,
and what its note will say. So the first commit decides for all of them, and a run that finds a promise
unfulfilled fulfils it (`airberg.lake.together`). A promise names files and counts; it holds no values.
"""

from __future__ import annotations

import hashlib
import zlib

import msgspec
from pyiceberg.table import Table

from airberg.errors import ConfigurationFailed
from airberg.lake.catalog import catalog_errors

INLINE_BYTES = 8 * 1024
"""A longer list of files is kept in a file next to the table, and the note names that file."""


class PromisedFile(msgspec.Struct, frozen=True, array_like=True):
    """A closed data file that no snapshot names yet."""

    path: str
    rows: int
    bytes: int


class FileList(msgspec.Struct, frozen=True):
    """Where a long list of files is kept, and the SHA-256 of what is there."""

    path: str
    sha256: str


class Promise(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A commit to one table that another table's commit has decided.

    Attributes:
        table: Name of the table.
        table_uuid: A table of the same name that was made anew is not meant.
        before: Identity of the job's note that the commit replaces; None when there was none.
        number: Checkpoint number of its own note; run, attempt and state are those of the promising note.
        generation_id: As in `Note`.
        complete: As in `Note`.
        rows: As in `Note`.
        destination_records: As in `Note`.
        files: Holds its rows; empty when only the note is to be set, or when the list is in `files_in`.
        files_in: Where the list of files is, when it is long.
    """

    table: tuple[str, ...]
    table_uuid: str
    before: tuple[str, int, int] | None
    number: int
    generation_id: int = 0
    complete: bool = False
    rows: int = 0
    destination_records: int | None = None
    files: tuple[PromisedFile, ...] = ()
    files_in: FileList | None = None


def keep_aside(table: Table, promise: Promise) -> Promise:
    """The promise as it goes into a note: a long list of files is written to a file next to `table`.

    Raises:
        TransientFailed, ConfigurationFailed: The storage failed or refused.
    """
    content = zlib.compress(msgspec.json.encode(promise.files), 6)
    if len(content) <= INLINE_BYTES:
        return promise
    digest = hashlib.sha256(content).hexdigest()
    path = table.location_provider().new_metadata_location(f"airberg-promise-{digest[:32]}.json.zz")
    with catalog_errors("writing a promise"), table.io.new_output(path).create(overwrite=True) as sink:
        sink.write(content)
    return msgspec.structs.replace(promise, files=(), files_in=FileList(path, digest))


def promised_files(table: Table, promise: Promise) -> tuple[PromisedFile, ...]:
    """The files that a promise names.

    Raises:
        ConfigurationFailed: The list of them is gone or damaged.
        TransientFailed: The storage failed.
    """
    if promise.files_in is None:
        return promise.files
    where = promise.files_in
    with catalog_errors("reading a promise"):
        try:
            with table.io.new_input(where.path).open() as source:
                content = source.read()
        except FileNotFoundError:
            raise broken(promise, "the list of its files is gone") from None
    if hashlib.sha256(content).hexdigest() != where.sha256:
        raise broken(promise, "the list of its files is damaged")
    return msgspec.json.decode(zlib.decompress(content), type=tuple[PromisedFile, ...])


def broken(promise: Promise, problem: str) -> ConfigurationFailed:
    """The error of a promise that cannot be fulfilled."""
    name = ".".join(promise.table)
    return ConfigurationFailed(
        f"A checkpoint of {name} that was begun cannot be completed: {problem}.",
        guidance="Restore the file, or remove the properties `airberg.checkpoint.*` of the job's tables: "
        "the next run then reads them from the beginning.",
        code="promise-broken",
    )
