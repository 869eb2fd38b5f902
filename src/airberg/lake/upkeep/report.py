"""The state of a table, and what upkeep would do: from the plans that the commands carry out."""

from __future__ import annotations

from dataclasses import dataclass

from pyiceberg.table import Table

from airberg.lake.catalog import catalog_errors
from airberg.lake.live import live_files
from airberg.lake.manifests import content_bytes, is_live, read_manifest_list
from airberg.lake.upkeep.clustering import plan_manifests
from airberg.lake.upkeep.compaction import has_many_deletes, is_small, plan_compaction
from airberg.lake.upkeep.expire import expiry_plan
from airberg.lake.upkeep.facts import all_delete_files, file_facts, manifest_facts, needless_deletes
from airberg.lake.upkeep.policy import Policy


@dataclass(frozen=True, slots=True)
class TableReport:
    """What a table is made of, and what is due.

    Attributes:
        format_version: Of the table.
        data_files: Data files of the current snapshot.
        data_bytes: Their size.
        rows: Rows in them that are not deleted, as far as their number is known without reading.
        small_files: Data files below the size that they should have.
        delete_files: Delete files and deletion vectors.
        delete_bytes: Their size.
        deleted_rows: Rows that they delete.
        files_with_many_deletes: Data files that have too many deleted rows or delete files.
        snapshots: Snapshots of the table.
        manifests: Manifests of the current snapshot.
        compact_files: Data files that `compact` would write anew.
        compact_bytes: Their size.
        compact_groups: In how many groups.
        compact_delete_files: Delete files that apply to nothing and would go.
        expire_snapshots: Snapshots that `expire` would take out.
        rewrite_manifests: Manifests that `manifests` would write anew.
    """

    format_version: int
    data_files: int
    data_bytes: int
    rows: int
    small_files: int
    delete_files: int
    delete_bytes: int
    deleted_rows: int
    files_with_many_deletes: int
    snapshots: int
    manifests: int
    compact_files: int
    compact_bytes: int
    compact_groups: int
    compact_delete_files: int
    expire_snapshots: int
    rewrite_manifests: int


def report(table: Table, policy: Policy, now_ms: int) -> TableReport:
    """Describe a table.

    Raises:
        ConfigurationFailed: The table has equality deletes, or its storage refused.
        TransientFailed: The storage failed.
    """
    with catalog_errors(f"reading the table {'.'.join(table.name())}"):
        live = live_files(table)
        facts = file_facts(live)
        deletes = all_delete_files(table)
        manifests = [m for m in read_manifest_list(table.io, table.current_snapshot()) if is_live(m)]
    compaction = plan_compaction(facts, policy, len(needless_deletes(deletes, live)))
    return TableReport(
        format_version=table.metadata.format_version,
        data_files=len(facts),
        data_bytes=sum(file.bytes for file in facts),
        rows=sum(file.rows - file.deleted for file in facts),
        small_files=sum(is_small(file, policy) for file in facts),
        delete_files=len(deletes),
        delete_bytes=sum(content_bytes(file) for file in deletes),
        deleted_rows=sum(file.record_count for file in deletes),
        files_with_many_deletes=sum(has_many_deletes(file, policy) for file in facts),
        snapshots=len(table.metadata.snapshots),
        manifests=len(manifests),
        compact_files=compaction.files,
        compact_bytes=compaction.bytes,
        compact_groups=len(compaction.groups),
        compact_delete_files=compaction.dangling,
        expire_snapshots=len(expiry_plan(table, policy, now_ms).snapshots),
        rewrite_manifests=sum(len(p.paths) for p in plan_manifests(manifest_facts(manifests), policy)),
    )
