"""Sorting out, before they are compared, the rows of a table that have none of some keys.

Most rows of a table have no changed key. The compiled filter (`native/keys.cpp`) knows the hashes of the
changed keys and lets through the rows that may have one, at a few nanoseconds a row; the join behind it
(`airberg.lake.keyindex`) compares keys and decides. Without a compiler all rows go to the join.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from types import ModuleType

import pyarrow as pa

compiled: ModuleType | None
try:
    from airberg.lake import _keys as compiled
except ImportError:
    compiled = None

MOST_KEYS = 4_000_000
"""More keys than these (64 MB of hashes) are not filtered by."""

_Column = tuple[str, int, int, pa.Buffer | None, pa.Buffer | None, pa.Buffer | None]


class KeyFilter:
    """Lets rows through that may have a key of some. `can_filter` says for which types there is one."""

    def __init__(self) -> None:
        if compiled is None:
            raise RuntimeError("there is no compiled filter")
        self._filter = compiled.KeyFilter(secrets.randbits(64))
        self.rows = 0

    def add(self, keys: Sequence[pa.Array]) -> None:
        """Take the keys of some rows: the key columns, in the types that all rows have."""
        self._filter.add(len(keys[0]), tuple(map(_column, keys)))
        self.rows += len(keys[0])

    @property
    def distinct(self) -> bool:
        """All keys are known to differ; without it they may."""
        return int(self._filter.size()) == self.rows

    def pick(self, keys: Sequence[pa.Array]) -> pa.Array:
        """Indexes of the rows that may have a key, given the key columns; for any number of threads."""
        found = self._filter.pick(len(keys[0]), tuple(map(_column, keys)))
        return pa.Array.from_buffers(pa.int32(), len(found) // 4, [None, pa.py_buffer(found)])


def can_filter(types: Sequence[pa.DataType]) -> bool:
    """Whether keys of these types can be filtered here."""
    return compiled is not None and bool(types) and all(_layout(type_) is not None for type_ in types)


def _layout(type_: pa.DataType) -> tuple[str, int] | None:
    """How the values of a type lie in memory, and the bytes of each."""
    t = pa.types
    if t.is_boolean(type_):
        return "bits", 0
    if t.is_float32(type_):
        return "float32", 4
    if t.is_float64(type_):
        return "float64", 8
    if t.is_string(type_) or t.is_binary(type_):
        return "text32", 0
    if t.is_large_string(type_) or t.is_large_binary(type_):
        return "text64", 0
    if t.is_integer(type_) or t.is_temporal(type_) or t.is_decimal128(type_) or t.is_fixed_size_binary(type_):
        return "fixed", type_.bit_width // 8
    return None


def _column(array: pa.Array) -> _Column:
    layout = _layout(array.type)
    if layout is None:
        raise TypeError(f"keys of {array.type} cannot be filtered")
    buffers = array.buffers()
    ends = buffers[1] if len(buffers) == 3 else None
    return *layout, array.offset, buffers[0], buffers[-1], ends
