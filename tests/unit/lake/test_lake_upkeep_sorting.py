"""Sorting more rows than memory holds gives what sorting them at once would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from airberg.columns.types import DOUBLE, LONG, STRING, Field
from airberg.lake.arrange import Arrangement
from airberg.lake.catalog import memory_catalog
from airberg.lake.tables import ensure_table
from airberg.lake.upkeep.sorting import RowSorter
from support.partitions import by, sorted_by

FIELDS = (Field("a", LONG), Field("b", DOUBLE), Field("c", STRING))
SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.float64()), ("c", pa.large_string())])


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    """A catalog in memory."""
    opened = memory_catalog(tmp_path_factory.mktemp("sorting"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def table(catalog: Catalog) -> Table:
    """A table with partitions and an order with nulls, NaN and both directions."""
    order = (sorted_by("b", descending=True, nulls_last=True), sorted_by("c"))
    return ensure_table(catalog, ("s",), "t", FIELDS, partition_by=(by("truncate", "a", 2),), sort_by=order)


ROWS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(0, 5)),
        st.one_of(st.none(), st.sampled_from([0.0, -0.0, 1.5, float("nan"), float("-inf")])),
        st.one_of(st.none(), st.sampled_from(["", "a", "b", "é" * 9])),
    ),
    max_size=80,
)


def batch(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    """Rows as a batch."""
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def keys(arrangement: Arrangement, rows: pa.RecordBatch) -> list[Any]:
    """What each row is sorted by."""
    return [tuple(sorted(row.items())) for row in arrangement.keys(rows).to_pylist()]


@given(st.lists(ROWS, max_size=8), st.integers(1, 3000), st.integers(1, 400), st.integers(2, 4))
@settings(max_examples=150, deadline=None)
def test_any_size_of_run_and_block(
    table: Table, batches: list[list[tuple[Any, ...]]], run_bytes: int, block_bytes: int, fan: int
) -> None:
    """Any size of run and block."""
    arrangement = Arrangement(table)
    together = batch([row for rows in batches for row in rows])
    with TemporaryDirectory() as folder:
        sorter = RowSorter(arrangement, Path(folder), run_bytes, block_bytes, fan)
        for rows in batches:
            sorter.add(batch(rows))
        found = pa.Table.from_batches(sorter.sorted_batches(), schema=SCHEMA).combine_chunks()
    assert found.num_rows == together.num_rows
    if not found.num_rows:
        return
    order, _ = arrangement.arrange(together)
    (result,) = found.to_batches()
    assert keys(arrangement, result) == keys(arrangement, together.take(order))
    assert sorted(map(repr, found.to_pylist())) == sorted(map(repr, together.to_pylist()))


def test_runs_of_a_level_become_one_and_are_deleted(table: Table, tmp_path: Path) -> None:
    """Runs of a level become one and are deleted."""
    sorter = RowSorter(Arrangement(table), tmp_path, run_bytes=1, block_bytes=100, fan=3)
    for n in range(14):
        sorter.add(batch([(n % 5, float(-n), "x")]))
    assert len(list(tmp_path.iterdir())) == 4  # 9 + 3 + 1 + 1
    assert sum(rows.num_rows for rows in sorter.sorted_batches()) == 14
