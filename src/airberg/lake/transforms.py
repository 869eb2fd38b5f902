"""Iceberg's partition transforms on Arrow arrays.

pyiceberg does this with `pyiceberg-core`, which answers null for years that its calendar does not have and
knows no large binaries; what Iceberg can store, these can transform (decision 0006). Results are in
Iceberg's physical form: dates are days, times and timestamps microseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    VoidTransform,
    YearTransform,
)
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
)

ArrowTransform: TypeAlias = Callable[[pa.Array], pa.Array]

_KNOWN = (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
)
_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US


def arrow_transform(transform: Transform[Any, Any], source: IcebergType) -> ArrowTransform:
    """The transform of columns of the type `source`; null stays null.

    Raises:
        TypeError: The transform is unknown, or does not fit the type.
    """
    if isinstance(transform, VoidTransform):
        return lambda array: pa.nulls(len(array), pa.int32())
    if not isinstance(source, _KNOWN) or not transform.can_transform(source):
        raise TypeError(f"{transform} of {source}")
    match transform:
        case IdentityTransform():
            return physical
        case BucketTransform():
            if isinstance(source, BinaryType | DecimalType | StringType):
                return _on_distinct(transform.transform(source), pa.int32())
            return lambda array: _buckets(physical(array).cast(pa.int64()), transform.num_buckets)
        case TruncateTransform():
            return _truncate(transform, source)
        case HourTransform():
            return lambda array: _int32(_floor_divide(physical(array), _HOUR_US))
        case DayTransform():
            return _days
        case MonthTransform():
            return lambda array: _int32(_months(_days(array)))
        case YearTransform():
            return lambda array: _int32(_floor_divide(_months(_days(array)), 12))
    raise TypeError(f"{transform} of {source}")


def physical(array: pa.Array) -> pa.Array:
    """The array in Iceberg's physical form."""
    if pa.types.is_date32(array.type):
        return array.view(pa.int32())
    if pa.types.is_timestamp(array.type) or pa.types.is_time64(array.type):
        return array.view(pa.int64())
    return array


def ordered_bits(array: pa.Array) -> pa.Array:
    """Floating-point numbers as integers in the order of Iceberg; all NaNs are one. Others as they are.

    Arrow puts NaN at the same end as null, and takes -0.0 for 0.0. Iceberg's order ends with NaN
    (specification, Sorting), and two zeros are two partitions.
    """
    if not pa.types.is_floating(array.type):
        return array
    integer, bits = (pa.int64(), 64) if pa.types.is_float64(array.type) else (pa.int32(), 32)
    one_nan = pa.scalar(float("nan"), array.type)
    raw = pc.if_else(pc.is_nan(array), one_nan, array).view(integer)
    largest = pa.scalar((1 << (bits - 1)) - 1, integer)
    return pc.if_else(pc.less(raw, pa.scalar(0, integer)), pc.bit_wise_xor(raw, largest), raw)


def _on_distinct(apply: Callable[[Any], Any], type_: pa.DataType) -> ArrowTransform:
    """Pyiceberg's own function, once for each distinct value."""

    def transformed(array: pa.Array) -> pa.Array:
        encoded = physical(array).dictionary_encode()
        values = pa.array([apply(value) for value in encoded.dictionary.to_pylist()], type_)
        return values.take(encoded.indices)

    return transformed


