"""The checkpoint note: the connector's state, kept in the table beside the rows that it covers.

It is one table property per job, `airberg.checkpoint.<job id>`, set in the same commit as the rows. So a
table that several jobs write has several notes, and no side store can disagree with the table.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from typing import Any, Protocol
from uuid import UUID

import msgspec
from pyiceberg.table import Table

from airberg.errors import AirbergError, ConfigurationFailed
from airberg.lake.promise import Promise

PREFIX = "airberg.checkpoint."
_VERSION = 1


class Sealer(Protocol):
    """Encrypts small secrets; `airberg.keys.seal` has one. `context` is authenticated, not stored."""

    def seal(self, plaintext: bytes, context: Mapping[str, str], /) -> bytes:
        """Encrypt."""
        ...

    def open(self, sealed: bytes, context: Mapping[str, str], /) -> bytes:
        """Decrypt, or raise when the text or its context is another one."""
        ...


class RewoundTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table that a rewind takes back, as every note of that rewind names it.

    Attributes:
        table: Name of the table.
        table_uuid: A table of the same name that was made anew is not meant.
        metadata: The metadata file that has the snapshot and the note to go back to.
        number: Checkpoint number of the note that the rewind sets; while the note in the table has a smaller
            one, the rewind is still to be done there.
        shared: As in `Note`.
    """

    table: tuple[str, ...]
    table_uuid: str
    metadata: str
    number: int
    shared: int = 0


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What a job has done to a table, as of one commit.

    Attributes:
        run_id: The run that made the commit, and which attempt of it.
        number: Checkpoint number of the job in this table; goes up with each commit.
        generation_id: Airbyte's generation of the stream's data; goes up with each full overwrite.
        sync_id: Airbyte's number of the sync.
        state: The connector's state message as a JSON value; None before the first one.
        complete: The stream was read to its end by this run.
        rows: Rows that this run has committed so far.
        destination_records: Records that the state covers since the state before it, as counted here
            (`destinationStats.recordCount`).
        shared: Number of the newest checkpoint that the table shares with others; 0 when there was none.
            All tables of a shared checkpoint note the same number.
        leads: This commit was the first of a shared checkpoint and decided for all its tables.
        promises: Commits to other tables that belong to this checkpoint and were still to come.
        rewound: All tables of the rewind that set this note; none when a run has set it.
    """

    run_id: str
    attempt: int
    number: int
    generation_id: int = 0
    sync_id: int = 0
    state: Any = None
    complete: bool = False
    rows: int = 0
    destination_records: int | None = None
    shared: int = 0
    leads: bool = False
    promises: tuple[Promise, ...] = ()
    rewound: tuple[RewoundTable, ...] = ()

    @property
    def identity(self) -> tuple[str, int, int]:
        """What tells two notes of a job apart."""
        return self.run_id, self.attempt, self.number


class _Stored(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The value of the property, before it is compressed."""

    v: int
    run_id: str
    attempt: int
    number: int
    generation_id: int = 0
    sync_id: int = 0
    state: Any = None
    sealed: bytes | None = None
    complete: bool = False
    rows: int = 0
    destination_records: int | None = None
    shared: int = 0
    leads: bool = False
    promises: tuple[Promise, ...] = ()
    rewound: tuple[RewoundTable, ...] = ()


def property_name(job_id: UUID | str) -> str:
    """Name of the table property that holds the note of a job."""
    return f"{PREFIX}{job_id}"


def note_update(job_id: UUID | str, note: Note, sealer: Sealer | None = None) -> dict[str, str]:
    """The property update that stores a note.

    Args:
        job_id: The job that the note is of.
        note: The note.
        sealer: Encrypts the state; for streams whose state holds values of an encrypted column.
    """
    state, sealed = note.state, None
    if sealer is not None:
        state, sealed = None, sealer.seal(msgspec.json.encode(note.state), _context(job_id))
    stored = _Stored(
        v=_VERSION,
        run_id=note.run_id,
        attempt=note.attempt,
        number=note.number,
        generation_id=note.generation_id,
        sync_id=note.sync_id,
        state=state,
        sealed=sealed,
        complete=note.complete,
        rows=note.rows,
        destination_records=note.destination_records,
        shared=note.shared,
        leads=note.leads,
        promises=note.promises,
        rewound=note.rewound,
    )
    packed = zlib.compress(msgspec.json.encode(stored), 6)
    return {property_name(job_id): base64.b64encode(packed).decode()}


def read_note(table: Table, job_id: UUID | str, sealer: Sealer | None = None) -> Note | None:
    """The note of a job in a table, or None when the job never committed to it.

    Raises:
        ConfigurationFailed: There is a note, but it cannot be read: damaged, from a newer version, or
            sealed with a key that is not here.
    """
    text = table.properties.get(property_name(job_id))
    return None if text is None else decode_note(text, job_id, sealer)


def decode_note(text: str, job_id: UUID | str, sealer: Sealer | None = None) -> Note:
    """The note from the value of its property; see `read_note`."""
    stored = _unpack(text)
    state = stored.state
    if stored.sealed is not None:
        if sealer is None:
            raise _unreadable("is sealed and no key is at hand")
        try:
            state = msgspec.json.decode(sealer.open(stored.sealed, _context(job_id)))
        except AirbergError:
            raise
        except Exception:  # noqa: BLE001 - whatever the cipher raises must not reach a log
            raise _unreadable("cannot be decrypted with the key at hand") from None
    return _note(stored, state)


def head_of(text: str) -> Note:
    """The note from the value of its property, without its state, which is not opened; see `read_note`."""
    return _note(_unpack(text), None)


def is_sealed(text: str) -> bool:
    """Whether the state in the value of a property is sealed; see `read_note`."""
    return _unpack(text).sealed is not None


def _note(stored: _Stored, state: Any) -> Note:  # noqa: ANN401 - any JSON value
    return Note(
        run_id=stored.run_id,
        attempt=stored.attempt,
        number=stored.number,
        generation_id=stored.generation_id,
        sync_id=stored.sync_id,
        state=state,
        complete=stored.complete,
        rows=stored.rows,
        destination_records=stored.destination_records,
        shared=stored.shared,
        leads=stored.leads,
        promises=stored.promises,
        rewound=stored.rewound,
    )


def identity_of(text: str) -> tuple[str, int, int]:
    """`Note.identity` from the value of a property, without opening a sealed state; see `read_note`."""
    stored = _unpack(text)
    return stored.run_id, stored.attempt, stored.number


def promises_of(text: str) -> tuple[Promise, ...]:
    """The promises in the value of a property, without opening a sealed state; see `read_note`."""
    return _unpack(text).promises


def _unpack(text: str) -> _Stored:
    try:
        stored = msgspec.json.decode(zlib.decompress(base64.b64decode(text, validate=True)), type=_Stored)
    except (msgspec.DecodeError, zlib.error, binascii.Error, ValueError):
        raise _unreadable("is damaged") from None
    if stored.v != _VERSION:
        raise _unreadable(f"has version {stored.v}, this is an older Airberg")
    return stored


def _context(job_id: UUID | str) -> dict[str, str]:
    return {"job": str(job_id), "part": "checkpoint"}


def _unreadable(problem: str) -> ConfigurationFailed:
    return ConfigurationFailed(
        f"The checkpoint note in the table {problem}.",
        guidance="Restore the key or the Airberg version that wrote it; removing the table property "
        "makes the next run start from the beginning.",
        code="checkpoint-unreadable",
    )
