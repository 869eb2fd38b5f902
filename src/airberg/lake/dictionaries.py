"""Which columns of a data file get a dictionary: those whose values repeat.

Parquet's writer would make one for every column. Where all values differ, that is half the time that the
column takes, and the file gets larger: each value is in the dictionary, and its index in the pages besides.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

_LEAST_ROWS = 512
"""Of fewer rows nothing is said: their dictionaries cost next to nothing."""
_SAMPLE, _LARGEST_SAMPLE = 1024, 4096
_ROWS_A_SAMPLED_ONE = 128
_DRAW = random.Random(1)  # noqa: S311 - a sample, the same each time
_DRAWN = pa.array([_DRAW.random() for _ in range(_LARGEST_SAMPLE)])
"""Places in a file, as parts of its length. Places at even distances would miss what comes in cycles."""
_DISTINCT = 0.75
"""With so many distinct values a row, or more, a column has no dictionary."""


def dictionary_columns(rows: pa.Table) -> list[str]:
    """Paths, as Parquet has them, of the leaf columns that get a dictionary; leaves of nested ones always do.

    Args:
        rows: The first rows of the file, as many as are known. They are sampled.
    """
    if rows.num_rows < _LEAST_ROWS:
        return [path for field in rows.schema for path in _leaves(field.name, field.type)]
    wanted = min(_LARGEST_SAMPLE, max(_SAMPLE, rows.num_rows // _ROWS_A_SAMPLED_ONE))
    drawn = pc.unique(pc.multiply(_DRAWN.slice(0, wanted), float(rows.num_rows)).cast(pa.int64(), safe=False))
    found: list[str] = []
    for field, column in zip(rows.schema, rows.columns, strict=True):
        if pa.types.is_nested(field.type) or _repeats(column, drawn):
            found += _leaves(field.name, field.type)
    return found


def _repeats(column: pa.ChunkedArray, drawn: pa.Array) -> bool:
    """Whether a column's values repeat.

    Of n values that are drawn out of d, about n²/2d have an equal one before them (the birthday problem).
    """
    sample = _values(column.take(drawn))
    if not len(sample):
        return True
    rows = len(column) * len(sample) / len(drawn)
    return len(sample) - len(pc.unique(sample)) > len(sample) ** 2 / (2 * _DISTINCT * rows)


def _values(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """What is not null, in a type that Arrow compares."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.cast(column.type.storage_type)
    return column.drop_null() if column.null_count else column


def _leaves(path: str, type_: pa.DataType) -> Iterator[str]:
    """Paths of a column's leaves (Parquet specification, Nested Types)."""
    if pa.types.is_struct(type_):
        for field in type_:
            yield from _leaves(f"{path}.{field.name}", field.type)
    elif pa.types.is_map(type_):
        yield from _leaves(f"{path}.key_value.key", type_.key_type)
        yield from _leaves(f"{path}.key_value.value", type_.item_type)
    elif pa.types.is_nested(type_):
        yield from _leaves(f"{path}.list.element", type_.value_type)
    else:
        yield path
