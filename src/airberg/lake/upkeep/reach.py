"""The files that a table's metadata names: all that must stay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from airberg.lake.manifests import read_entries, read_manifest_list


def named_by_metadata(table: Table) -> Iterator[str]:
    """Files that the metadata itself names: its own log, statistics, manifest lists."""
    metadata = table.metadata
    yield table.metadata_location
    yield from (entry.metadata_file for entry in metadata.metadata_log)
    yield from statistics_files(metadata)
    yield from (snapshot.manifest_list for snapshot in metadata.snapshots)


def statistics_files(metadata: TableMetadata) -> set[str]:
    """Files with statistics of snapshots."""
    whole = {file.statistics_path for file in metadata.statistics}
    return whole | {file.statistics_path for file in metadata.partition_statistics}


def manifests_of(io: FileIO, snapshots: Iterable[Snapshot]) -> dict[str, ManifestFile]:
    """The manifests of snapshots, by path, each once."""
    found: dict[str, ManifestFile] = {}
    for snapshot in snapshots:
        for manifest in read_manifest_list(io, snapshot):
            found.setdefault(manifest.manifest_path, manifest)
    return found


def files_of(io: FileIO, manifests: Iterable[ManifestFile]) -> Iterator[str]:
    """Data and delete files that manifests name as part of a snapshot, one manifest in memory at a time."""
    for manifest in manifests:
        for entry in read_entries(io, manifest):
            yield entry.data_file.file_path


def reached(table: Table) -> Iterator[str]:
    """Every file that any snapshot of the table reaches, and those of its metadata; some more than once.

    Raises:
        OSError: A manifest cannot be read.
    """
    yield from named_by_metadata(table)
    manifests = manifests_of(table.io, table.metadata.snapshots)
    yield from manifests
    yield from files_of(table.io, manifests.values())
