"""Tables to merge into: written once, and as they were before each merge.

A seed is a table that Airberg's append wrote. A merge does not touch its files, so every merge is given the
same ones: a catalog of the contender's own is told the seed's metadata file, and what an earlier merge added
is deleted. The tables of format version 3, for deletion vectors, have the same data files.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import msgspec
import pyarrow as pa
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from airberg.lake.commit import Committer
from airberg.lake.manifests import read_entries, read_manifest_list
from airberg.lake.note import Note
from airberg.lake.snapshots import FileChanges
from airberg.lake.tables import ensure_table
from airberg.lake.version3 import enable
from airberg.lake.writers import open_writer
from benchmarks.merging.repeat import files_in, written
from benchmarks.merging.rows import FIELDS, batches_ahead, table_ids

NAMESPACE = "bench"
FormatVersion = Literal["2", "3"]


@dataclass(frozen=True, slots=True)
class Seed:
    """A table before the merge.

    Attributes:
        metadata: Its metadata file.
        location: Its folder.
        files: All files in that folder.
        data: Its data files.
        data_bytes: Their size.
        column_bytes: Size of each column in them, by name.
    """

    metadata: str
    location: str
    files: tuple[str, ...]
    data: tuple[str, ...]
    data_bytes: int
    column_bytes: dict[str, int]


def sqlite_catalog(folder: Path, warehouse: Path) -> Catalog:
    """A catalog like that of the embedded deployment: SQLite, and a folder."""
    enable()
    folder.mkdir(parents=True, exist_ok=True)
    catalog = load_catalog(
        "bench", type="sql", uri=f"sqlite:///{folder / 'catalog.db'}", warehouse=f"file://{warehouse}"
    )
    catalog.create_namespace_if_not_exists(NAMESPACE)
    return catalog


def append(catalog: Catalog, name: str, arriving: Iterable[pa.RecordBatch], version: FormatVersion) -> Table:
    """A new table with these rows, by Airberg's append in one checkpoint."""
    table = ensure_table(catalog, (NAMESPACE,), name, FIELDS, {"format-version": version})
    writer = open_writer("append", catalog, table, job_id="seed", started_from=None)
    for batch in arriving:
        writer.write(batch)
    writer.finish(Note(run_id="seed", attempt=1, number=1))
    writer.discard()
    return writer.table


def make_seeds(folder: Path, rows: int) -> dict[FormatVersion, Seed]:
    """Tables of both format versions with so many rows, in the order of their ids."""
    shutil.rmtree(folder, ignore_errors=True)
    catalog = sqlite_catalog(folder, folder / "warehouse")
    second = append(catalog, "v2", batches_ahead(table_ids(rows), 0), "2")
    files = data_files(second)
    third = ensure_table(catalog, (NAMESPACE,), "v3", FIELDS, {"format-version": "3"})
    committer = Committer(catalog, third, "seed")
    changes = FileChanges(added=tuple(files), rows_written=rows)
    committer.commit(Note(run_id="seed", attempt=1, number=1), lambda _: changes)
    names = {field.field_id: field.name for field in second.schema().fields}
    sizes = dict.fromkeys(names.values(), 0)
    for file in files:
        for field_id, size in (file.column_sizes or {}).items():
            sizes[names[field_id]] += size
    return {"2": _seed(second, files, sizes), "3": _seed(committer.table, files, sizes)}


def data_files(table: Table) -> list[DataFile]:
    """The data files of a table without deletes."""
    manifests = read_manifest_list(table.io, table.current_snapshot())
    return [entry.data_file for manifest in manifests for entry in read_entries(table.io, manifest)]


def _seed(table: Table, files: list[DataFile], column_bytes: dict[str, int]) -> Seed:
    location = Path(path_of(table.location()))
    return Seed(
        metadata=table.metadata_location,
        location=str(location),
        files=tuple(str(path) for path in files_in(location)),
        data=tuple(path_of(file.file_path) for file in files),
        data_bytes=sum(file.file_size_in_bytes for file in files),
        column_bytes=column_bytes,
    )


def path_of(uri: str) -> str:
    """The path of a local file."""
    return unquote(urlsplit(uri).path)


def clean(seed: Seed) -> None:
    """Delete what merges have added to the folder of a seed."""
    for path in files_in(Path(seed.location)) - {Path(path) for path in seed.files}:
        path.unlink()


class SeededTable:
    """A seed in the catalog of one contender.

    Args:
        seed: As `msgspec.to_builtins` gives it.
        folder: For the catalog.
    """

    def __init__(self, seed: dict[str, Any], folder: Path) -> None:
        self._seed = msgspec.convert(seed, type=Seed)
        self._name = (NAMESPACE, "merged")
        self.catalog = sqlite_catalog(folder, folder / "warehouse")

    def fresh(self) -> Table:
        """The table as it was before any merge."""
        if self.catalog.table_exists(self._name):
            self.catalog.drop_table(self._name)
        clean(self._seed)
        return self.catalog.register_table(self._name, self._seed.metadata)

    def written(self) -> dict[str, int]:
        """What a merge has added since `fresh`: bytes and files in the warehouse, snapshots."""
        table = self.catalog.load_table(self._name)
        added = files_in(Path(self._seed.location)) - {Path(path) for path in self._seed.files}
        return written(added) | {"snapshots": len(table.metadata.snapshots) - 1}

    @property
    def metadata_location(self) -> str:
        """Where the table is described as it is now."""
        return self.catalog.load_table(self._name).metadata_location
