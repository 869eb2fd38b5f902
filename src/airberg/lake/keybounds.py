"""What statistics of data files say about a key column, and what the extent of some keys says about files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

Division: TypeAlias = tuple[set[int], list[int]]
"""Indexes of the files that hold a key within their bounds, and of those that may or may not."""


@dataclass(frozen=True, slots=True)
class KeyBounds:
    """What the statistics of a data file say about one key column.

    Attributes:
        low: Not above any value, None when unknown.
        high: Not below any value, None when unknown.
        nulls: Whether there may be nulls.
        values: Whether there may be anything but nulls.
    """

    low: Any = None
    high: Any = None
    nulls: bool = True
    values: bool = True


def by_extent(bounds: list[KeyBounds], type_: pa.DataType, least: pa.Scalar, most: pa.Scalar) -> Division:
    """Divide files by the smallest and the largest of some keys; nearly all of them are decided by that.

    A file has a key within its bounds if one of the two is there. It may have one if it lies between them.

    Args:
        bounds: Of the files; those that are not known come up in neither part.
        type_: Of the key column.
        least: The smallest key, null when there are only nulls.
        most: The largest key.
    """
    known = [index for index, of in enumerate(bounds) if of.low is not None and of.high is not None]
    if not known or isinstance(type_, pa.BaseExtensionType):  # Arrow does not compare those
        return set(), known
    low, high = least.cast(type_), most.cast(type_)
    lows, highs = (pa.array([getattr(bounds[i], end) for i in known], type_) for end in ("low", "high"))
    inside = [pc.and_(pc.less_equal(lows, key), pc.less_equal(key, highs)) for key in (low, high)]
    between = pc.and_(pc.less(low, lows), pc.less(highs, high))
    chosen = pa.array(known, pa.int64())
    return (
        set(chosen.filter(pc.or_(*inside)).to_pylist()),
        chosen.filter(between).to_pylist(),
    )
