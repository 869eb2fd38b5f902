"""What a table is made of, as the values that plans are made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pyiceberg.manifest import DataFile, FileFormat, ManifestContent, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType

from airberg.lake.live import LiveFile, current_entries, is_vector, only_target
from airberg.lake.manifests import identity
from airberg.lake.upkeep.clustering import ManifestFacts
from airberg.lake.upkeep.compaction import FileFacts
from airberg.lake.upkeep.expiry import RefFacts, SnapshotFacts


def file_facts(files: Iterable[LiveFile]) -> list[FileFacts]:
    """The data files of a snapshot, from `live_files`."""
    return [
        FileFacts(
            path=live.file.file_path,
            partition=(live.file.spec_id, repr(live.file.partition)),
            bytes=live.file.file_size_in_bytes,
            rows=live.file.record_count,
            deleted=_deleted(live),
            delete_files=len(live.deletes),
            sequence=live.entry.sequence_number or 0,
            rewritable=live.file.file_format == FileFormat.PARQUET,
        )
        for live in files
    ]


def _deleted(live: LiveFile) -> int:
    known = sum(
        file.record_count for file in live.delete_files if is_vector(file) or only_target(file) is not None
    )
    return min(known, live.file.record_count)


def all_delete_files(table: Table) -> list[DataFile]:
    """The delete files of the current snapshot."""
    return [
        entry.data_file
        for manifest, entries in current_entries(table)
        if manifest.content == ManifestContent.DELETES
        for entry in entries
    ]


def needless_deletes(
    deletes: Iterable[DataFile], files: Iterable[LiveFile], removed: Iterable[str] = ()
) -> list[DataFile]:
    """Delete files that apply to no data file once `removed` ones are gone."""
    gone = frozenset(removed)
    needed = {
        identity(file) for live in files if live.file.file_path not in gone for file in live.delete_files
    }
    return [file for file in deletes if identity(file) not in needed]


def snapshot_facts(metadata: TableMetadata) -> list[SnapshotFacts]:
    """The snapshots of a table."""
    return [SnapshotFacts(s.snapshot_id, s.parent_snapshot_id, s.timestamp_ms) for s in metadata.snapshots]


def ref_facts(metadata: TableMetadata) -> list[RefFacts]:
    """The branches and tags of a table."""
    return [
        RefFacts(
            ref.snapshot_id,
            ref.snapshot_ref_type == SnapshotRefType.BRANCH,
            ref.max_snapshot_age_ms,
            ref.min_snapshots_to_keep,
        )
        for ref in metadata.refs.values()
    ]


def manifest_facts(manifests: Sequence[ManifestFile]) -> list[ManifestFacts]:
    """The manifests of a snapshot."""
    return [
        ManifestFacts(
            path=manifest.manifest_path,
            kind=(
                ManifestContent(manifest.content).name,  # version 1 lists have plain numbers
                manifest.partition_spec_id,
            ),
            size=manifest.manifest_length,
            entries=(manifest.added_files_count or 0) + (manifest.existing_files_count or 0),
            bounds=tuple(bytes(field.lower_bound or b"") for field in manifest.partitions or ()),
        )
        for manifest in manifests
    ]