def _buckets(values: pa.Array, count: int) -> pa.Array:
    """The buckets of 64-bit integers: 32-bit Murmur3 of their bytes (specification, Appendix B).

    Keys are often all distinct, and one at a time would take most of the time of writing them. Arrow's
    `multiply` and `add` wrap around, as the algorithm wants.
    """

    def word(value: int) -> pa.Scalar:
        return pa.scalar(value, pa.uint32())

    def rotated(words: pa.Array, by: int) -> pa.Array:
        return pc.bit_wise_or(pc.shift_left(words, word(by)), pc.shift_right(words, word(32 - by)))

    def mixed(words: pa.Array, by: int) -> pa.Array:
        return pc.bit_wise_xor(words, pc.shift_right(words, word(by)))

    both = values.view(pa.uint64())
    low = pc.bit_wise_and(both, pa.scalar(0xFFFFFFFF, pa.uint64())).cast(pa.uint32())
    high = pc.shift_right(both, pa.scalar(32, pa.uint64())).cast(pa.uint32())
    hashed: pa.Array | pa.Scalar = word(0)
    for block in (low, high):
        scrambled = pc.multiply(rotated(pc.multiply(block, word(0xCC9E2D51)), 15), word(0x1B873593))
        hashed = rotated(pc.bit_wise_xor(scrambled, hashed), 13)
        hashed = pc.add(pc.multiply(hashed, word(5)), word(0xE6546B64))
    hashed = mixed(pc.bit_wise_xor(hashed, word(8)), 16)
    hashed = mixed(pc.multiply(hashed, word(0x85EBCA6B)), 13)
    hashed = mixed(pc.multiply(hashed, word(0xC2B2AE35)), 16)
    positive = pc.bit_wise_and(hashed, word(0x7FFFFFFF)).cast(pa.int64())
    whole = pc.multiply(pc.divide(positive, pa.scalar(count, pa.int64())), pa.scalar(count, pa.int64()))
    return _int32(pc.subtract(positive, whole))


def _truncate(transform: TruncateTransform[Any], source: IcebergType) -> ArrowTransform:
    width = transform.width
    match source:
        case StringType():
            # "Code units" are code points here, as Iceberg wants them.
            return lambda array: pc.utf8_slice_codeunits(array, 0, width)
        case BinaryType():
            return lambda array: pc.binary_slice(array, 0, width)
        case DecimalType(scale=scale):
            # Truncation goes down, so a negative number may need a digit more than its column has.
            return _on_distinct(transform.transform(source), pa.decimal256(76, scale))
        case IntegerType():
            return lambda array: _int32(_multiple(array.cast(pa.int64()), width))
    return lambda array: _multiple(array, width)


def _multiple(values: pa.Array, of: int) -> pa.Array:
    return pc.multiply(_floor_divide(values, of), pa.scalar(of, pa.int64()))


def _int32(values: pa.Array) -> pa.Array:
    return values.cast(pa.int32(), safe=False)


def _floor_divide(values: pa.Array, by: int) -> pa.Array:
    """Division of 64-bit integers that rounds down; Arrow's rounds towards zero."""
    divisor = pa.scalar(by, pa.int64())
    quotient = pc.divide(values, divisor)
    below = pc.less(values, pc.multiply(quotient, divisor))
    return pc.subtract(quotient, below.cast(pa.int64()))


def _days(array: pa.Array) -> pa.Array:
    if pa.types.is_date32(array.type):
        return physical(array)
    return _int32(_floor_divide(physical(array), _DAY_US))


def _months(days: pa.Array) -> pa.Array:
    """Months since January 1970, in the proleptic Gregorian calendar.

    Years are counted from March here, so that the leap day comes last; 719,468 days lie between the first
    of March of year 0 and 1970. Arrow's own `year` has 16 bits, Python's ends at 9999.
    """

    def number(value: int) -> pa.Scalar:
        return pa.scalar(value, pa.int64())

    since = pc.add(days.cast(pa.int64()), number(719_468))
    era = _floor_divide(since, 146_097)
    day = pc.subtract(since, pc.multiply(era, number(146_097)))
    leaps = pc.subtract(
        pc.add(pc.subtract(day, pc.divide(day, number(1_460))), pc.divide(day, number(36_524))),
        pc.divide(day, number(146_096)),
    )
    year = pc.divide(leaps, number(365))
    before = pc.subtract(
        pc.add(pc.multiply(year, number(365)), pc.divide(year, number(4))), pc.divide(year, number(100))
    )
    month = pc.divide(pc.add(pc.multiply(pc.subtract(day, before), number(5)), number(2)), number(153))
    years = pc.add(year, pc.multiply(era, number(400)))
    # March of year 0 is month 2 - 1970 * 12.
    return pc.add(pc.add(pc.multiply(years, number(12)), month), number(2 - 1970 * 12))
