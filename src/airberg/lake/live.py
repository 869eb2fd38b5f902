"""What a snapshot is made of: its data files, each with the delete files that apply to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestFile,
)
from pyiceberg.table import Table
from pyiceberg.utils.concurrent import ExecutorFactory

from airberg.errors import ConfigurationFailed
from airberg.lake.manifests import identity, is_live, read_entries, read_manifest_list, referenced_data_file

PATH_FIELD_ID = 2147483546
"""Of `file_path` in position-delete files (specification, Reserved Field IDs)."""


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A data file of a snapshot.

    Attributes:
        entry: Its entry, with the sequence number of its rows.
        deletes: Entries of the delete files that apply to it.
    """

    entry: ManifestEntry
    deletes: tuple[ManifestEntry, ...] = ()

    @property
    def file(self) -> DataFile:
        """The data file."""
        return self.entry.data_file

    @property
    def delete_files(self) -> tuple[DataFile, ...]:
        """The delete files that apply to it."""
        return tuple(entry.data_file for entry in self.deletes)

    @property
    def version(self) -> Hashable:
        """Equal for two looks at a file exactly if the same rows of it are deleted."""
        return self.file.file_path, frozenset(identity(file) for file in self.delete_files)


def live_files(table: Table) -> list[LiveFile]:
    """The data files of the current snapshot with the delete files that apply to each.

    Raises:
        ConfigurationFailed: The table has equality deletes, which cannot be read here.
    """
    data: list[ManifestEntry] = []
    deletes: list[ManifestEntry] = []
    for manifest, entries in current_entries(table):
        if manifest.content == ManifestContent.DATA:
            data += entries
        else:
            deletes += entries
    index = _index(table, deletes)
    return [LiveFile(entry, index.of(entry) if index else ()) for entry in data]


def live_files_one_by_one(table: Table) -> Iterator[LiveFile]:
    """The same for who needs a few of them: manifests of data files are read when their turn comes.

    Raises:
        ConfigurationFailed: As `live_files`.
    """
    manifests = [m for m in read_manifest_list(table.io, table.current_snapshot()) if is_live(m)]
    of_deletes = [m for m in manifests if m.content == ManifestContent.DELETES]
    index = _index(table, [entry for entries in _entries(table.io, of_deletes) for entry in entries])
    for manifest in manifests:
        if manifest.content == ManifestContent.DATA:
            for entry in read_entries(table.io, manifest):
                yield LiveFile(entry, index.of(entry) if index else ())


def _index(table: Table, deletes: list[ManifestEntry]) -> _DeleteIndex | None:
    if any(entry.data_file.content == DataFileContent.EQUALITY_DELETES for entry in deletes):
        raise ConfigurationFailed(
            f"The table {'.'.join(table.name())} has equality deletes, written by another engine.",
            guidance="Compact it with that engine (for example Spark's rewrite_data_files), then run again.",
            code="equality-deletes",
        )
    return _DeleteIndex(deletes) if deletes else None


def current_entries(table: Table) -> Iterator[tuple[ManifestFile, list[ManifestEntry]]]:
    """The manifests of the current snapshot with their live entries."""
    manifests = [m for m in read_manifest_list(table.io, table.current_snapshot()) if is_live(m)]
    yield from zip(manifests, _entries(table.io, manifests), strict=True)


def _entries(io: FileIO, manifests: list[ManifestFile]) -> Iterable[list[ManifestEntry]]:
    if len(manifests) < 2:
        return [read_entries(io, manifest) for manifest in manifests]
    return ExecutorFactory.get_or_create().map(lambda manifest: read_entries(io, manifest), manifests)


def has_delete_files(table: Table) -> bool:
    """Whether the current snapshot has any delete files."""
    return any(
        is_live(manifest) and manifest.content == ManifestContent.DELETES
        for manifest in read_manifest_list(table.io, table.current_snapshot())
    )


def is_vector(file: DataFile) -> bool:
    """Whether a delete file is a deletion vector."""
    return file.file_format == FileFormat.PUFFIN


def only_target(file: DataFile) -> str | None:
    """The only data file that a delete file has deletes for; None when there may be several."""
    if (named := referenced_data_file(file)) is not None:
        return named
    low = (file.lower_bounds or {}).get(PATH_FIELD_ID)
    high = (file.upper_bounds or {}).get(PATH_FIELD_ID)
    return low.decode() if low is not None and low == high else None


class _DeleteIndex:
    """Finds the delete files of a data file (specification, Scan Planning)."""

    def __init__(self, deletes: Iterable[ManifestEntry]) -> None:
        self._by_path: dict[str, list[ManifestEntry]] = defaultdict(list)
        self._by_partition: dict[tuple[int, str], list[ManifestEntry]] = defaultdict(list)
        for entry in deletes:
            if (target := only_target(entry.data_file)) is not None:
                self._by_path[target].append(entry)
            else:
                self._by_partition[_partition(entry.data_file)].append(entry)

    def of(self, data: ManifestEntry) -> tuple[ManifestEntry, ...]:
        """The entries that apply; a deletion vector stands for all others."""
        path = data.data_file.file_path
        found = [entry for entry in self._by_path.get(path, ()) if _not_older(entry, data)]
        for entry in self._by_path.get(path, ()):
            if is_vector(entry.data_file) and _not_older(entry, data):
                return (entry,)
        wide = self._by_partition.get(_partition(data.data_file), ()) if self._by_partition else ()
        found += [e for e in wide if _not_older(e, data) and _may_hold(e.data_file, path)]
        return tuple(found)


def _partition(file: DataFile) -> tuple[int, str]:
    return file.spec_id, repr(file.partition)


def _not_older(delete: ManifestEntry, data: ManifestEntry) -> bool:
    return (delete.sequence_number or 0) >= (data.sequence_number or 0)


def _may_hold(file: DataFile, path: str) -> bool:
    """Whether the path is within the bounds of a delete file; upper ones may be cut short and counted up."""
    text = path.encode()
    low = (file.lower_bounds or {}).get(PATH_FIELD_ID)
    high = (file.upper_bounds or {}).get(PATH_FIELD_ID)
    return (low is None or low <= text) and (high is None or text <= high)
