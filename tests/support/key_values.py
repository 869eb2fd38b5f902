"""Types that rows are merged by, each with values at its extremes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal as Number
from typing import Any

from airberg.columns.types import (
    BINARY,
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    ColumnType,
    Decimal,
)


@dataclass(frozen=True, slots=True)
class KeyKind:
    """A type of key.

    Attributes:
        type: Of the column.
        values: Values that are easily confused, dropped or ordered wrongly; null is added to them.
        promoted: What Iceberg lets it become.
        bucketed: Whether Iceberg can divide it into buckets.
    """

    type: ColumnType
    values: tuple[Any, ...]
    promoted: ColumnType | None = None
    bucketed: bool = True


KINDS: dict[str, KeyKind] = {
    "long": KeyKind(LONG, (0, -1, 2**63 - 1, -(2**63), 2**53 + 1)),
    "int": KeyKind(INT, (0, -1, 2**31 - 1, -(2**31)), promoted=LONG),
    "double": KeyKind(
        DOUBLE, (0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308), bucketed=False
    ),
    "float": KeyKind(FLOAT, (0.0, -0.0, math.nan, 1.5, -math.inf), promoted=DOUBLE, bucketed=False),
    "boolean": KeyKind(BOOLEAN, (True, False), bucketed=False),
    "string": KeyKind(STRING, ("", "a", "a\0", "a\0b", "é", "e\u0301", "\U0001f600", "x" * 16, "x" * 17)),
    "uuid": KeyKind(
        STRING,
        (
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "ffffffff-ffff-ffff-fffe-ffffffffffff",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        ),
    ),
    "long string": KeyKind(STRING, ("k" * 5000, "k" * 5001, "\U0010ffff" * 20)),
    "binary": KeyKind(BINARY, (b"", b"\0", b"\0\0", b"\xff" * 16, b"\xff" * 17, b"\x80")),
    "decimal": KeyKind(
        Decimal(38, 9),
        (
            Number("0"),
            Number("99999999999999999999999999999.999999999"),
            Number("-99999999999999999999999999999.999999999"),
            Number("0.000000001"),
        ),
    ),
    "small decimal": KeyKind(
        Decimal(9, 2), (Number("0.01"), Number("-0.01"), Number("9999999.99")), promoted=Decimal(12, 2)
    ),
    "date": KeyKind(DATE, (date(1, 1, 1), date(9999, 12, 31), date(1969, 12, 31), date(1970, 1, 1))),
    "time": KeyKind(TIME, (time(0), time(0, 0, 0, 1), time(23, 59, 59, 999999))),
    "timestamp": KeyKind(
        TIMESTAMP,
        (
            datetime(1, 1, 1),
            datetime(9999, 12, 31, 23, 59, 59, 999999),
            datetime(1969, 12, 31, 23, 59, 59, 999999),
        ),
    ),
    "timestamptz": KeyKind(
        TIMESTAMPTZ,
        (
            datetime(1, 1, 2, tzinfo=UTC),
            datetime(9999, 12, 30, tzinfo=UTC),
            datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        ),
    ),
}


def same_key(value: Any) -> Any:
    """The value as part of a dictionary's key, where NaN equals NaN and the zeros are one."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value + 0.0
    return value
