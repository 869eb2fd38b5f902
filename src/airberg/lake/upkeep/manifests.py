"""Manifest rewriting: many small manifests become few, with the entries of one partition side by side.

Entries stay what they are: snapshot, sequence numbers, and in version 3 their first row ids.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from airberg.lake.catalog import catalog_errors
from airberg.lake.manifests import is_live, read_manifest_list
from airberg.lake.snapshots import FileChanges
from airberg.lake.upkeep.clustering import ManifestPart, plan_manifests
from airberg.lake.upkeep.commits import Landed, UpkeepCommitter
from airberg.lake.upkeep.facts import manifest_facts
from airberg.lake.upkeep.policy import Policy

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ManifestsRewritten:
    """What was done: manifests before and after, and the ids of the snapshots made."""

    before: int = 0
    after: int = 0
    snapshots: tuple[int, ...] = ()


def manifests_plan(table: Table, policy: Policy) -> tuple[ManifestPart, ...]:
    """What the rewriting of manifests would do to a table now."""
    with catalog_errors("reading a manifest list"):
        found = [m for m in read_manifest_list(table.io, table.current_snapshot()) if is_live(m)]
    return plan_manifests(manifest_facts(found), policy)


def rewrite_manifests(
    catalog: Catalog, table: Table, policy: Policy, *, pause: Callable[[float], None] = time.sleep
) -> ManifestsRewritten:
    """Write the manifests of a table anew where there are too many small ones.

    Args:
        catalog: Its catalog.
        table: The table.
        policy: The thresholds.
        pause: Waits between attempts to commit, in seconds.

    Raises:
        TransientFailed: The storage or the catalog failed, or the table changed all the time.
        ConfigurationFailed: The catalog refused, or the table was replaced.
    """
    committer = UpkeepCommitter(catalog, table, pause)
    done = ManifestsRewritten()
    for part in manifests_plan(committer.refresh(), policy):
        landed = committer.commit(partial(_changes, part=part), {"airberg.upkeep": "manifests"})
        if landed is None:
            continue
        before = len(landed.changes.manifests)
        after = _made(landed)
        done = replace(
            done,
            before=done.before + before,
            after=done.after + after,
            snapshots=(*done.snapshots, landed.snapshot_id),
        )
        log.info("%s: %s manifests became %s, snapshot %s", committer.name, before, after, landed.snapshot_id)
    return done


def _changes(table: Table, part: ManifestPart) -> FileChanges:
    """Those manifests of a part that the table still has; a merge may have replaced some."""
    wanted = frozenset(part.paths)
    found = [m for m in read_manifest_list(table.io, table.current_snapshot()) if m.manifest_path in wanted]
    if len(found) < 2:
        return FileChanges()
    return FileChanges(manifests=tuple(found), manifest_entries=part.entries, same_rows=True)


def _made(landed: Landed) -> int:
    manifests = read_manifest_list(landed.table.io, landed.table.current_snapshot())
    return sum(manifest.added_snapshot_id == landed.snapshot_id for manifest in manifests)
