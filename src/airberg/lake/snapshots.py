"""Making a snapshot: which data and delete files a commit adds and removes.

Snapshots are staged in a pyiceberg transaction, whose snapshot producers would try again by themselves on
whatever snapshot they find: that would let a run that lost its lease commit after all, and a merge miss rows
that came in between (decision 0004). What is relied on beyond pyiceberg's public classes (0.12):

- `Transaction._stage` takes updates and requirements as a producer hands them over.
- `Transaction.commit_transaction` tries once when no producer is registered.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from pyiceberg.avro.codecs import AvroCompressionCodec
from pyiceberg.exceptions import ValidationException
from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry, ManifestEntryStatus, ManifestFile
from pyiceberg.table import Table, TableProperties, Transaction
from pyiceberg.table.metadata import TableMetadata, TableMetadataV3
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, Summary, UpdateMetrics, update_snapshot_summaries
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    AssertRefSnapshotId,
    RemovePropertiesUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

from airberg.errors import TransientFailed
from airberg.lake.files import delete_quietly
from airberg.lake.live import current_entries, is_vector
from airberg.lake.manifests import (
    NEWEST,
    content_bytes,
    entry_of,
    identity,
    is_live,
    manifest_writer,
    read_entries,
    read_manifest_list,
    write_list,
    written,
)
from airberg.lake.steps import Step, reached


@dataclass(frozen=True, slots=True)
class Base:
    """What a commit builds on instead of the current snapshot; None stands for a table without rows."""

    snapshot_id: int | None


@dataclass(frozen=True, slots=True)
class FileChanges:
    """What one commit does to the files of a table.

    Attributes:
        added: Data files that come in.
        removed: Data files of the current snapshot that go.
        deletes_added: Delete files that come in.
        deletes_removed: Delete files of the current snapshot that go.
        drop_deletes: Drop all delete files; only right when all data files go.
        manifests: Manifests of the current snapshot that are written anew as fewer ones, by partition.
        manifest_entries: How many entries each of those gets at most; None for no bound.
        same_rows: The table has the same rows afterwards: files were only written anew.
        always: Make a snapshot even without files, so that a commit on the same snapshot cannot land too.
        back_to: The table goes back to this snapshot: the new one has its files, and it for its parent.
        rows_written: Rows of the source in `added`; rows that were only moved do not count.
        rows_deleted: Rows of the table that were replaced or deleted.
    """

    added: tuple[DataFile, ...] = ()
    removed: tuple[DataFile, ...] = ()
    deletes_added: tuple[DataFile, ...] = ()
    deletes_removed: tuple[DataFile, ...] = ()
    drop_deletes: bool = False
    manifests: tuple[ManifestFile, ...] = ()
    manifest_entries: int | None = None
    same_rows: bool = False
    always: bool = False
    back_to: Base | None = None
    rows_written: int = 0
    rows_deleted: int = 0

    @property
    def empty(self) -> bool:
        """Nothing to make a snapshot of."""
        return not (self.added or self.always or self.back_to or self._replaces)

    @property
    def operation(self) -> Operation:
        """What the snapshot says it did."""
        if self.same_rows:
            return Operation.REPLACE
        if not self._replaces:
            return Operation.APPEND
        return Operation.OVERWRITE if self.added else Operation.DELETE

    @property
    def _replaces(self) -> bool:
        return bool(
            self.removed or self.deletes_added or self.deletes_removed or self.drop_deletes or self.manifests
        )


@dataclass(slots=True)
class Attempt:
    """A commit that is ready to be sent, once.

    Attributes:
        snapshot_id: Id of the snapshot, None when only properties are set.
        paths: The manifests and the manifest list that were written for it.
    """

    changes: FileChanges
    transaction: Transaction
    snapshot_id: int | None = None
    paths: list[str] = field(default_factory=list)

    def send(self) -> Table:
        """Commit. The catalog accepts it only on the snapshot that it was made on."""
        return self.transaction.commit_transaction()

    def clean(self) -> None:
        """Delete the manifests of this attempt; only when it is certain that it did not land."""
        for path in self.paths:
            delete_quietly(self.transaction._table.io, path)


def prepare(
    table: Table, changes: FileChanges, properties: Mapping[str, str | None], summary: Mapping[str, str]
) -> Attempt:
    """Write the manifests of a commit and stage it.

    Args:
        table: The table as it was loaded; the commit holds only if its snapshot is still the current one.
        changes: Files that come and go.
        properties: Table properties to set in the same commit; None removes one.
        summary: Properties of the snapshot.

    Raises:
        TransientFailed: The files were written for another partitioning than the table has now.
    """
    spec_id = table.metadata.default_spec_id
    if any(file.spec_id != spec_id for file in changes.added):
        raise TransientFailed(
            f"The partitioning of {'.'.join(table.name())} was changed by somebody else during the run.",
            guidance="Run again: the next run writes into the new partitions.",
            code="partitioning-changed",
        )
    transaction = table.transaction()
    current = table.metadata.current_snapshot_id
    # Also where no snapshot is made: a run that lost its lease must not set its state over rows of the run
    # that took over.
    here: tuple[TableRequirement, ...] = (AssertRefSnapshotId(ref=MAIN_BRANCH, snapshot_id=current),)
    updates = {name: value for name, value in properties.items() if value is not None}
    noted: tuple[TableUpdate, ...] = (SetPropertiesUpdate(updates=updates),)
    if gone := [name for name in properties if name not in updates and name in table.properties]:
        noted = (*noted, RemovePropertiesUpdate(removals=gone))
    if changes.empty:
        transaction._stage(noted, here)
        return Attempt(changes, transaction)
    draft = _Draft(table, changes)
    try:
        snapshot = draft.write(dict(summary))
    except BaseException:
        draft.clean()
        raise
    # All at once: a transaction applies everything anew for each requirement that it is given.
    transaction._stage((*(noted if properties else ()), *_updates(table.metadata, snapshot)), here)
    reached(Step.MANIFESTS_WRITTEN, table.name())
    return Attempt(changes, transaction, snapshot.snapshot_id, draft.paths)


def _updates(metadata: TableMetadata, snapshot: Snapshot) -> tuple[TableUpdate, ...]:
    before = metadata.refs.get(MAIN_BRANCH)
    return (
        AddSnapshotUpdate(snapshot=snapshot),
        SetSnapshotRefUpdate(
            snapshot_id=snapshot.snapshot_id,
            parent_snapshot_id=snapshot.parent_snapshot_id,
            ref_name=MAIN_BRANCH,
            type=SnapshotRefType.BRANCH,
            # How long the branch keeps its snapshots is not ours to change.
            max_ref_age_ms=before.max_ref_age_ms if before else None,
            max_snapshot_age_ms=before.max_snapshot_age_ms if before else None,
            min_snapshots_to_keep=before.min_snapshots_to_keep if before else None,
        ),
    )


def _parent(table: Table, changes: FileChanges) -> Snapshot | None:
    if changes.back_to is None:
        return table.current_snapshot()
    if changes.back_to.snapshot_id is None:
        return None
    found = table.metadata.snapshot_by_id(changes.back_to.snapshot_id)
    if found is None:
        raise ValidationException(f"the snapshot {changes.back_to.snapshot_id} to go back to is gone")
    return found


class _Draft:
    """Writes the manifests and the manifest list of one snapshot."""

    def __init__(self, table: Table, changes: FileChanges) -> None:
        self.paths: list[str] = []
        self._table = table
        self._metadata = table.metadata
        self._changes = changes
        self._parent = _parent(table, changes)
        self._id = table.metadata.new_snapshot_id()
        self._commit = uuid.uuid4()
        self._gone: list[DataFile] = []

    def write(self, properties: dict[str, str]) -> Snapshot:
        """Write everything; returns the snapshot, which is in no table yet."""
        changes, metadata, table = self._changes, self._metadata, self._table
        added = self._added(ManifestContent.DATA, changes.added)
        added += self._added(ManifestContent.DELETES, changes.deletes_added)
        kept = self._kept()
        path = self._new_path(f"snap-{self._id}-0-{self._commit}.avro")
        version = metadata.format_version
        next_row_id = (metadata.next_row_id or 0) if isinstance(metadata, TableMetadataV3) else 0
        sequence_number = metadata.next_sequence_number() if metadata.format_version > 1 else 0
        parent_id = self._parent.snapshot_id if self._parent else None
        given = write_list(
            version,
            table.io.new_output(path),
            [*added, *kept],
            snapshot_id=self._id,
            parent_id=parent_id,
            sequence_number=sequence_number,
            next_row_id=next_row_id,
            codec=self._codec,
        )
        return Snapshot(
            snapshot_id=self._id,
            parent_snapshot_id=parent_id,
            manifest_list=path,
            sequence_number=sequence_number,
            summary=self._summary(properties),
            schema_id=metadata.current_schema_id,
            first_row_id=next_row_id if version >= NEWEST else None,
            added_rows=given if version >= NEWEST else None,
        )

    def clean(self) -> None:
        """Delete what was written."""
        for path in self.paths:
            delete_quietly(self._table.io, path)

    def _added(self, content: ManifestContent, files: Iterable[DataFile]) -> list[ManifestFile]:
        by_spec: dict[int, list[ManifestEntry]] = defaultdict(list)
        for file in files:
            by_spec[file.spec_id].append(entry_of(file, ManifestEntryStatus.ADDED, self._id))
        return [self._manifest(content, spec_id, entries) for spec_id, entries in by_spec.items()]

    def _kept(self) -> list[ManifestFile]:
        """The manifests of the parent, written anew where something goes."""
        changes = self._changes
        rewritten = {manifest.manifest_path for manifest in changes.manifests}
        gone = {
            ManifestContent.DATA: {identity(file) for file in changes.removed},
            ManifestContent.DELETES: {identity(file) for file in changes.deletes_removed},
        }
        together: dict[tuple[ManifestContent, int], list[ManifestEntry]] = defaultdict(list)
        kept: list[ManifestFile] = []
        for manifest in read_manifest_list(self._table.io, self._parent):
            content = manifest.content
            drops = content == ManifestContent.DELETES and changes.drop_deletes
            if not is_live(manifest):
                continue
            if not (gone[content] or drops or manifest.manifest_path in rewritten):
                kept.append(manifest)
                continue
            entries = read_entries(self._table.io, manifest)
            left: list[ManifestEntry] = []
            lost: list[ManifestEntry] = []
            for entry in entries:
                goes = drops or identity(entry.data_file) in gone[content]
                (lost if goes else left).append(entry)
            if not lost and manifest.manifest_path not in rewritten:
                kept.append(manifest)
                continue
            gone[content] -= {identity(entry.data_file) for entry in lost}
            self._gone += [entry.data_file for entry in lost]
            anew = [self._again(entry, ManifestEntryStatus.DELETED) for entry in lost]
            anew += [self._again(entry, ManifestEntryStatus.EXISTING) for entry in left]
            if manifest.manifest_path in rewritten:
                together[content, manifest.partition_spec_id] += anew
            else:
                kept.append(self._manifest(content, manifest.partition_spec_id, anew))
        if missing := sum(map(len, gone.values())):
            raise ValidationException(f"{missing} files to remove are not in the current snapshot")
        return kept + [
            self._manifest(*of, part) for of, entries in together.items() for part in self._parts(entries)
        ]

    def _parts(self, entries: list[ManifestEntry]) -> Iterator[list[ManifestEntry]]:
        """Entries with those of one partition side by side, so that readers can skip manifests."""
        entries.sort(key=lambda entry: repr(entry.data_file.partition))
        most = self._changes.manifest_entries or max(1, len(entries))
        for start in range(0, len(entries), most):
            yield entries[start : start + most]

    def _again(self, entry: ManifestEntry, status: ManifestEntryStatus) -> ManifestEntry:
        return entry_of(entry.data_file, status, self._id, known=entry)

    def _manifest(
        self, content: ManifestContent, spec_id: int, entries: Iterable[ManifestEntry]
    ) -> ManifestFile:
        path = self._new_path(f"{self._commit}-m{len(self.paths)}.avro")
        with manifest_writer(
            self._metadata.format_version,
            content,
            self._metadata.specs()[spec_id],
            self._metadata.schema(),
            self._table.io.new_output(path),
            self._id,
            self._codec,
        ) as writer:
            for entry in entries:
                writer.add_entry(entry)
        return written(writer)

    def _new_path(self, name: str) -> str:
        path = self._table.location_provider().new_metadata_location(name)
        self.paths.append(path)
        return path

    @property
    def _codec(self) -> AvroCompressionCodec:
        names = TableProperties
        found = self._table.properties.get(names.WRITE_AVRO_COMPRESSION, names.WRITE_AVRO_COMPRESSION_DEFAULT)
        return cast(AvroCompressionCodec, found)

    def _summary(self, properties: dict[str, str]) -> Summary:
        """Counts; partitions are counted only, and not named: their values come from records."""
        changes, metrics = self._changes, UpdateMetrics()
        came = (*changes.added, *changes.deletes_added)
        for file in came:
            metrics.add_file(file)
            metrics.added_file_size += content_bytes(file) - file.file_size_in_bytes
        for file in self._gone:
            metrics.remove_file(file)
            metrics.removed_file_size += content_bytes(file) - file.file_size_in_bytes
        facts = {**metrics.to_dict(), **properties}
        for name, files in (("added-dvs", came), ("removed-dvs", self._gone)):
            if vectors := sum(is_vector(file) for file in files):
                facts[name] = str(vectors)
        partitions = {
            (file.spec_id, repr(file.partition)) for file in (*came, *self._gone) if len(file.partition)
        }
        if partitions:
            facts["changed-partition-count"] = str(len(partitions))
        before = self._parent.summary if self._parent else None
        # Totals are the same sums for every operation; pyiceberg has them for those that change rows.
        operation = changes.operation
        counted = Operation.OVERWRITE if operation == Operation.REPLACE else operation
        totals = update_snapshot_summaries(
            Summary(operation=counted, **facts), cast("Mapping[str, str] | None", before)
        )
        return Summary(operation=operation, **totals.additional_properties)


def current_files(table: Table) -> tuple[list[DataFile], bool]:
    """All data files of the current snapshot, empty ones too, and whether it has delete files."""
    files: list[DataFile] = []
    deletes = False
    for manifest, entries in current_entries(table):
        if manifest.content == ManifestContent.DELETES:
            deletes = deletes or bool(entries)
        else:
            files += [entry.data_file for entry in entries]
    return files, deletes
