"""Tables for the tests of compaction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyiceberg.table import Table

from airberg.lake.upkeep.compact import Compacted, compact
from airberg.lake.upkeep.policy import Policy
from support.duckdb_reader import duckdb_rows
from support.lake_tables import (
    names,
    note,
    rows,
    writer,
)

POLICY = Policy(min_input_files=2, max_group_bytes=1 << 30)


def no_pause(_seconds: float) -> None:
    """Do not wait."""


def run(catalog: Any, table: Table, tmp_path: Path, policy: Policy = POLICY) -> Compacted:
    """Compact, without waiting."""
    return compact(catalog, table, policy, spill_dir=tmp_path / "spill", pause=no_pause)


def append(catalog: Any, tmp_path: Path, *batches: Any, table: Table | None = None, first: int = 1) -> Table:
    """A commit, and so a data file or more, for each batch."""
    for number, batch in enumerate(batches, first):
        appending = writer(catalog, "append", tmp_path, table=table)
        appending.write(batch)
        appending.finish(note(number))
        table = appending.table
    assert table is not None
    return table.refresh()


def three(catalog: Any, tmp_path: Path) -> Table:
    """Nine rows in three files."""
    return append(catalog, tmp_path, *(rows(*((n + i, f"n{n + i}") for i in range(3))) for n in (0, 3, 6)))


def both_read(table: Table, expected: Sequence[tuple[Any, Any]]) -> None:
    """Both engines read these rows."""
    assert names(table) == sorted(expected, key=repr)
    assert sorted(((r["id"], r["name"]) for r in duckdb_rows(table.refresh())), key=repr) == sorted(
        expected, key=repr
    )
