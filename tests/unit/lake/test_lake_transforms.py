"""Transforms on Arrow arrays say what pyiceberg says of single values, and more where that ends."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    UnknownTransform,
    VoidTransform,
    YearTransform,
)
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from airberg.lake.transforms import arrow_transform, ordered_bits

DECIMAL = DecimalType(9, 2)
DAYS = st.integers(-719_162, 2_932_896)
MICROS = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
INTS = st.integers(-(2**31) + 1000, 2**31 - 1)
LONGS = st.integers(-(2**63) + 1000, 2**63 - 1)
VALUES: list[tuple[IcebergType, pa.DataType, st.SearchStrategy[Any]]] = [
    (IntegerType(), pa.int32(), INTS),
    (LongType(), pa.int64(), LONGS),
    (DECIMAL, pa.decimal128(9, 2), st.decimals(-9999999, 9999999, places=2)),
    (DateType(), pa.date32(), DAYS),
    (TimeType(), pa.time64("us"), st.integers(0, 86_399_999_999)),
    (TimestampType(), pa.timestamp("us"), MICROS),
    (TimestamptzType(), pa.timestamp("us", "UTC"), MICROS),
    (StringType(), pa.large_string(), st.text()),
    (BinaryType(), pa.large_binary(), st.binary()),
]
TRANSFORMS: list[Transform[Any, Any]] = [
    IdentityTransform(),
    BucketTransform(1),
    BucketTransform(16),
    TruncateTransform(1),
    TruncateTransform(10),
    TruncateTransform(977),
    YearTransform(),
    MonthTransform(),
    DayTransform(),
    HourTransform(),
]
PAIRS = [
    pytest.param(transform, *value, id=f"{transform}-{value[0]}")
    for transform in TRANSFORMS
    for value in VALUES
    if transform.can_transform(value[0])
]


def array_of(values: list[Any], type_: pa.DataType) -> pa.Array:
    """An array from values in Iceberg's physical form."""
    if pa.types.is_temporal(type_):
        width = pa.int32() if type_.bit_width == 32 else pa.int64()
        return pa.array(values, width).view(type_)
    return pa.array(values, type_)


@pytest.mark.parametrize(("transform", "source", "arrow", "value"), PAIRS)
def test_as_pyiceberg_says(
    transform: Transform[Any, Any], source: IcebergType, arrow: pa.DataType, value: st.SearchStrategy[Any]
) -> None:
    """Every transform of every type it fits, on any values and on parts of arrays."""

    @settings(max_examples=60, deadline=None)
    @given(values=st.lists(st.none() | value), start=st.integers(0, 3))
    def check(values: list[Any], start: int) -> None:
        one = transform.transform(source)
        got = arrow_transform(transform, source)(array_of(values, arrow).slice(start)).to_pylist()
        assert got == [one(v) for v in values[start:]]

    check()


HASHES = [
    (IntegerType(), pa.int32(), 34, 2017239379),
    (LongType(), pa.int64(), 34, 2017239379),
    (DecimalType(9, 2), pa.decimal128(9, 2), decimal.Decimal("14.20"), -500754589),
    (DateType(), pa.date32(), datetime.date(2017, 11, 16), -653330422),
    (TimeType(), pa.time64("us"), datetime.time(22, 31, 8), -662762989),
    (TimestampType(), pa.timestamp("us"), datetime.datetime(2017, 11, 16, 22, 31, 8), -2047944441),
    (TimestampType(), pa.timestamp("us"), datetime.datetime(2017, 11, 16, 22, 31, 8, 1), -1207196810),
    (StringType(), pa.large_string(), "iceberg", 1210000089),
    (BinaryType(), pa.large_binary(), b"\x00\x01\x02\x03", -188683207),
]
"""The specification's own examples (Appendix B, 32-bit hash requirements)."""


@pytest.mark.parametrize(("source", "arrow", "value", "hashed"), HASHES)
def test_the_specifications_hashes(source: IcebergType, arrow: pa.DataType, value: Any, hashed: int) -> None:
    """With as many buckets as there are numbers, the bucket is the hash."""
    most = 2**31 - 1
    got = arrow_transform(BucketTransform(most), source)(pa.array([value], arrow)).to_pylist()
    assert got == [(hashed & most) % most]


@pytest.mark.parametrize(
    ("days", "year", "month"),
    [(-800_000, -2191, -26284), (20_000_000, 54758, 657097), (-719_529, -1971, -23641), (0, 0, 0)],
)
def test_years_that_python_does_not_have(days: int, year: int, month: int) -> None:
    """Years before 1 and after 9999, where pyiceberg's functions end; values as iceberg-rust has them."""
    array = pa.array([days], pa.int32()).view(pa.date32())
    assert arrow_transform(YearTransform(), DateType())(array).to_pylist() == [year]
    assert arrow_transform(MonthTransform(), DateType())(array).to_pylist() == [month]
    instants = pa.array([days * 86_400_000_000], pa.int64()).view(pa.timestamp("us"))
    assert arrow_transform(YearTransform(), TimestampType())(instants).to_pylist() == [year]
    assert arrow_transform(DayTransform(), TimestampType())(instants).to_pylist() == [days]


def test_truncation_of_the_smallest_decimal_has_a_digit_more() -> None:
    """-99.99 goes down to -100.00, which the column itself could not hold."""
    one = arrow_transform(TruncateTransform(50), DecimalType(4, 2))
    assert one(pa.array([decimal.Decimal("-99.99")], pa.decimal128(4, 2))).to_pylist() == [
        decimal.Decimal("-100.00")
    ]


def test_void_is_null() -> None:
    """Whatever the column, structs too."""
    assert arrow_transform(VoidTransform(), StructType())(pa.array([{"a": 1}])).to_pylist() == [None]


@pytest.mark.parametrize(
    ("transform", "source"),
    [
        (UnknownTransform("zorder"), LongType()),
        (BucketTransform(4), BooleanType()),
        (BucketTransform(4), DoubleType()),
        (TruncateTransform(4), DateType()),
        (HourTransform(), DateType()),
        (YearTransform(), StringType()),
        (IdentityTransform(), StructType()),
        (IdentityTransform(), UUIDType()),
    ],
)
def test_what_does_not_fit(transform: Transform[Any, Any], source: IcebergType) -> None:
    """Never a wrong value: an error."""
    with pytest.raises(TypeError):
        arrow_transform(transform, source)


@pytest.mark.parametrize("type_", [pa.float32(), pa.float64()])
def test_the_order_of_floating_point_numbers(type_: pa.DataType) -> None:
    """Iceberg's order: the two zeros apart, NaN last and one of its kind."""
    inf = float("inf")
    ascending = [-inf, -2.0, -0.0, 0.0, 1.5, inf, float("nan")]
    bits = ordered_bits(pa.array(ascending, type_))
    assert pc.sort_indices(bits).to_pylist() == list(range(len(ascending)))
    assert len(set(bits.to_pylist())) == len(ascending)
    integer = pa.int32() if type_.bit_width == 32 else pa.int64()
    quiet = pa.array([-1], integer).view(type_)  # all bits set: a NaN with a sign
    assert ordered_bits(quiet).to_pylist() == bits.to_pylist()[-1:]
