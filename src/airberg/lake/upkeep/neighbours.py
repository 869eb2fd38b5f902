"""The other tables of a catalog, as far as they have a say in which files are orphans.

Two tables may share a folder, or one may lie in the folder of the other. And the note of one table may
promise files of another one (`airberg.lake.promise`), which no snapshot names until the promise is kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchIcebergTableError, NoSuchNamespaceError, NoSuchTableError
from pyiceberg.table import Table

from airberg.errors import ConfigurationFailed
from airberg.lake.catalog import catalog_errors
from airberg.lake.note import PREFIX, promises_of
from airberg.lake.promise import Promise, PromisedFile, promised_files
from airberg.lake.upkeep.paths import PathSet, folder_key

_PLACES = ("write.data.path", "write.metadata.path", "write.object-storage.path", "write.folder-storage.path")


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A table: its name, its identity, and the keys of the folders that it writes to."""

    name: str
    uuid: str
    folders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """All tables of a catalog, and the files that their notes promise."""

    tables: tuple[Neighbour, ...] = ()
    promised: PathSet = field(default_factory=PathSet)

    def inside(self, table: Table) -> tuple[str, ...]:
        """Keys of the folders of other tables inside the folder of `table`.

        Raises:
            ConfigurationFailed: Another table has the same folder, or one around it.
        """
        name, here = ".".join(table.name()), folder_key(table.location())
        inside: list[str] = []
        for other in self.tables:
            if other.name == name and other.uuid == str(table.metadata.table_uuid):
                continue
            if any(here.startswith(folder) for folder in other.folders):
                raise ConfigurationFailed(
                    f"The table {name} lies in the folder of {other.name}.",
                    guidance="Give each table a folder of its own; orphans cannot be told apart here.",
                    code="shared-location",
                )
            inside += [folder for folder in other.folders if folder.startswith(here)]
        return tuple(inside)


def survey(catalog: Catalog) -> Survey:
    """Look at every table of a catalog.

    Raises:
        ConfigurationFailed: A table cannot be read, so that nobody knows which files are its own.
        TransientFailed: The catalog failed.
    """
    tables: list[Neighbour] = []
    promised = PathSet()
    for name in _names(catalog):
        dotted = ".".join(name)
        with catalog_errors(f"loading the table {dotted}"):
            try:
                table = catalog.load_table(name)
            except (NoSuchTableError, NoSuchIcebergTableError):  # dropped meanwhile, or of another kind
                continue
            except FileNotFoundError:
                raise ConfigurationFailed(
                    f"The metadata of the table {dotted} is gone, so its files cannot be told from orphans.",
                    guidance="Drop the table from the catalog, or restore its metadata.",
                    code="table-unreadable",
                ) from None
        properties = table.properties
        places = [table.location(), *(properties[name] for name in _PLACES if name in properties)]
        folders = tuple(folder_key(place) for place in places)
        tables.append(Neighbour(dotted, str(table.metadata.table_uuid), folders))
        for path in promised_paths(table):
            promised.add(path)
    return Survey(tuple(tables), promised)


def promised_paths(table: Table) -> Iterator[str]:
    """Files that the notes in a table promise to other tables, and the files with lists of them.

    Raises:
        ConfigurationFailed: A note cannot be read.
    """
    for property_, text in table.properties.items():
        if not property_.startswith(PREFIX):
            continue
        for promise in promises_of(text):
            if promise.files_in is not None:
                yield promise.files_in.path
            yield from (file.path for file in _files(table, promise))


def _files(table: Table, promise: Promise) -> tuple[PromisedFile, ...]:
    """The files of a promise; a list that is gone was deleted when the promise had been kept."""
    if promise.files_in is not None:
        with catalog_errors("reading a promise"):
            if not table.io.new_input(promise.files_in.path).exists():
                return ()
    return promised_files(table, promise)


def _names(catalog: Catalog) -> Iterator[tuple[str, ...]]:
    """The names of all tables, through all namespaces."""
    with catalog_errors("listing the tables"):
        waiting = list(catalog.list_namespaces())
        known = set(waiting)
        while waiting:
            namespace = waiting.pop()
            with contextlib.suppress(NoSuchNamespaceError):  # only others that lie in it are there
                yield from (tuple(name) for name in catalog.list_tables(namespace))
            with contextlib.suppress(NoSuchNamespaceError, NotImplementedError):
                below = {tuple(name) for name in catalog.list_namespaces(namespace)} - known
                known |= below
                waiting += below
