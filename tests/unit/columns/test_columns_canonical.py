"""Canonical texts of arrays: those of the values, byte for byte, by the compiled module and by Python."""

from __future__ import annotations

import datetime as dt
import math
import struct
from collections.abc import Iterator
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.columns.canonical import canonical_array
from airberg.columns.far_dates import (
    MAX_DAYS,
    MAX_MICROS,
    FarDate,
    FarTimestamp,
    day_at,
    moment_in_utc,
    without_zone,
)
from airberg.keys.cipher import canonical_text
from support.ciphers import CIPHER_WAYS, ciphered_by

UTC = pa.timestamp("us", tz="UTC")
EXACT = Context(prec=60)
BITS = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0])
FLOATS = (
    st.floats() | BITS | st.integers(-(2**60), 2**60).map(float) | st.decimals(-1, 1, places=8).map(float)
)
MICROS = st.integers(-MAX_MICROS, MAX_MICROS) | st.integers(-(10**17), 10**17)
DAYS = st.integers(-MAX_DAYS, MAX_DAYS) | st.integers(-800_000, 3_000_000)


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    """All numbers of a decimal column."""
    limit = 10**precision - 1
    numbers = st.integers(-limit, limit) | st.integers(-1_000, 1_000).filter(lambda n: abs(n) <= limit)
    return numbers.map(lambda n: Decimal(n).scaleb(-scale, context=EXACT))


VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.bool_(): st.booleans(),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): FLOATS,
    pa.date32(): DAYS.map(day_at),
    pa.time64("us"): st.times(),
    pa.timestamp("us"): MICROS.map(lambda n: without_zone(moment_in_utc(n))),
    UTC: MICROS.map(moment_in_utc),
    pa.decimal128(1, 0): decimals(1, 0),
    pa.decimal128(18, 2): decimals(18, 2),
    pa.decimal128(38, 0): decimals(38, 0),
    pa.decimal128(38, 38): decimals(38, 38),
    pa.string(): st.text(st.characters(exclude_categories=["Cs"])),
    pa.binary(): st.binary(),
}


@pytest.fixture(scope="module", params=CIPHER_WAYS, autouse=True)
def _way(request: pytest.FixtureRequest) -> Iterator[None]:
    with ciphered_by(request.param):
        yield


def texts_of(values: list[Any]) -> list[bytes | None]:
    """The texts of values, one by one."""
    return [None if v is None else canonical_text(v) for v in values]


@pytest.mark.parametrize("kind", VALUES, ids=str)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_an_array_has_the_texts_of_its_values(kind: pa.DataType, data: st.DataObject) -> None:
    """Any value that a column can hold, nulls, slices."""
    values = data.draw(st.lists(st.none() | VALUES[kind], max_size=12))
    skip = data.draw(st.integers(0, len(values)))
    found = canonical_array(pa.array(values, kind).slice(skip))
    found.validate(full=True)
    assert found.type == pa.binary()
    assert found.to_pylist() == texts_of(values[skip:])


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (pa.float64(), 1e16, b"1e+16"),
        (pa.float64(), 9999999999999998.0, b"9999999999999998.0"),
        (pa.float64(), 0.0001, b"0.0001"),
        (pa.float64(), 0.00001234, b"1.234e-05"),
        (pa.float64(), -0.0, b"-0.0"),
        (pa.float64(), 5e-324, b"5e-324"),
        (pa.float64(), -1.7976931348623157e308, b"-1.7976931348623157e+308"),
        (pa.float64(), math.inf, b"inf"),
        (pa.int64(), -(2**63), b"-9223372036854775808"),
        (pa.date32(), dt.date(26, 1, 2), b"0026-01-02"),
        (pa.date32(), FarDate(-719_529), b"-0001-12-31"),
        (pa.date32(), FarDate(-719_163), b"0000-12-31"),
        (pa.date32(), FarDate(MAX_DAYS), b"5881580-07-10"),
        (pa.timestamp("us"), FarTimestamp(-MAX_MICROS), b"-290308-12-22T00:00:00.000000"),
        (UTC, dt.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC), b"1969-12-31T23:59:59.999999Z"),
        (pa.time64("us"), dt.time(23, 59, 59, 5), b"23:59:59.000005"),
        (pa.decimal128(5, 2), Decimal("-0.05"), b"-0.05"),
        (pa.decimal128(5, 2), Decimal("-0.00"), b"0.00"),
        (pa.decimal128(38, 9), Decimal("12345678901234567890123456789.123456789"), None),
    ],
)
def test_texts(kind: pa.DataType, value: Any, text: bytes | None) -> None:
    """The forms that readers have to know."""
    expected = str(value).encode() if text is None else text
    assert canonical_text(value) == expected
    assert canonical_array(pa.array([value, None], kind)).to_pylist() == [expected, None]


@pytest.mark.parametrize("kind", VALUES, ids=str)
def test_empty_arrays_and_arrays_of_nulls(kind: pa.DataType) -> None:
    """Nothing to do is no special case."""
    assert canonical_array(pa.array([], kind)) == pa.array([], pa.binary())
    assert canonical_array(pa.array([None] * 9, kind).slice(1)) == pa.array([None] * 8, pa.binary())


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.struct([("a", pa.int64())])])
def test_what_has_parts_has_no_text(kind: pa.DataType) -> None:
    """Its JSON is made elsewhere, of the values of the record."""
    with pytest.raises(TypeError):
        canonical_array(pa.array([None], kind))
