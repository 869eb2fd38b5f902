"""Rows of many tables that wait to be written share one bound."""

from __future__ import annotations

from pathlib import Path

import pytest

from airberg.lake.tables import ensure_table
from airberg.sync.memory import WaitingRows
from support.lake_tables import FIELDS, NAMESPACE, names, note, rows, sql_catalog, writer
from support.partitions import by

TABLES = 6
ROWS = 200


@pytest.mark.parametrize("partitioned", [False, True])
@pytest.mark.parametrize("mode", ["append", "merge"])
def test_tables_share_the_memory_for_rows_that_wait(tmp_path: Path, mode: str, partitioned: bool) -> None:
    """However many tables are written at once, they hold no more than the limit, and lose nothing."""
    catalog = sql_catalog(tmp_path)
    spec = (by("bucket", "id", 4),) if partitioned else ()
    tables = [ensure_table(catalog, NAMESPACE, f"t{i}", FIELDS, partition_by=spec) for i in range(TABLES)]
    writers = [writer(catalog, mode, tmp_path / "spill", table=table) for table in tables]
    waiting = WaitingRows(limit=20_000)
    for each in writers:
        waiting.watch(each)
    unbounded = 0
    for batch in range(10):
        first = batch * ROWS // 10
        for each in writers:
            each.write(rows(*((first + i, "x" * 30, 1) for i in range(ROWS // 10))))
            unbounded = max(unbounded, sum(w.waiting_bytes for w in writers))
            waiting.bound()
            assert sum(w.waiting_bytes for w in writers) <= 20_000
    assert unbounded > 20_000  # there was something to bound
    for each, table in zip(writers, tables, strict=True):
        assert each.staged_rows == ROWS
        each.finish(note(1))
        assert each.waiting_bytes == 0
        assert names(table) == sorted(((i, "x" * 30) for i in range(ROWS)), key=repr)
