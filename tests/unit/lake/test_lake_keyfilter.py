"""The compiled filter: a key that was taken always passes, whatever its type; nearly all others do not."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.lake import keyfilter
from airberg.lake.keyfilter import KeyFilter, can_filter

pytestmark = pytest.mark.skipif(keyfilter.compiled is None, reason="built without a compiler")

VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int8(): st.integers(-128, 127),
    pa.bool_(): st.booleans(),
    pa.float64(): st.floats(width=64) | st.sampled_from([0.0, -0.0, math.nan]),
    pa.float32(): st.floats(width=32),
    pa.string(): st.text(max_size=20),
    pa.large_string(): st.text(max_size=20),
    pa.large_binary(): st.binary(max_size=20),
    pa.binary(16): st.binary(min_size=16, max_size=16),
    pa.decimal128(38, 9): st.integers(-(10**20), 10**20).map(lambda n: Decimal(n) / 10**9),
    pa.date32(): st.dates(),
    pa.timestamp("us", "UTC"): st.datetimes().map(lambda d: d.replace(tzinfo=UTC)),
}


def same(value: Any) -> Any:
    """Equal for equal keys."""
    return "nan" if isinstance(value, float) and math.isnan(value) else value


def filled(*columns: list[pa.Array]) -> KeyFilter:
    """A filter that has taken these batches of key columns."""
    filter_ = KeyFilter()
    for batch in columns:
        filter_.add(batch)
    return filter_


@settings(max_examples=150)
@given(data=st.data())
def test_a_key_that_was_taken_always_passes(data: st.DataObject) -> None:
    """Any types, several columns, nulls, arrays with an offset; of few keys no other one passes."""
    types = data.draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=3))
    key = st.tuples(*(st.none() | VALUES[type_] for type_ in types))
    taken = data.draw(st.lists(key, max_size=30))
    asked = data.draw(st.lists(key, max_size=30)) + taken
    skip = data.draw(st.integers(0, 9))

    def columns(rows: list[Any]) -> list[pa.Array]:
        padded = [*([rows[0]] * skip if rows else []), *rows]
        return [
            pa.array([row[i] for row in padded], type_).slice(skip if rows else 0)
            for i, type_ in enumerate(types)
        ]

    filter_ = filled(columns(taken))
    known = {tuple(map(same, row)) for row in taken}
    assert filter_.distinct == (len(known) == len(taken))
    expected = [i for i, row in enumerate(asked) if tuple(map(same, row)) in known]
    assert filter_.pick(columns(asked)).to_pylist() == expected


def test_many_keys_are_kept_apart() -> None:
    """The set grows; of a million other keys hardly any passes."""
    filter_ = filled(*([pa.arange(i, i + 50_000)] for i in range(0, 500_000, 50_000)))
    assert filter_.distinct
    assert len(filter_.pick([pa.arange(400_000, 600_000)])) == 100_000
    assert len(filter_.pick([pa.arange(10**12, 10**12 + 1_000_000)])) < 10


def test_what_is_not_a_column_is_refused() -> None:
    """Memory outside of a buffer is never read."""
    assert keyfilter.compiled is not None
    filter_ = keyfilter.compiled.KeyFilter(1)
    eight = b"12345678"
    for column in (
        ("fixed", 8, 1, None, eight, None),
        ("fixed", 8, -1, None, eight, None),
        ("fixed", 8, 0, b"", eight, None),
        ("bits", 0, 64, None, eight, None),
        ("float64", 8, 0, None, b"1234", None),
        ("text32", 0, 0, None, eight, b"\0\0\0\0"),
        ("text32", 0, 0, None, eight, b"\0\0\0\0\x09\0\0\0"),
        ("text32", 0, 0, None, eight, b"\x02\0\0\0\x01\0\0\0"),
        ("text64", 0, 0, None, None, b"\0" * 8 + b"\1" + b"\0" * 7),
        ("nothing", 0, 0, None, eight, None),
    ):
        with pytest.raises(ValueError, match=r"."):
            filter_.add(1, (column,))
    with pytest.raises(TypeError):
        filter_.pick(1, ["no tuple"])
    with pytest.raises(ValueError, match="number of rows"):
        filter_.pick(-1, ())


def test_types_that_cannot_be_filtered_are_known() -> None:
    """Keys of other types go to the join unfiltered."""
    assert can_filter([pa.int64(), datetime_type()])
    assert not can_filter([pa.int64(), pa.list_(pa.int64())])
    assert not can_filter([pa.decimal256(50, 2)])
    assert not can_filter([])


def datetime_type() -> pa.DataType:
    """The type of a column of moments."""
    return pa.array([datetime(2024, 1, 1, tzinfo=UTC)]).type
