"""Making a snapshot: which files a commit adds and removes, on pyiceberg's snapshot producers.

What is relied on beyond pyiceberg's public classes (0.12), all of it here:

- `_SnapshotProducer`: a subclass gives `_existing_manifests` and `_deleted_entries`; the rest of it writes
  manifests, the manifest list and the summary. `_deleted_data_files` feeds the summary.
- `Transaction._snapshot_producers`: emptied, so that `commit_transaction` tries once only. pyiceberg would
  otherwise rebase our snapshot on whatever it finds and try again, which would let a run that lost its
  lease commit after all, and would let a merge miss rows that came in between.
- `Transaction._stage`: to ask for an unchanged snapshot where only properties are set.
- `_SnapshotProducer._clean_all_uncommitted`: deletes the manifests of an attempt that did not land.
- `_SnapshotProducer._manifests` writes all added files by the table's default partition spec, and
  `_summary` makes a path of each partition, which fails for days that Python's calendar does not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyiceberg.exceptions import ValidationException
from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DataFile,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
)
from pyiceberg.table import Table, Transaction
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import (
    Operation,
    SnapshotSummaryCollector,
    Summary,
    update_snapshot_summaries,
)
from pyiceberg.table.update import AssertRefSnapshotId, SetPropertiesUpdate
from pyiceberg.table.update.snapshot import _FastAppendFiles, _SnapshotProducer

from airberg.errors import TransientFailed
from airberg.lake.steps import Step, reached


@dataclass(frozen=True, slots=True)
class FileChanges:
    """What one commit does to the files of a table.

    Attributes:
        added: Data files that come in.
        removed: Data files of the current snapshot that go.
        drop_deletes: Drop all delete files too; only right when all data files go.
        always: Make a snapshot even without files, so that a commit on the same snapshot cannot land too.
        rows_written: Rows of the source in `added`; rows that were only moved do not count.
        rows_deleted: Rows of the table that were replaced or deleted.
    """

    added: tuple[DataFile, ...] = ()
    removed: tuple[DataFile, ...] = ()
    drop_deletes: bool = False
    always: bool = False
    rows_written: int = 0
    rows_deleted: int = 0

    @property
    def empty(self) -> bool:
        """Nothing to make a snapshot of."""
        return not (self.added or self.removed or self.drop_deletes or self.always)


@dataclass(slots=True)
class Attempt:
    """A commit that is ready to be sent, once.

    Attributes:
        snapshot_id: Id of the snapshot, None when only properties are set.
    """

    changes: FileChanges
    transaction: Transaction
    snapshot_id: int | None = None
    producers: list[_SnapshotProducer[Any]] = field(default_factory=list)

    def send(self) -> Table:
        """Commit. The catalog accepts it only on the snapshot that it was made on."""
        return self.transaction.commit_transaction()

    def clean(self) -> None:
        """Delete the manifests of this attempt; only when it is certain that it did not land."""
        for producer in self.producers:
            producer._clean_all_uncommitted()


def prepare(
    table: Table, changes: FileChanges, properties: Mapping[str, str], summary: Mapping[str, str]
) -> Attempt:
    """Write the manifests of a commit and stage it.

    Args:
        table: The table as it was loaded; the commit holds only if its snapshot is still the current one.
        changes: Files that come and go.
        properties: Table properties to set in the same commit.
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
    if changes.empty:
        current = table.metadata.current_snapshot_id
        # Also where no snapshot is made: a run that lost its lease must not set its state over rows of
        # the run that took over.
        transaction._stage(
            (SetPropertiesUpdate(updates=dict(properties)),),
            (AssertRefSnapshotId(ref=MAIN_BRANCH, snapshot_id=current),),
        )
        return Attempt(changes, transaction)
    transaction.set_properties(dict(properties))
    producer = _producer(transaction, table.io, changes, summary)
    for data_file in changes.added:
        producer.append_data_file(data_file)
    producer.commit()
    transaction._snapshot_producers.clear()
    reached(Step.MANIFESTS_WRITTEN, table.name())
    return Attempt(changes, transaction, producer.snapshot_id, [producer])


def _producer(
    transaction: Transaction, io: FileIO, changes: FileChanges, summary: Mapping[str, str]
) -> _SnapshotProducer[Any]:
    if changes.removed or changes.drop_deletes:
        return _Replace(transaction, io, changes, dict(summary))
    return _Append(
        operation=Operation.APPEND, transaction=transaction, io=io, snapshot_properties=dict(summary)
    )


