"""Data files: projection, statistics, sizes; and the files of a table read in their own order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal as Number
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.catalog import Catalog
from pyiceberg.conversions import from_bytes

from airberg.columns.types import (
    BINARY,
    BOOLEAN,
    DATE,
    DOUBLE,
    INT,
    LONG,
    STRING,
    TIMESTAMPTZ,
    Decimal,
    Field,
    List,
    Struct,
)
from airberg.lake.arrow import file_schema
from airberg.lake.files import DataFileWriter, FileSizes
from airberg.lake.note import Note
from airberg.lake.read import first_rows
from airberg.lake.scan import file_batches
from airberg.lake.tables import ensure_table
from support.duckdb_reader import duckdb_rows
from support.lake_tables import sql_catalog, users, writer

ODD_NAMES = [
    "a.b",
    "two words",
    "1st",
    "größe",
    "emoji 🧊",
    "x-y",
    "a_x2Eb",
    "select",
    '"quoted"',
    "列",
    "_",
    "%",
]


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """A SQLite catalog."""
    opened: Catalog = sql_catalog(tmp_path)
    yield opened
    opened.close()


def finish(catalog: Catalog, folder: Path, fields: tuple[Field, ...], batch: pa.RecordBatch) -> Any:
    """Append one batch to a new table and return the table."""
    table = users(catalog, fields)
    append = writer(catalog, "append", folder, table=table)
    append.write(batch)
    append.finish(Note(run_id="r", attempt=1, number=1))
    return table.refresh()


def test_columns_with_any_name_come_back_under_it(catalog: Catalog, tmp_path: Path) -> None:
    """Dots, spaces, digits first, unicode, two names that are cleaned to one; in structs and lists too."""
    inner = Struct(tuple(Field(name, LONG) for name in ODD_NAMES))
    fields = (*(Field(name, LONG) for name in ODD_NAMES), Field("box", inner), Field("items", List(inner)))
    values = {name: i for i, name in enumerate(ODD_NAMES)}
    row = {**values, "box": values, "items": [values, None]}
    table = finish(catalog, tmp_path, fields, pa.RecordBatch.from_pylist([row]))
    assert table.scan().to_arrow().to_pylist() == [row]
    assert first_rows(table, 5) == [row]
    assert duckdb_rows(table) == [row]
    names = [field.name for field in file_schema(table.schema()).fields]
    assert len(set(names)) == len(names)


def test_columns_are_matched_by_name_and_missing_ones_are_null(catalog: Catalog, tmp_path: Path) -> None:
    """Any order, any subset, narrower types; null structs and null lists stay null."""
    item = Struct((Field("n", LONG), Field("m", STRING)))
    fields = (
        Field("id", LONG),
        Field("score", DOUBLE),
        Field("price", Decimal(20, 4)),
        Field("box", item),
        Field("items", List(item)),
        Field("gone", STRING),
    )
    schema = pa.schema(
        [
            ("items", pa.list_(pa.struct([("m", pa.string())]))),
            ("box", pa.struct([("m", pa.dictionary(pa.int8(), pa.string())), ("n", pa.int8())])),
            ("price", pa.decimal128(5, 2)),
            ("score", pa.float32()),
            ("id", pa.int16()),
        ]
    )
    rows = [
        {
            "id": 1,
            "score": 0.5,
            "price": Number("1.25"),
            "box": {"m": "x", "n": 2},
            "items": [{"m": "y"}, None],
        },
        {"id": 2, "score": None, "price": None, "box": None, "items": None},
        {"id": 3, "score": 1.5, "price": Number("-9.99"), "box": {"m": None, "n": None}, "items": []},
        {"id": 4, "score": 2.5, "price": Number("0"), "box": {"m": "z", "n": 3}, "items": [{"m": "w"}]},
    ]
    whole = pa.RecordBatch.from_pylist(rows, schema=schema)
    table = users(catalog, fields)
    append = writer(catalog, "append", tmp_path, table=table)
    append.write(whole.slice(0, 1))
    append.write(whole.slice(1, 3))
    append.finish(Note(run_id="r", attempt=1, number=1))
    expected = [
        {
            **row,
            "items": row["items"] and [None if i is None else {"n": None, "m": i["m"]} for i in row["items"]],  # type: ignore[attr-defined]
            "gone": None,
        }
        for row in rows
    ]
    assert sorted(first_rows(table.refresh(), 9), key=lambda r: r["id"]) == expected
    assert sorted(duckdb_rows(table), key=lambda r: r["id"]) == expected


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        (LONG, pa.array(["x"])),
        (INT, pa.array([1], pa.int64())),
        (STRING, pa.array([1])),
        (TIMESTAMPTZ, pa.array([1], pa.timestamp("us"))),
        (Decimal(9, 2), pa.array([Number("1.234")])),
        (List(LONG), pa.array([["x"]])),
        (Struct((Field("a", LONG),)), pa.array([{"a": "x"}])),
    ],
)
def test_a_type_that_does_not_fit_is_an_error(catalog: Catalog, type_: Any, values: pa.Array) -> None:
    """Nothing is narrowed or reinterpreted on the way."""
    files = DataFileWriter(users(catalog, (Field("x", type_),)))
    with pytest.raises(TypeError, match="'x"):
        files.write(pa.RecordBatch.from_arrays([values], names=["x"]))
    with pytest.raises(TypeError, match="does not have: y"):
        files.write(pa.RecordBatch.from_arrays([values], names=["y"]))


def test_bounds_hold_for_values_that_python_has_no_object_for(catalog: Catalog) -> None:
    """Dates before year 1 and after 9999, long texts cut so that they still bound, decimals of any width."""
    fields = (
        Field("day", DATE),
        Field("at", TIMESTAMPTZ),
        Field("text", STRING),
        Field("raw", BINARY),
        Field("small", Decimal(9, 2)),
        Field("large", Decimal(38, 2)),
        Field("flag", BOOLEAN),
        Field("box", Struct((Field("n", LONG),))),
        Field("items", List(LONG)),
    )
    table = users(catalog, fields)
    files = DataFileWriter(table, FileSizes(row_group_rows=1))
    values = [
        (-800_000, -(10**17), "a" * 30, b"\xff" * 20, Number("-1.50"), Number("-1e20"), False, {"n": 5}, [9]),
        (
            3_000_000,
            10**18,
            "é" * 30,
            b"a",
            Number("7.25"),
            Number("12345678901234567890.12"),
            True,
            None,
            None,
        ),
    ]
    schema = pa.schema(
        [
            ("day", pa.date32()),
            ("at", pa.timestamp("us", "UTC")),
            ("text", pa.string()),
            ("raw", pa.binary()),
            ("small", pa.decimal128(9, 2)),
            ("large", pa.decimal128(38, 2)),
            ("flag", pa.bool_()),
            ("box", pa.struct([("n", pa.int64())])),
            ("items", pa.list_(pa.int64())),
        ]
    )
    columns = zip(*values, strict=True)
    files.write(
        pa.RecordBatch.from_arrays(
            [pa.array(c, t) for c, t in zip(columns, schema.types, strict=True)], schema=schema
        )
    )
    (file,) = files.close()
    found = {}
    for name in ("day", "at", "text", "small", "large", "flag", "box.n"):
        field = table.schema().find_field(name)
        low, high = file.lower_bounds[field.field_id], file.upper_bounds[field.field_id]
        found[name] = (from_bytes(field.field_type, low), from_bytes(field.field_type, high))
    assert found == {
        "day": (-800_000, 3_000_000),
        "at": (-(10**17), 10**18),
        "text": ("a" * 16, "é" * 15 + "ê"),
        "small": (Number("-1.50"), Number("7.25")),
        "large": (Number("-1e20"), Number("12345678901234567890.12")),
        "flag": (False, True),
        "box.n": (5, 5),
    }
    raw = table.schema().find_field("raw").field_id
    assert file.lower_bounds[raw] == b"a"
    assert raw not in file.upper_bounds
    assert table.schema().find_field("items.element").field_id not in file.lower_bounds
    assert file.record_count == 2
    assert len(file.split_offsets) == 2


def test_a_row_group_without_bounds_leaves_the_column_without(catalog: Catalog) -> None:
    """Parquet keeps no bounds for values over 4 KiB; bounds of the other rows would hide them."""
    table = users(catalog, (Field("text", STRING), Field("number", DOUBLE)))
    files = DataFileWriter(table, FileSizes(row_group_rows=1))
    for text, number in (("a", 1.0), ("b" * 5000, 2.0), (None, None), ("c", math.nan)):
        files.write(
            pa.RecordBatch.from_pylist(
                [{"text": text, "number": number}],
                schema=pa.schema([("text", pa.string()), ("number", pa.float64())]),
            )
        )
    (file,) = files.close()
    assert file.lower_bounds == {}
    assert file.upper_bounds == {}
    assert file.null_value_counts == {1: 1, 2: 1}
    assert file.value_counts == {1: 4, 2: 4}


def test_metrics_can_be_turned_off(catalog: Catalog) -> None:
    """The table's own properties say how much is kept."""
    table = ensure_table(
        catalog,
        ("s",),
        "t",
        (Field("a", LONG), Field("b", LONG)),
        {"write.metadata.metrics.default": "none", "write.metadata.metrics.column.b": "counts"},
    )
    files = DataFileWriter(table)
    files.write(pa.RecordBatch.from_pylist([{"a": 1, "b": 2}]))
    (file,) = files.close()
    assert file.value_counts == {2: 1}
    assert file.lower_bounds == {}


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 30), max_size=8),
    group_rows=st.integers(1, 20),
    batch_rows=st.integers(1, 40),
)
def test_rows_come_back_in_their_order(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], group_rows: int, batch_rows: int
) -> None:
    """However batches, row groups and files are cut, positions count the rows of a file from zero."""
    opened: Catalog = sql_catalog(tmp_path_factory.mktemp("lake"))
    table = users(opened, (Field("n", LONG),))
    files = DataFileWriter(table, FileSizes(target_file_bytes=1500, row_group_rows=group_rows))
    total = 0
    for size in sizes:
        files.write(pa.RecordBatch.from_arrays([pa.arange(total, total + size)], names=["n"]))
        total += size
    assert files.rows == total
    found: list[int] = []
    for file in files.close():
        expected_start = 0
        for start, batch in file_batches(table, file, table.schema(), batch_rows):
            assert start == expected_start
            expected_start += batch.num_rows
            found += batch.column(0).to_pylist()
        assert expected_start == file.record_count
    assert found == list(range(total))
    opened.close()
