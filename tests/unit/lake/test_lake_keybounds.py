"""Bounds of files beside keys of every type: candidates are the files with a key between their bounds."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.conversions import from_bytes, to_bytes
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    LongType,
    PrimitiveType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from airberg.lake.keybounds import KeyBounds
from airberg.lake.keyindex import KeyIndex, KeyRows
from airberg.lake.keymemory import KeyMemory

TYPES: list[tuple[PrimitiveType, Callable[[int], Any]]] = [
    (IntegerType(), lambda i: i - 4),
    (LongType(), lambda i: (i - 4) << 40),
    (FloatType(), lambda i: i - 4.5),
    (DoubleType(), lambda i: (i - 4) / 3),
    (DecimalType(38, 3), lambda i: Decimal(i - 4).scaleb(-3)),
    (DateType(), lambda i: i - 4),
    (TimeType(), lambda i: i),
    (TimestampType(), lambda i: i - 4),
    (TimestamptzType(), lambda i: i - 4),
    (StringType(), lambda i: "aßé列🧊"[i // 2] * (i % 2 + 1)),
    (BinaryType(), lambda i: bytes([i * 25, 255 - i])),
    (FixedType(3), lambda i: bytes([i * 25, 0, 1])),
    (UUIDType(), lambda i: uuid.UUID(bytes=bytes([i * 25] * 16))),
]


def stored(type_: PrimitiveType, value: Any) -> Any:
    """A value as bounds of files are read."""
    return from_bytes(type_, to_bytes(type_, value))


@pytest.mark.parametrize(("type_", "of"), TYPES, ids=[str(type_) for type_, _ in TYPES])
def test_a_file_between_two_keys_is_no_candidate(
    tmp_path: Path, type_: PrimitiveType, of: Callable[[int], Any]
) -> None:
    """Keys 2, 5 and 8 of ten values in order, two of them more than once; and files from one to another."""
    arrow = schema_to_pyarrow(type_, include_field_ids=False)
    spans = [(low, high) for low in range(10) for high in range(low, 10)]
    files = [(KeyBounds(stored(type_, of(a)), stored(type_, of(b)), nulls=False),) for a, b in spans]
    keys = pa.array([stored(type_, of(i)) for i in (5, 2, 8, 5, 2)], arrow)
    with KeyMemory(tmp_path, memory_mb=64, threads=1) as memory:
        index = KeyIndex((arrow,), None, memory)
        index.add(KeyRows((keys,), None), pa.repeat(pa.scalar(False), 5), 0)
        index.settle(5)
        found = index.candidates(files)
    assert [spans[i] for i in found] == [(a, b) for a, b in spans if {2, 5, 8} & set(range(a, b + 1))]


def test_truth_values_are_keys_as_well(tmp_path: Path) -> None:
    """There are only two of them."""
    with KeyMemory(tmp_path, memory_mb=64, threads=1) as memory:
        index = KeyIndex((pa.bool_(),), None, memory)
        index.add(KeyRows((pa.array([True, True]),), None), pa.repeat(pa.scalar(False), 2), 0)
        index.settle(2)
        bounds = [stored(BooleanType(), value) for value in (False, True)]
        files = [(KeyBounds(low, high, nulls=False),) for low in bounds for high in bounds if low <= high]
        assert index.candidates(files) == [1, 2]


def test_keys_that_are_all_null_are_in_files_with_nulls(tmp_path: Path) -> None:
    """Then there is neither a smallest nor a largest."""
    with KeyMemory(tmp_path, memory_mb=64, threads=1) as memory:
        index = KeyIndex((pa.string(),), None, memory)
        index.add(KeyRows((pa.nulls(2, pa.string()),), None), pa.repeat(pa.scalar(False), 2), 0)
        index.settle(2)
        files = [KeyBounds("", "z"), KeyBounds("", "z", nulls=False), KeyBounds(nulls=True, values=False)]
        assert index.candidates([(file,) for file in files]) == [0, 2]
