"""Which columns of data files have dictionaries."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airberg.lake.dictionaries import dictionary_columns

ROWS = 20_000
DRAW = random.Random(7)
TYPES: dict[str, tuple[pa.DataType, Any]] = {
    "int": (pa.int32(), lambda i: i),
    "long": (pa.int64(), lambda i: i * 7),
    "float": (pa.float32(), float),
    "double": (pa.float64(), lambda i: i / 7),
    "decimal": (pa.decimal128(38, 2), lambda i: Decimal(i) / 100),
    "date": (pa.date32(), lambda i: date(1970, 1, 1) + timedelta(days=i)),
    "time": (pa.time64("us"), lambda i: time(microsecond=i)),
    "timestamp": (pa.timestamp("us"), lambda i: datetime(2020, 1, 1) + timedelta(seconds=i)),
    "timestamptz": (pa.timestamp("us", "UTC"), lambda i: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(i)),
    "string": (pa.string(), str),
    "large_string": (pa.large_string(), str),
    "binary": (pa.binary(), lambda i: str(i).encode()),
    "fixed": (pa.binary(16), lambda i: i.to_bytes(16, "big")),
    "uuid": (pa.uuid(), lambda i: uuid.UUID(int=i).bytes),
}


def has_dictionary(values: pa.Array) -> bool:
    """Whether a column of these values gets one."""
    return dictionary_columns(pa.table({"c": values})) == ["c"]


@pytest.mark.parametrize("name", TYPES)
def test_values_that_all_differ_have_none_whatever_their_type(name: str) -> None:
    """And the same values repeated have one."""
    type_, of = TYPES[name]
    assert not has_dictionary(pa.array([of(i) for i in range(ROWS)], type_))
    few = [of(i % 100) for i in range(ROWS)]
    DRAW.shuffle(few)
    assert has_dictionary(pa.array(few, type_))


@pytest.mark.parametrize("distinct", [2, 100, ROWS // 100, ROWS // 4])
@pytest.mark.parametrize("order", ["any", "runs", "cycles"])
def test_repeated_values_are_found_in_any_order(distinct: int, order: str) -> None:
    """Drawn at random, each in one run, one behind another again and again."""
    values = {
        "any": lambda: [DRAW.randrange(distinct) for _ in range(ROWS)],
        "runs": lambda: [i * distinct // ROWS for i in range(ROWS)],
        "cycles": lambda: [i % distinct for i in range(ROWS)],
    }[order]()
    assert has_dictionary(pa.array(values))


def test_nulls_do_not_count_as_repeated() -> None:
    """A column that is mostly null may have values that all differ; one of nulls alone is as any."""
    assert not has_dictionary(pa.array([i if i % 10 == 3 else None for i in range(ROWS)]))
    assert has_dictionary(pa.array([i // 5_000 if i % 10 == 3 else None for i in range(ROWS)]))
    assert has_dictionary(pa.nulls(ROWS, pa.int64()))


def test_a_file_has_them_just_there(tmp_path: Path) -> None:
    """Parquet's writer knows the columns under these paths, those in structs, lists and maps too."""
    item = {"s": {"x": "a", "y.z": ["b"]}, "m": [("k", 1)], "l": [{"q": 2}], "odd name.": "c"}
    schema = pa.schema(
        [
            ("s", pa.struct([("x", pa.string()), ("y.z", pa.list_(pa.string()))])),
            ("m", pa.map_(pa.string(), pa.int64())),
            ("l", pa.large_list(pa.struct([("q", pa.int64())]))),
            ("odd name.", pa.string()),
        ]
    )
    rows = pa.Table.from_pylist([item] * 2000, schema=schema)
    rows = rows.append_column("id", pa.arange(0, 2000))
    for some, dictionaries in ((rows, 6), (rows.slice(0, 100), 7), (rows.slice(0, 0), 7)):
        wanted = dictionary_columns(some)
        assert len(wanted) == dictionaries
        pq.write_table(rows, tmp_path / "file.parquet", use_dictionary=wanted)
        group = pq.read_metadata(tmp_path / "file.parquet").row_group(0)
        columns = [group.column(i) for i in range(group.num_columns)]
        assert {c.path_in_schema for c in columns if c.has_dictionary_page} == set(wanted)
