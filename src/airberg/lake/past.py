"""What a table was earlier: the snapshot and the notes that its older metadata files have, side by side.

Each commit leaves the metadata file before it in place, and Iceberg's metadata log names the newest hundred
of them (`write.metadata.previous-versions-max`). So rows and state of an earlier moment are found
together, without anything being kept for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import msgspec
from pyiceberg.io import FileIO
from pyiceberg.serializers import Compressor
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from airberg.errors import Conflict
from airberg.lake.catalog import catalog_errors
from airberg.lake.manifests import read_manifest_list
from airberg.lake.note import Note, Sealer, decode_note, head_of, property_name

_NO_SNAPSHOT = -1


@dataclass(frozen=True, slots=True)
class Past:
    """A table as of one of its metadata files.

    Attributes:
        metadata: Where the file is.
        table_uuid: Of the table then.
        snapshot_id: The current snapshot then, None when there was none.
        properties: The properties then; notes of jobs are among them.
    """

    metadata: str
    table_uuid: str
    snapshot_id: int | None
    properties: Mapping[str, str]

    def note_text(self, job_id: str) -> str | None:
        """The note of a job then, as it was stored."""
        return self.properties.get(property_name(job_id))

    def note_head(self, job_id: str) -> Note | None:
        """That note without its state; see `airberg.lake.note.head_of`."""
        text = self.note_text(job_id)
        return None if text is None else head_of(text)

    def note(self, job_id: str, sealer: Sealer | None = None) -> Note | None:
        """That note with its state; see `airberg.lake.note.read_note`."""
        text = self.note_text(job_id)
        return None if text is None else decode_note(text, job_id, sealer)


class _Metadata(msgspec.Struct, rename="kebab"):
    """What is read of a metadata file (specification, Table Metadata Fields)."""

    table_uuid: str = ""
    current_snapshot_id: int | None = None
    properties: dict[str, str] = {}


def pasts(table: Table) -> Iterator[Past]:
    """What the table was, newest first: now, then as each file of the metadata log has it.

    Ends where a file is gone.

    Raises:
        TransientFailed, ConfigurationFailed: The storage failed or refused.
    """
    metadata = table.metadata
    yield Past(
        table.metadata_location, str(metadata.table_uuid), metadata.current_snapshot_id, metadata.properties
    )
    for entry in reversed(metadata.metadata_log):
        found = read_past(table.io, entry.metadata_file)
        if found is None:
            return
        yield found


def read_past(io: FileIO, location: str) -> Past | None:
    """What a metadata file has; None when the file is gone.

    Raises:
        TransientFailed, ConfigurationFailed: The storage failed or refused.
    """
    with catalog_errors("reading an older metadata file"):
        try:
            with (
                io.new_input(location).open() as source,
                Compressor.get_compressor(location).stream_decompressor(source) as plain,
            ):
                content = plain.read()
        except FileNotFoundError:
            return None
    found = msgspec.json.decode(content, type=_Metadata)
    snapshot = found.current_snapshot_id
    return Past(location, found.table_uuid, None if snapshot == _NO_SNAPSHOT else snapshot, found.properties)


def newest_past(table: Table, job_id: str, wanted: Callable[[Note | None], bool]) -> Past | None:
    """The newest past whose note of a job is wanted; None when there is none, or it is known no more.

    Args:
        table: The table.
        job_id: The job.
        wanted: Decides by the note without its state, or by None where the job has none.

    Raises:
        TransientFailed, ConfigurationFailed: As `pasts`, or a note cannot be read.
    """
    return next((past for past in pasts(table) if wanted(past.note_head(job_id))), None)


def snapshot_of(table: Table, past: Past) -> Snapshot | None:
    """The snapshot of a past, which the table must still have; None when the table had none.

    Raises:
        Conflict: It has expired (`rewind-expired`).
        TransientFailed, ConfigurationFailed: The storage failed or refused.
    """
    if past.snapshot_id is None:
        return None
    snapshot = table.metadata.snapshot_by_id(past.snapshot_id)
    if snapshot is not None:
        try:
            with catalog_errors("reading a snapshot"):
                read_manifest_list(table.io, snapshot)
        except FileNotFoundError:
            snapshot = None
    if snapshot is None:
        raise Conflict(
            f"The snapshot {past.snapshot_id} of {'.'.join(table.name())} has expired.",
            guidance="Go back to a newer run. Upkeep keeps snapshots for AIRBERG_UPKEEP__EXPIRE_AGE_DAYS and "
            "the newest AIRBERG_UPKEEP__EXPIRE_KEEP of them; raise these for the future.",
            code="rewind-expired",
        )
    return snapshot


def left_behind(metadata: TableMetadata, snapshot_id: int | None) -> list[Snapshot]:
    """The snapshots that the table has and would not have after going back to one, newest first."""
    kept = {snapshot.snapshot_id for snapshot in _ancestry(metadata, snapshot_id)}
    return [s for s in _ancestry(metadata, metadata.current_snapshot_id) if s.snapshot_id not in kept]


def _ancestry(metadata: TableMetadata, snapshot_id: int | None) -> Iterator[Snapshot]:
    """A snapshot and those it was made from, newest first, as far as they are there."""
    known = {snapshot.snapshot_id: snapshot for snapshot in metadata.snapshots}
    while snapshot_id is not None and (snapshot := known.pop(snapshot_id, None)) is not None:
        yield snapshot
        snapshot_id = snapshot.parent_snapshot_id


def rows_of(snapshot: Snapshot | None) -> int:
    """Rows by the counts of a snapshot: of its data files, less those that its delete files name."""
    facts = snapshot.summary.additional_properties if snapshot and snapshot.summary else {}
    return int(facts.get("total-records", 0)) - int(facts.get("total-position-deletes", 0))
