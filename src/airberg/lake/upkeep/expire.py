"""Snapshot expiry: old snapshots go from the metadata, then the files that only they reached.

pyiceberg 0.12 takes snapshots out of the metadata and deletes no files. The order makes a crash harmless:
first the metadata, then data and delete files, then manifests, then manifest lists. What is left over is
named by nothing, and `orphans` finds it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import AssertRefSnapshotId
from pyiceberg.table.update.snapshot import ExpireSnapshots

from airberg.errors import AirbergError, TransientFailed
from airberg.lake.catalog import PASSING, catalog_errors
from airberg.lake.manifests import read_manifest_list
from airberg.lake.upkeep.commits import MAX_ATTEMPTS, UpkeepCommitter
from airberg.lake.upkeep.expiry import ExpiryPlan, plan_expiry
from airberg.lake.upkeep.facts import ref_facts, snapshot_facts
from airberg.lake.upkeep.paths import PathSet, chunks
from airberg.lake.upkeep.policy import Policy
from airberg.lake.upkeep.reach import files_of, manifests_of, named_by_metadata, statistics_files
from airberg.lake.upkeep.steps import UpkeepStep, reached
from airberg.lake.upkeep.storage import Deleted, delete_all

log = logging.getLogger(__name__)

_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class Expired:
    """What an expiry did: snapshots that went, files that were deleted, files that could not be."""

    snapshots: int = 0
    files_deleted: int = 0
    files_failed: int = 0


def expiry_plan(table: Table, policy: Policy, now_ms: int) -> ExpiryPlan:
    """What expiry would do to a table now."""
    metadata = table.metadata
    return plan_expiry(
        snapshot_facts(metadata), ref_facts(metadata), metadata.current_snapshot_id, policy, now_ms
    )


def expire(
    catalog: Catalog,
    table: Table,
    policy: Policy,
    *,
    now_ms: int | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Expired:
    """Expire the snapshots of a table.

    Args:
        catalog: Its catalog.
        table: The table.
        policy: The thresholds.
        now_ms: Milliseconds since the epoch; None for now.
        pause: Waits between attempts to commit, in seconds.

    Raises:
        TransientFailed: The storage or the catalog failed, or the table changed all the time.
        ConfigurationFailed: The catalog refused, or the table was replaced.
    """
    committer = UpkeepCommitter(catalog, table, pause)
    now_ms = int(time.time() * 1000) if now_ms is None else now_ms
    before = _commit(committer, policy, now_ms)
    if before is None:
        return Expired()
    table = committer.table
    reached(UpkeepStep.SNAPSHOTS_EXPIRED, table.name())
    left = {snapshot.snapshot_id for snapshot in table.metadata.snapshots}
    gone = [snapshot for snapshot in before.snapshots if snapshot.snapshot_id not in left]
    done = Expired(len(gone))
    if policy.delete_allowed:
        with catalog_errors("deleting the files of expired snapshots"):
            statistics = statistics_files(before) - statistics_files(table.metadata)
            deleted = _delete_files(table, gone, statistics)
        done = replace(done, files_deleted=deleted.files, files_failed=deleted.failed)
        reached(UpkeepStep.FILES_DELETED, table.name())
    log.info(
        "%s: %s snapshots expired, %s stay, %s files deleted, %s could not be deleted",
        committer.name,
        done.snapshots,
        len(left),
        done.files_deleted,
        done.files_failed,
    )
    return done


def _commit(committer: UpkeepCommitter, policy: Policy, now_ms: int) -> TableMetadata | None:
    """Take the snapshots out of the metadata; returns it as it was, None if there is nothing to do."""
    for number in range(MAX_ATTEMPTS):
        if number:
            committer.pause_before(number)
        table = committer.refresh()
        before = table.metadata  # a commit changes the table itself
        plan = expiry_plan(table, policy, now_ms)
        if not plan.snapshots:
            return None
        transaction = table.transaction()
        # No branch or tag has moved since the plan was made.
        here = [AssertRefSnapshotId(ref=n, snapshot_id=r.snapshot_id) for n, r in before.refs.items()]
        transaction._stage((), tuple(here))
        ExpireSnapshots(transaction).by_ids(list(plan.snapshots)).commit()
        try:
            committer.table = transaction.commit_transaction()
        except Exception as error:  # each catalog client has errors of its own; all mean "look"
            try:
                committer.refresh()
            except AirbergError:
                raise TransientFailed(
                    f"It is not known whether snapshots of {committer.name} were expired.",
                    guidance="Nothing to do: upkeep finds the table as it is when it runs next.",
                    code="commit-outcome-unknown",
                ) from error
            left = {snapshot.snapshot_id for snapshot in committer.table.metadata.snapshots}
            if left.isdisjoint(plan.snapshots):
                return before
            if not isinstance(error, (CommitFailedException, *PASSING)):
                with catalog_errors("expiring snapshots"):
                    raise
        else:
            return before
    raise TransientFailed(
        f"The table {committer.name} changed under {MAX_ATTEMPTS} attempts to expire snapshots.",
        guidance="Another writer commits to it all the time; upkeep tries again when it runs next.",
        code="commit-conflict",
    )


def _delete_files(table: Table, gone: list[Snapshot], statistics: set[str]) -> Deleted:
    """Delete what only the snapshots reached that are gone."""
    io = table.io
    kept = manifests_of(io, table.metadata.snapshots)
    lists, manifests = _manifests_of_gone(io, gone, kept)
    stay = PathSet(named_by_metadata(table))
    for path in kept:
        stay.add(path)
    if manifests:
        for path in files_of(io, kept.values()):
            stay.add(path)
    done = Deleted()
    seen = PathSet()
    for paths in (_files_of_gone(io, manifests), manifests, [*lists, *sorted(statistics)]):
        for chunk in chunks((path for path in paths if path not in stay), _CHUNK):
            wanted = [path for path in dict.fromkeys(chunk) if path not in seen]
            for path in wanted:
                seen.add(path)
            done = done.plus(delete_all(io, wanted))
    return done


def _manifests_of_gone(
    io: FileIO, gone: list[Snapshot], kept: dict[str, ManifestFile]
) -> tuple[list[str], dict[str, ManifestFile]]:
    """Manifest lists of snapshots that are gone, and the manifests that no other snapshot has."""
    found: dict[str, ManifestFile] = {}
    lists = []
    for snapshot in gone:
        try:
            manifests = read_manifest_list(io, snapshot)
        except FileNotFoundError:  # an upkeep that was ended, or another engine's, was here before
            log.warning("the manifest list of the expired snapshot %s is gone already", snapshot.snapshot_id)
            continue
        lists.append(snapshot.manifest_list)
        found |= {m.manifest_path: m for m in manifests if m.manifest_path not in kept}
    return lists, found


def _files_of_gone(io: FileIO, manifests: dict[str, ManifestFile]) -> Iterator[str]:
    for path, manifest in manifests.items():
        try:
            yield from files_of(io, [manifest])
        except FileNotFoundError:
            log.warning("a manifest of an expired snapshot is gone already: %s", path.rsplit("/", 1)[-1])
