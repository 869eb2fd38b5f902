"""The order of rows: seen at a glance, or made."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.columns.types import LONG, Field
from airberg.lake.arrange import Arrangement
from airberg.lake.tables import ensure_table
from airberg.plan.model import SortTerm
from support.lake_tables import sql_catalog


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.tuples(st.none() | st.integers(0, 3), st.integers(0, 3)), max_size=8),
    down=st.booleans(),
    last=st.booleans(),
    both=st.booleans(),
)
def test_rows_that_come_sorted_are_left_as_they_are(
    tmp_path_factory: pytest.TempPathFactory,
    values: list[tuple[int | None, int]],
    down: bool,
    last: bool,
    both: bool,
) -> None:
    """To see at a glance that rows are sorted gives the same order as to sort them."""
    catalog = sql_catalog(tmp_path_factory.mktemp("lake"))
    fields = (Field("a", LONG), Field("b", LONG))
    terms = [SortTerm(transform="identity", source=("a",), column=("a",), descending=down, nulls_last=last)]
    if both:
        terms.append(SortTerm(transform="identity", source=("b",), column=("b",)))
    table = ensure_table(catalog, ("shop",), "sorted", fields, sort_by=terms)
    rows = pa.RecordBatch.from_arrays(
        [pa.array([a for a, _ in values], pa.int64()), pa.array([b for _, b in values], pa.int64())],
        names=["a", "b"],
    )
    arrangement = Arrangement(table)
    order, _ = arrangement.arrange(rows)
    arranged = rows if order is None else rows.take(order)
    sorted_ = pc.sort_indices(arrangement.keys(rows), sort_keys=arrangement.sort_keys)
    assert arranged.equals(rows.take(sorted_))
    catalog.close()