class _Counted(_SnapshotProducer["_Counted"]):
    """Counts the partitions that change, and names none: their values come from records."""

    def _summary(self, snapshot_properties: dict[str, str] | None = None) -> Summary:
        metadata = self._transaction.table_metadata
        collector = SnapshotSummaryCollector()
        for file in self._added_data_files:
            collector.metrics.add_file(file)
        for file in self._deleted_data_files:
            collector.metrics.remove_file(file)
        facts = {**collector.build(), **(snapshot_properties or {})}
        changed = (*self._added_data_files, *self._deleted_data_files)
        partitions = {(file.spec_id, repr(file.partition)) for file in changed if len(file.partition)}
        if partitions:
            facts["changed-partition-count"] = str(len(partitions))
        parent = metadata.snapshot_by_id(self._parent_snapshot_id) if self._parent_snapshot_id else None
        return update_snapshot_summaries(
            Summary(operation=self._operation, **facts), parent.summary if parent else None
        )


class _Append(_Counted, _FastAppendFiles):
    """A snapshot that adds data files."""


class _Replace(_Counted):
    """A snapshot that removes named data files, and all delete files if asked, and adds others.

    pyiceberg's own overwrite keeps delete files whatever happens to the data files under them.
    """

    def __init__(
        self, transaction: Transaction, io: FileIO, changes: FileChanges, summary: dict[str, str]
    ) -> None:
        super().__init__(
            operation=Operation.OVERWRITE, transaction=transaction, io=io, snapshot_properties=summary
        )
        self._drop_deletes = changes.drop_deletes
        self._removed = {file.file_path: file for file in changes.removed}
        self._deleted_data_files = set(changes.removed)
        self._kept: list[ManifestFile] = []

    def _deleted_entries(self) -> list[ManifestEntry]:
        """Entries that go; called before `_existing_manifests`, which takes what is left."""
        self._kept = []
        gone: list[ManifestEntry] = []
        for manifest in self._parent_manifests():
            if manifest.content == ManifestContent.DELETES:
                self._take_delete_manifest(manifest)
            else:
                gone += self._take_data_manifest(manifest)
        if missing := self._removed.keys() - {entry.data_file.file_path for entry in gone}:
            raise ValidationException(f"{len(missing)} files to remove are not in the current snapshot")
        return gone

    def _existing_manifests(self) -> list[ManifestFile]:
        return self._kept

    def _parent_manifests(self) -> list[ManifestFile]:
        metadata = self._transaction.table_metadata
        snapshot = metadata.snapshot_by_id(self._parent_snapshot_id) if self._parent_snapshot_id else None
        return snapshot.manifests(self._io) if snapshot else []

    def _take_delete_manifest(self, manifest: ManifestFile) -> None:
        if not self._drop_deletes:
            self._kept.append(manifest)
            return
        for entry in manifest.fetch_manifest_entry(self._io, discard_deleted=True):
            self._deleted_data_files.add(entry.data_file)

    def _take_data_manifest(self, manifest: ManifestFile) -> list[ManifestEntry]:
        live = manifest.fetch_manifest_entry(self._io, discard_deleted=True)
        gone = [entry for entry in live if entry.data_file.file_path in self._removed]
        if not gone:
            if live:
                self._kept.append(manifest)
            return []
        if rest := [entry for entry in live if entry.data_file.file_path not in self._removed]:
            with self.new_manifest_writer(self.spec(manifest.partition_spec_id)) as writer:
                for entry in rest:
                    writer.add_entry(self._with_status(entry, ManifestEntryStatus.EXISTING))
            self._kept.append(writer.to_manifest_file())
        return [self._with_status(entry, ManifestEntryStatus.DELETED) for entry in gone]

    def _with_status(self, entry: ManifestEntry, status: ManifestEntryStatus) -> ManifestEntry:
        # A removed file carries the snapshot that removed it, a kept one the snapshot that added it
        # (specification, Manifests).
        deleted = status == ManifestEntryStatus.DELETED
        return ManifestEntry.from_args(
            status=status,
            snapshot_id=self.snapshot_id if deleted else entry.snapshot_id,
            sequence_number=entry.sequence_number,
            file_sequence_number=entry.file_sequence_number,
            data_file=entry.data_file,
        )


def current_files(table: Table) -> tuple[list[DataFile], bool]:
    """All data files of the current snapshot, empty ones too, and whether it has delete files."""
    snapshot = table.current_snapshot()
    manifests: Iterable[ManifestFile] = snapshot.manifests(table.io) if snapshot else []
    files: list[DataFile] = []
    deletes = False
    for manifest in manifests:
        entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
        if manifest.content == ManifestContent.DELETES:
            deletes = deletes or bool(entries)
        else:
            files += [entry.data_file for entry in entries]
    return files, deletes
