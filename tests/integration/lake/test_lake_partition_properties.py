"""Properties of partitioned and sorted tables: any rows, any partitions, any marks."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from airberg.lake.catalog import memory_catalog
from airberg.lake.tables import ensure_table
from airberg.plan.model import PartitionTerm, SortTerm
from support.lake_tables import FIELDS, NAMESPACE, note, rows, writer
from support.partitions import (
    ARROW,
    EVENTS,
    all_rows,
    as_seen,
    assert_order_holds,
    assert_partitions_hold,
    by,
    sorted_by,
)

UTC = datetime.UTC
FITTING = {
    "id": ("identity", "bucket", "truncate"),
    "name": ("identity", "bucket", "truncate"),
    "small": ("identity", "bucket", "truncate"),
    "flag": ("identity",),
    "amount": ("identity", "bucket", "truncate"),
    "born": ("identity", "bucket", "year", "month", "day"),
    "at": ("identity", "bucket", "year", "month", "day", "hour"),
    "local": ("identity", "bucket", "year", "month", "day", "hour"),
    "clock": ("identity", "bucket"),
    "raw": ("identity", "bucket", "truncate"),
    "address.city": ("identity", "bucket", "truncate"),
    "address.zip": ("identity", "bucket"),
}
SMALL = {"arrange_bytes": 1, "open_files": 2, "row_group_rows": 3}


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """A catalog in memory."""
    opened = memory_catalog(tmp_path / "warehouse")
    yield opened
    opened.close()


INSTANTS = st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2100, 1, 1))
ROW = st.fixed_dictionaries(
    {
        "id": st.none() | st.integers(-(2**62), 2**62) | st.integers(-3, 3),
        "name": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
        "small": st.none() | st.integers(-(2**31) + 100, 2**31 - 1),
        "flag": st.none() | st.booleans(),
        "amount": st.none() | st.decimals(-9999, 9999, places=2),
        "share": st.none() | st.floats() | st.sampled_from([0.0, -0.0]),
        "born": st.none() | st.dates(datetime.date(1, 1, 1), datetime.date(9999, 12, 31)),
        "at": st.none() | INSTANTS.map(lambda t: t.replace(tzinfo=UTC)),
        "local": st.none() | INSTANTS,
        "clock": st.none() | st.times(),
        "raw": st.none() | st.binary(max_size=5),
        "address": st.none()
        | st.fixed_dictionaries(
            {
                "city": st.none() | st.sampled_from(["Kyiv", "Łódź", "x y/z=%"]),
                "zip": st.none() | st.integers(1, 3),
            }
        ),
    }
)


def terms(fitting: dict[str, tuple[str, ...]]) -> st.SearchStrategy[PartitionTerm]:
    """A transform of a column that fits it."""
    pairs = st.sampled_from([(column, kind) for column, kinds in fitting.items() for kind in kinds])
    return pairs.flatmap(
        lambda pair: st.builds(
            by,
            st.just(pair[1]),
            st.just(pair[0]),
            st.integers(1, 20) if pair[1] in ("bucket", "truncate") else st.none(),
        )
    )


SORT = st.builds(
    lambda term, descending, nulls_last: sorted_by(
        ".".join(term.column),
        term.transform,
        term.argument,
        descending=descending,
        nulls_last=nulls_last,
    ),
    terms(FITTING | {"share": ("identity",)}),
    st.booleans(),
    st.booleans(),
)
NUMBERS = itertools.count()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.lists(ROW, min_size=1, max_size=8), min_size=1, max_size=4),
    partition_by=st.lists(
        terms(FITTING), min_size=1, max_size=3, unique_by=lambda t: (t.transform, t.column)
    ),
    sort=st.lists(SORT, max_size=2),
    arrange_bytes=st.sampled_from([1, 400, 10**6]),
)
def test_any_rows_in_any_partitions(
    catalog: Catalog,
    tmp_path: Path,
    batches: list[list[dict[str, Any]]],
    partition_by: list[PartitionTerm],
    sort: list[SortTerm],
    arrange_bytes: int,
) -> None:
    """Rows are read back equal, and each file has rows of just its partition."""
    name = f"events_{next(NUMBERS)}"
    table = ensure_table(catalog, NAMESPACE, name, EVENTS, partition_by=partition_by, sort_by=sort)
    table_writer = writer(catalog, "append", tmp_path, table=table, arrange_bytes=arrange_bytes, open_files=2)
    for batch in batches:
        table_writer.write(pa.RecordBatch.from_pylist(batch, schema=ARROW))
    table_writer.finish(note(1))
    table_writer.discard()
    assert as_seen(all_rows(table)) == as_seen(
        pa.Table.from_batches(
            [pa.RecordBatch.from_pylist(batch, schema=ARROW) for batch in batches]
        ).to_pylist()
    )
    assert_partitions_hold(table)
    assert_order_holds(table)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 12), st.sampled_from("abcde"), st.integers(0, 4)), max_size=9),
        min_size=1,
        max_size=6,
    ),
    data=st.data(),
    sorted_=st.booleans(),
    mode=st.sampled_from(["append", "merge"]),
)
def test_marks_anywhere(
    catalog: Catalog,
    tmp_path: Path,
    batches: list[list[tuple[int, str, int]]],
    data: st.DataObject,
    sorted_: bool,
    mode: str,
) -> None:
    """Commits hold exactly the rows up to their mark, wherever it falls; against a model of the table."""
    name = f"marks_{next(NUMBERS)}"
    sort = (sorted_by("version"),) if sorted_ else ()
    table = ensure_table(
        catalog, NAMESPACE, name, FIELDS, partition_by=(by("identity", "name"),), sort_by=sort
    )
    table_writer = writer(catalog, mode, tmp_path, table=table, **SMALL)
    arrived: list[tuple[int, str, int]] = []
    marked = number = 0
    for batch in batches:
        table_writer.write(rows(*batch))
        arrived += batch
        if data.draw(st.booleans()):
            marked, number = data.draw(st.integers(marked, len(arrived))), number + 1
            table_writer.mark(marked)
            assert table_writer.rows_since_mark == len(arrived) - marked
            table_writer.commit(note(number))
            assert_rows(table, mode, arrived[:marked])
            assert table_writer.staged_rows == len(arrived) - marked
    table_writer.finish(note(number + 1))
    assert table_writer.staged_rows == table_writer.staged_bytes == 0
    assert_rows(table, mode, arrived)
    assert_partitions_hold(table)
    assert_order_holds(table)
    on_disk = {str(path) for path in (tmp_path / "warehouse" / "shop" / name / "data").glob("*.parquet")}
    history = {entry["file_path"].removeprefix("file://") for entry in table.inspect.all_files().to_pylist()}
    table_writer.discard()
    assert on_disk <= history  # no file is left that no snapshot has


def assert_rows(table: Table, mode: str, arrived: list[tuple[int, str, int]]) -> None:
    """The table has what the mode makes of these rows, which came in this order."""
    found = [(row["id"], row["name"], row["version"]) for row in all_rows(table)]
    if mode == "merge":
        newest: dict[int, tuple[int, str, int]] = {}
        for row in arrived:
            if row[0] not in newest or row[2] >= newest[row[0]][2]:
                newest[row[0]] = row
        arrived = list(newest.values())
    assert sorted(found) == sorted(arrived)
