"""Folders of a table's storage: listing them with the age of each file, deleting many files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import pyarrow.fs as pafs
from pyiceberg.io import FileIO
from pyiceberg.io.fsspec import FsspecFileIO
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.utils.concurrent import ExecutorFactory

from airberg.errors import ConfigurationFailed

_TIMES = ("mtime", "LastModified", "last_modified", "updated", "created", "creation_time")
"""What file systems of fsspec call the time of the last change."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as the storage lists it; `changed_at_ms` is None where the storage does not say."""

    location: str
    bytes: int
    changed_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Folder:
    """The content of one folder: files, and the locations of the folders in it."""

    files: tuple[StoredFile, ...]
    folders: tuple[str, ...]


class FolderReader:
    """Lists folders of the storage that a table is in.

    Args:
        io: Of the table.

    Raises:
        ConfigurationFailed: It is none that can list.
    """

    def __init__(self, io: FileIO) -> None:
        self._io = io
        if not isinstance(io, PyArrowFileIO | FsspecFileIO):
            raise ConfigurationFailed(
                f"The storage {type(io).__name__} cannot list files.",
                guidance="Let the catalog use pyiceberg's PyArrowFileIO or FsspecFileIO (`py-io-impl`).",
                code="storage-cannot-list",
            )

    def read(self, location: str) -> Folder:
        """List a folder; one that is not there is empty.

        Raises:
            OSError: The storage failed.
        """
        location = location.rstrip("/")
        if isinstance(self._io, PyArrowFileIO):
            return self._by_pyarrow(self._io, location)
        return self._by_fsspec(cast(FsspecFileIO, self._io), location)

    @staticmethod
    def _by_pyarrow(io: PyArrowFileIO, location: str) -> Folder:
        scheme, netloc, path = io.parse_location(location, io.properties)
        selector = pafs.FileSelector(path, allow_not_found=True, recursive=False)
        files, folders = [], []
        for info in io.fs_by_scheme(scheme, netloc).get_file_info(selector):
            here = f"{location}/{info.base_name}"
            if info.type == pafs.FileType.Directory:
                folders.append(here)
            elif info.type == pafs.FileType.File:
                ns = info.mtime_ns
                files.append(StoredFile(here, int(info.size or 0), None if ns is None else ns // 1_000_000))
        return Folder(tuple(files), tuple(sorted(folders)))

    @staticmethod
    def _by_fsspec(io: FsspecFileIO, location: str) -> Folder:
        fs = io._get_fs_from_uri(_parsed(location), location)
        files, folders = [], []
        try:
            listed = fs.ls(fs._strip_protocol(location), detail=True, refresh=True)
        except FileNotFoundError:
            return Folder((), ())
        for info in listed:
            name = str(info["name"]).rstrip("/").rsplit("/", 1)[-1]
            if not name or info["name"].rstrip("/") == fs._strip_protocol(location):
                continue  # an object store's mark of the folder itself
            here = f"{location}/{name}"
            if info["type"] == "directory":
                folders.append(here)
            elif info["type"] == "file":
                files.append(StoredFile(here, int(info.get("size") or 0), _changed(info)))
        return Folder(tuple(files), tuple(sorted(folders)))


def _parsed(location: str) -> Any:  # noqa: ANN401 - what pyiceberg's method takes
    from urllib.parse import urlparse

    return urlparse(location)


def _changed(info: dict[str, Any]) -> int | None:
    for name in _TIMES:
        match info.get(name):
            case datetime() as at:
                return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
            case int() | float() as seconds:
                return int(seconds * 1000)
            case str() as text:
                try:
                    return int(datetime.fromisoformat(text).timestamp() * 1000)
                except ValueError:
                    continue
    return None


@dataclass(frozen=True, slots=True)
class Deleted:
    """What became of files that were to be deleted; those that were gone already count as deleted."""

    files: int = 0
    failed: int = 0

    def plus(self, other: Deleted) -> Deleted:
        """Both together."""
        return Deleted(self.files + other.files, self.failed + other.failed)


def delete_all(io: FileIO, locations: Iterable[str]) -> Deleted:
    """Delete files, several at once; one that cannot be deleted does not stop the others."""
    outcomes = list(ExecutorFactory.get_or_create().map(lambda path: _delete(io, path), locations))
    return Deleted(sum(outcomes), len(outcomes) - sum(outcomes))


def _delete(io: FileIO, location: str) -> bool:
    try:
        io.delete(location)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
