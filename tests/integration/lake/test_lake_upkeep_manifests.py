"""Rewriting the manifests of real tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table import Table

from airberg.lake.manifests import first_row_id, read_entries, read_manifest_list
from airberg.lake.tables import ensure_table
from airberg.lake.upkeep.manifests import ManifestsRewritten, rewrite_manifests
from airberg.lake.upkeep.policy import Policy
from support.duckdb_reader import duckdb_rows
from support.lake_tables import (
    FIELDS,
    NAMESPACE,
    FaultyCatalog,
    data_paths,
    meanwhile,
    names,
    note,
    rows,
    sql_catalog,
    users,
    writer,
)
from support.partitions import assert_partitions_hold, by


def no_pause(_seconds: float) -> None:
    """Do not wait."""


def append(catalog: Any, tmp_path: Path, count: int, table: Table | None = None, first: int = 1) -> Table:
    """A commit with two rows for each number."""
    for number in range(first, first + count):
        appending = writer(catalog, "append", tmp_path, table=table)
        appending.write(rows((number * 2, f"n{number * 2}"), (number * 2 + 1, f"n{number * 2 + 1}")))
        appending.finish(note(number))
        table = appending.table
    assert table is not None
    return table.refresh()


# ---- manifests ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1", "2", "3"])
def test_many_manifests_become_few(tmp_path: Path, version: str) -> None:
    """Entries keep their snapshots, sequence numbers and row ids, and the rows their partitions."""
    catalog = sql_catalog(tmp_path)
    table = ensure_table(
        catalog,
        NAMESPACE,
        "users",
        FIELDS,
        {"format-version": version},
        partition_by=(by("bucket", "id", 3),),
    )
    table = append(catalog, tmp_path, 7, table)
    expected, entries = names(table), facts(table)
    done = rewrite_manifests(catalog, table, Policy(min_manifests=5), pause=no_pause)
    table = table.refresh()
    assert (done.before, done.after, len(done.snapshots)) == (7, 1, 1)
    assert facts(table) == entries
    assert names(table) == expected
    assert len(duckdb_rows(table)) == len(expected)
    assert_partitions_hold(table)
    (manifest,) = read_manifest_list(table.io, table.current_snapshot())
    partitions = [repr(entry.data_file.partition) for entry in read_entries(table.io, manifest)]
    assert partitions == sorted(partitions)
    assert rewrite_manifests(catalog, table, Policy(min_manifests=5)) == ManifestsRewritten()
    table = append(catalog, tmp_path, 1, table, first=8)
    assert len(names(table)) == 16


def facts(table: Table) -> list[Any]:
    """What must not change of the entries of a snapshot."""
    return sorted(
        (
            entry.data_file.file_path,
            entry.snapshot_id,
            entry.sequence_number,
            entry.file_sequence_number,
            first_row_id(entry.data_file),
        )
        for manifest in read_manifest_list(table.io, table.current_snapshot())
        for entry in read_entries(table.io, manifest)
    )


def test_a_commit_while_manifests_are_written_is_kept(tmp_path: Path) -> None:
    """Also one that replaces some of the manifests."""
    catalog: FaultyCatalog = sql_catalog(tmp_path, FaultyCatalog)
    table = append(catalog, tmp_path, 6)

    def act() -> None:
        merging = writer(catalog, "merge", tmp_path, table=users(catalog))
        merging.write(rows((4, "new", 1)))
        merging.finish(note(7))

    catalog.faults = [meanwhile(act)]
    done = rewrite_manifests(catalog, table, Policy(min_manifests=3), pause=no_pause)
    assert done.before >= 5
    assert (4, "new") in names(table)
    assert len(names(table)) == 12
    assert len(duckdb_rows(table.refresh())) == 12


def test_manifests_of_a_bounded_size(tmp_path: Path) -> None:
    """A target size in the way: several manifests, none of one entry alone."""
    catalog = sql_catalog(tmp_path)
    table = append(catalog, tmp_path, 12)
    size = max(m.manifest_length for m in read_manifest_list(table.io, table.current_snapshot()))
    policy = Policy(min_manifests=5, manifest_target_bytes=size * 3)
    done = rewrite_manifests(catalog, table, policy, pause=no_pause)
    assert (done.before, done.after) == (12, 3 if done.after == 3 else 4)
    assert len(data_paths(table)) == 12
