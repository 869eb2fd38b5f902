"""Orphan files: what lies in a table's folder, is named by nothing, and is old enough to be no sync's.

A file stays when a snapshot reaches it, when the metadata names it, when a note of any table of the catalog
promises it, when it lies in the folder of another table, when its age is not known, or when its name is none
that Iceberg's writers give. Before files are deleted the table is looked at once more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from airberg.errors import ConfigurationFailed
from airberg.lake.catalog import catalog_errors
from airberg.lake.upkeep.commits import UpkeepCommitter
from airberg.lake.upkeep.neighbours import Survey, promised_paths
from airberg.lake.upkeep.paths import PathSet, folder_key
from airberg.lake.upkeep.policy import DAY_MS, HOUR_MS, Policy
from airberg.lake.upkeep.reach import reached as reached_files
from airberg.lake.upkeep.steps import UpkeepStep, reached
from airberg.lake.upkeep.storage import Deleted, Folder, FolderReader, StoredFile, delete_all

log = logging.getLogger(__name__)

LEAST_AGE_MS = DAY_MS
_CHUNK = 1000
_CLOCKS_MS = HOUR_MS
"""By how much the clocks of storage and job store may differ."""
_EXAMPLES = 20
_METADATA = (".metadata.json", ".metadata.json.gz", ".gz.metadata.json")
_KINDS = (".parquet", ".avro", ".orc", ".puffin", ".stats", ".json.zz", *_METADATA)
"""What data files, delete files, manifests, statistics, promises and metadata end with."""


@dataclass(frozen=True, slots=True)
class Orphans:
    """What was found, and what became of it.

    Attributes:
        files: Orphans found.
        bytes: Their size.
        deleted: Files that were deleted.
        failed: Files that could not be deleted.
        examples: Some of them.
    """

    files: int = 0
    bytes: int = 0
    deleted: int = 0
    failed: int = 0
    examples: tuple[str, ...] = ()


def orphans(
    catalog: Catalog,
    table: Table,
    policy: Policy,
    neighbours: Survey,
    *,
    dry_run: bool = False,
    force: bool = False,
    written_from_ms: int | None = None,
    now_ms: int | None = None,
) -> Orphans:
    """Find the orphan files of a table, and delete them unless it is a dry run.

    Args:
        catalog: Its catalog.
        table: The table.
        policy: The thresholds.
        neighbours: The tables of the catalog, from `survey`.
        dry_run: Delete nothing.
        force: Take an age below a day: only where nothing else writes.
        written_from_ms: When the oldest run began that is still writing: what is younger stays.
        now_ms: Milliseconds since the epoch; None for now.

    Raises:
        ConfigurationFailed: Orphans cannot be told apart here, or the age is not safe.
        TransientFailed: The storage or the catalog failed.
    """
    name = ".".join(table.name())
    if policy.orphan_age_ms < LEAST_AGE_MS and not force:
        raise ConfigurationFailed(
            f"Files of {name} younger than a day may be those of a sync that has not committed yet.",
            guidance="Give an age of at least one day, or `--force` where nothing else writes.",
            code="orphan-age",
        )
    committer = UpkeepCommitter(catalog, table)
    table = committer.refresh()
    now_ms = int(time.time() * 1000) if now_ms is None else now_ms
    before_ms = now_ms - policy.orphan_age_ms
    if written_from_ms is not None:
        before_ms = min(before_ms, written_from_ms - _CLOCKS_MS)
    search = _Search(table, neighbours, before_ms)
    found: list[StoredFile] = []
    files = size = 0
    examples: list[str] = []
    done = Deleted()
    with catalog_errors(f"looking for orphan files of {name}"):
        for file in search.files():
            files, size = files + 1, size + file.bytes
            if len(examples) < _EXAMPLES:
                examples.append(file.location)
            found.append(file)
            if len(found) >= _CHUNK:
                done = done.plus(_delete(committer, search, found, policy, dry_run))
                found = []
        done = done.plus(_delete(committer, search, found, policy, dry_run))
    log.info(
        "%s: %s orphan files, %s bytes, %s deleted, %s could not be deleted%s",
        name,
        files,
        size,
        done.files,
        done.failed,
        " (dry run)" if dry_run else "",
    )
    return Orphans(files, size, done.files, done.failed, tuple(examples))


def _delete(
    committer: UpkeepCommitter, search: _Search, found: list[StoredFile], policy: Policy, dry_run: bool
) -> Deleted:
    if not found:
        return Deleted()
    search.check()
    if dry_run or not policy.delete_allowed:
        return Deleted()
    table = committer.refresh()
    search.look_again(table)
    done = delete_all(table.io, [file.location for file in found if not search.is_known(file.location)])
    reached(UpkeepStep.FILES_DELETED, table.name())
    return done


class _Search:
    """Walks through a table's folder."""

    def __init__(self, table: Table, neighbours: Survey, before_ms: int) -> None:
        self._table = table
        self._before_ms = before_ms
        self._others = frozenset(neighbours.inside(table))
        self._promised = neighbours.promised
        self._reader = FolderReader(table.io)
        with catalog_errors("reading what the table names"):
            self._known = PathSet(reached_files(table))
            for path in promised_paths(table):
                self._known.add(path)
        self._matched = 0

    def is_known(self, location: str) -> bool:
        """The file has to stay."""
        return location in self._known or location in self._promised

    def files(self) -> Iterator[StoredFile]:
        """Files that may be orphans."""
        root = self._table.location().rstrip("/")
        waiting = [root]
        while waiting:
            here = waiting.pop()
            if folder_key(here) in self._others or _is_hidden(here, root):
                continue
            folder = self._reader.read(here)
            if here != root and self._is_a_table(folder):
                log.warning("%s: another table lies in %s", ".".join(self._table.name()), here)
                continue
            waiting += folder.folders
            for file in folder.files:
                if self.is_known(file.location):
                    self._matched += 1
                elif self._is_old(file) and _is_ours(file.location):
                    yield file

    def check(self) -> None:
        """Refuse when not one known file was met: then the storage writes paths in another way.

        Raises:
            ConfigurationFailed: It does.
        """
        if not self._matched and not self._any_known_seen():
            raise ConfigurationFailed(
                f"No file that {'.'.join(self._table.name())} names is in its own folder.",
                guidance="Orphans cannot be told apart here: look whether the table was moved.",
                code="orphans-unsure",
            )

    def _any_known_seen(self) -> bool:
        """Whether a known file is in the folder where the metadata is, wherever the walk is now."""
        folder = self._table.metadata_location.rpartition("/")[0]
        return any(file.location in self._known for file in self._reader.read(folder).files)

    def look_again(self, table: Table) -> None:
        """Take in what was committed since."""
        if table.metadata_location == self._table.metadata_location:
            return
        self._table = table
        for path in reached_files(table):
            self._known.add(path)
        for path in promised_paths(table):
            self._known.add(path)

    def _is_old(self, file: StoredFile) -> bool:
        return file.changed_at_ms is not None and file.changed_at_ms < self._before_ms

    def _is_a_table(self, folder: Folder) -> bool:
        inner = [place for place in folder.folders if place.endswith("/metadata")]
        return any(
            file.location.endswith(_METADATA) for place in inner for file in self._reader.read(place).files
        )


def _is_hidden(location: str, root: str) -> bool:
    """Folders of other programs (`_temporary`, `.hidden`); partitions of columns like `_a` are none."""
    name = location.rsplit("/", 1)[-1]
    return location != root and name.startswith(("_", ".")) and "=" not in name


def _is_ours(location: str) -> bool:
    """A name that writers of Iceberg give, and that means the same file when it is read as a URI."""
    name = location.rsplit("/", 1)[-1]
    if name.startswith(("_", ".")) or any(sign in location for sign in "#?"):
        return False
    return name.endswith(_KINDS)
