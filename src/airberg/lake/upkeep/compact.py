"""Compaction: small files, and files with many deletes, are written anew.

New files are written first, for the table as it was found. At the commit every group of files is looked at
again: one whose files are gone, or have other deletes than those that were applied, is left out, its new
files are deleted, and it is planned anew. The new files have a newer sequence number than deletes that were
written for the old ones, so to commit such a group would bring deleted rows back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from airberg.errors import ConfigurationFailed
from airberg.lake.catalog import catalog_errors
from airberg.lake.files import delete_quietly
from airberg.lake.live import LiveFile, live_files
from airberg.lake.snapshots import FileChanges
from airberg.lake.tables import check_writable
from airberg.lake.upkeep.commits import Landed, UpkeepCommitter
from airberg.lake.upkeep.compaction import CompactionPlan, Group, plan_compaction
from airberg.lake.upkeep.facts import all_delete_files, file_facts, needless_deletes
from airberg.lake.upkeep.policy import Policy
from airberg.lake.upkeep.rewriting import write_anew
from airberg.lake.upkeep.steps import UpkeepStep, reached

log = logging.getLogger(__name__)

ROUNDS = 3
"""How often groups that lost a race are planned anew before they are left for the next time."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did.

    Attributes:
        files_before: Data files that were written anew.
        files_after: Data files that they became.
        bytes_before: Size of the former.
        bytes_after: Size of the latter.
        delete_files_removed: Delete files that apply to nothing any more.
        groups_lost: Groups that another writer changed meanwhile, and that are left for the next time.
        snapshots: Ids of the snapshots made.
    """

    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    delete_files_removed: int = 0
    groups_lost: int = 0
    snapshots: tuple[int, ...] = ()

    def plus(self, landed: Landed) -> Compacted:
        """With another commit that landed."""
        before, after = landed.changes.removed, landed.changes.added
        return replace(
            self,
            files_before=self.files_before + len(before),
            files_after=self.files_after + len(after),
            bytes_before=self.bytes_before + sum(file.file_size_in_bytes for file in before),
            bytes_after=self.bytes_after + sum(file.file_size_in_bytes for file in after),
            delete_files_removed=self.delete_files_removed + len(landed.changes.deletes_removed),
            snapshots=(*self.snapshots, landed.snapshot_id),
        )


@dataclass(frozen=True, slots=True)
class _Written:
    """A group that is written, and the very files and deletes that went into it."""

    inputs: tuple[tuple[str, Hashable], ...]
    outputs: tuple[DataFile, ...]
    spec_id: int


def compaction_plan(table: Table, policy: Policy) -> CompactionPlan:
    """What compaction would do to a table now.

    Raises:
        ConfigurationFailed: The table has equality deletes.
    """
    return _look(table, policy)[0]


def compact(
    catalog: Catalog,
    table: Table,
    policy: Policy,
    *,
    spill_dir: Path | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Compacted:
    """Compact a table.

    Args:
        catalog: Its catalog.
        table: The table.
        policy: The thresholds.
        spill_dir: Folder for rows that are being sorted; None for the system's.
        pause: Waits between attempts to commit, in seconds.

    Raises:
        ConfigurationFailed: The table cannot be written here: equality deletes, types, default values.
        TransientFailed: The storage or the catalog failed, or the table changed all the time. What was
            committed before stays.
    """
    check_writable(table)
    committer = UpkeepCommitter(catalog, table, pause)
    done = Compacted()
    for _ in range(ROUNDS):
        with catalog_errors("planning a compaction"):
            plan, live = _look(committer.refresh(), policy)
        if plan.empty:
            return replace(done, groups_lost=0)
        lost = 0
        for part in plan.parts(policy.commit_bytes) if plan.groups else ((),):
            done, left = _compact_part(committer, part, live, spill_dir, done)
            lost += left
        done = replace(done, groups_lost=lost)
        if not lost:
            return done
    log.warning("%s: %s groups changed under compaction each time", committer.name, done.groups_lost)
    return done


def _look(table: Table, policy: Policy) -> tuple[CompactionPlan, dict[str, LiveFile]]:
    """The plan, and the files that are in it."""
    files = live_files(table)
    dangling = needless_deletes(all_delete_files(table), files)
    plan = plan_compaction(file_facts(files), policy, len(dangling))
    wanted = {file.path for group in plan.groups for file in group.files}
    return plan, {live.file.file_path: live for live in files if live.file.file_path in wanted}


def _compact_part(
    committer: UpkeepCommitter,
    groups: Sequence[Group],
    live: dict[str, LiveFile],
    spill_dir: Path | None,
    done: Compacted,
) -> tuple[Compacted, int]:
    """Write some groups anew and commit them; how many were lost."""
    table = committer.table
    written: list[_Written] = []
    try:
        for group in groups:
            files = [live[file.path] for file in group.files]
            outputs = _write(table, files, group.output_bytes, spill_dir)
            inputs = tuple((file.file.file_path, file.version) for file in files)
            written.append(_Written(inputs, outputs, table.metadata.default_spec_id))
            reached(UpkeepStep.GROUP_WRITTEN, table.name())
        landed = committer.commit(lambda fresh: _changes(fresh, written), {"airberg.upkeep": "compact"})
    except BaseException as error:
        # A commit in doubt may still need its files.
        if isinstance(error, (Exception, KeyboardInterrupt, SystemExit)) and not committer.in_doubt:
            _delete(table, (file for group in written for file in group.outputs))
        raise
    added = {file.file_path for file in landed.changes.added} if landed else set()
    left = [group for group in written if any(file.file_path not in added for file in group.outputs)]
    removed = {file.file_path for file in landed.changes.removed} if landed else set()
    lost = sum(group.inputs[0][0] not in removed for group in written)
    _delete(table, (file for group in left for file in group.outputs))
    if landed is not None:
        done = done.plus(landed)
        log.info(
            "%s: %s data files became %s, %s delete files went, snapshot %s",
            committer.name,
            len(landed.changes.removed),
            len(landed.changes.added),
            len(landed.changes.deletes_removed),
            landed.snapshot_id,
        )
    return done, lost


def _write(
    table: Table, files: Sequence[LiveFile], output_bytes: int, spill_dir: Path | None
) -> tuple[DataFile, ...]:
    with catalog_errors("compacting"):
        try:
            return write_anew(table, files, output_bytes, spill_dir)
        except TypeError as error:
            raise ConfigurationFailed(
                f"Files of the table {'.'.join(table.name())} cannot be written anew: {error}.",
                guidance="Compact it with the engine that wrote them.",
                code="compaction-type",
            ) from None


def _changes(table: Table, written: Iterable[_Written]) -> FileChanges:
    """What of the written groups still holds for the table as it is now."""
    files = live_files(table)
    now = {live.file.file_path: live for live in files}
    holds = [
        group
        for group in written
        if group.spec_id == table.metadata.default_spec_id
        and all(path in now and now[path].version == version for path, version in group.inputs)
    ]
    removed = tuple(now[path].file for group in holds for path, _ in group.inputs)
    needless = needless_deletes(all_delete_files(table), files, (file.file_path for file in removed))
    return FileChanges(
        added=tuple(file for group in holds for file in group.outputs),
        removed=removed,
        deletes_removed=tuple(needless),
        same_rows=True,
    )


def _delete(table: Table, files: Iterable[DataFile]) -> None:
    for file in files:
        delete_quietly(table.io, file.file_path)
