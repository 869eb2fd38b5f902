"""Columns of values to Arrow arrays: all at once where every value is of the expected kind, else one by one.

The fast ways must give what the slow one gives; where Arrow's reading of a text could differ from ours (years
beyond 1 to 9999, digits beyond microseconds) they step back and leave the column to the slow one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from airberg.columns.arrow import arrow_type
from airberg.columns.convert import (
    Change,
    CipherFor,
    element_of,
    is_single,
    members_of,
    nulled,
    path_of,
    plain_conversion,
)
from airberg.columns.json_text import JsonValue
from airberg.columns.protection import Protection, protection
from airberg.columns.reading import REJECTIONS, TYPECAST, Convert, reason_of
from airberg.columns.types import DATE, LONG, STRING, TIMESTAMP, TIMESTAMPTZ, ColumnType, List, Primitive
from airberg.plan.model import ColumnPlan

Fast = Callable[[Sequence[JsonValue]], pa.Array]

_NONE: Final = type(None)
_FAILED: Final = (pa.ArrowException, OverflowError, UnicodeEncodeError)
_FIRST_DAY: Final = -719_162  # 0001-01-01 and 9999-12-31: what lies beyond is for the slow way
_LAST_DAY: Final = 2_932_896
_DAY_US: Final = 86_400_000_000


class InexactNumbers(Exception):
    """Digits matter, but numbers were decoded as doubles: decode them again with all digits."""


@dataclass(slots=True)
class ChangeLog:
    """The changes of a batch by row; `count` is how many values became null."""

    by_row: dict[int, list[Change]] = field(default_factory=dict)
    count: int = 0

    def add(self, row: int, path: str, reason: str) -> None:
        """Note that a value became null; once per row and path."""
        changes = self.by_row.setdefault(row, [])
        change = nulled(path, reason)
        if change not in changes:
            changes.append(change)
            self.count += 1


class Vector(Protocol):
    """Makes the array of one column."""

    def array(
        self, values: Sequence[JsonValue], rows: Sequence[int], log: ChangeLog, *, exact: bool
    ) -> pa.Array:
        """The array of decoded values.

        Args:
            values: One per slot; None where there is none.
            rows: The row of the batch that each belongs to, for `log`.
            exact: Whether numbers were decoded with all their digits.

        Raises:
            InexactNumbers: They were not, but have to be. (What was logged may be logged again.)
        """
        ...


def vector(column: ColumnPlan, cipher_for: CipherFor, parent: str = "") -> Vector:
    """The vector of a column and all that is in it."""
    path = path_of(column, parent)
    if is_single(column):
        kinds, fast = _NO_FAST if column.cast_to else _FAST.get(column.source_type, _NO_FAST)
        lossy = None if column.cast_to else _LOSSY.get(column.source_type)
        last = protection(column, cipher_for)
        return _Single(plain_conversion(column), last, path, kinds, fast, lossy)
    kind = arrow_type(column.type)
    if isinstance(column.source_type, List):
        return _List(vector(element_of(column.source_type), cipher_for, path), kind, path)
    members = [(c.source, vector(c, cipher_for, path)) for c in members_of(column)]
    return _Struct(members, kind, path)


@dataclass(frozen=True, slots=True)
class _Single:
    convert: Convert
    last: Protection
    path: str
    kinds: frozenset[type]
    fast: Fast | None
    lossy: Callable[[JsonValue], bool] | None

    def array(
        self, values: Sequence[JsonValue], rows: Sequence[int], log: ChangeLog, *, exact: bool
    ) -> pa.Array:
        return self.last.protect(self.plain(values, rows, log, exact=exact))

    def plain(
        self, values: Sequence[JsonValue], rows: Sequence[int], log: ChangeLog, *, exact: bool
    ) -> pa.Array:
        if self.fast is not None:
            kinds = set(map(type, values))
            if kinds <= self.kinds:
                try:
                    return self.fast(values)
                except _FAILED:
                    pass
            elif self.lossy is not None and not exact and any(map(self.lossy, values)):
                raise InexactNumbers
        return pa.array(self.one_by_one(values, rows, log), self.last.plain_type)

    def one_by_one(self, values: Sequence[JsonValue], rows: Sequence[int], log: ChangeLog) -> list[Any]:
        convert = self.convert
        out: list[Any] = []
        for i, value in enumerate(values):
            if value is None:
                out.append(None)
                continue
            try:
                out.append(convert(value))
            except REJECTIONS as e:
                out.append(None)
                log.add(rows[i], self.path, reason_of(e))
        return out


@dataclass(frozen=True, slots=True)
class _Struct:
    members: list[tuple[str, Vector]]
    type: pa.StructType
    path: str

    def array(
        self, values: Sequence[JsonValue], rows: Sequence[int], log: ChangeLog, *, exact: bool
    ) -> pa.Array:
        objects = _only(dict, values, rows, log, self.path)
        present = [{} if o is None else o for o in objects]
        arrays = [
            member.array([o.get(source) for o in present], rows, log, exact=exact)
            for source, member in self.members
        ]
        return pa.StructArray.from_arrays(arrays, fields=list(self.type), mask=_mask(objects))


@dataclass(frozen=True, slots=True)
class _List:
    element: Vector
    type: pa.ListType
    path: str

    def array(
        self, values: Sequence[JsonValue], rows: Sequence[int], log: ChangeLog, *, exact: bool
    ) -> pa.Array:
        lists = _only(list, values, rows, log, self.path)
        offsets, items, item_rows = [0], [], []
        for row, found in zip(rows, lists, strict=True):
            if found:
                items.extend(found)
                item_rows.extend([row] * len(found))
            offsets.append(len(items))
        elements = self.element.array(items, item_rows, log, exact=exact)
        at = pa.array(offsets, pa.int32())
        return pa.ListArray.from_arrays(at, elements, type=self.type, mask=_mask(lists))


def _only(
    kind: type, values: Sequence[JsonValue], rows: Sequence[int], log: ChangeLog, path: str
) -> Sequence[JsonValue]:
    """The values, with null in place of those that are not of the kind."""
    if set(map(type, values)) <= {kind, _NONE}:
        return values
    out = []
    for i, value in enumerate(values):
        fits = value is None or isinstance(value, kind)
        out.append(value if fits else None)
        if not fits:
            log.add(rows[i], path, TYPECAST)
    return out


def _mask(values: Iterable[JsonValue]) -> pa.Array:
    return pa.array([v is None for v in values], pa.bool_())


# ---- fast ways -------------------------------------------------------------------------------------------


def _as(kind: pa.DataType) -> Fast:
    return lambda values: pa.array(values, kind)


def _timestamps(zone: str | None) -> Fast:
    """Texts that either all have an offset, or all have none and are taken for UTC."""
    with_zone, without = pa.timestamp("us", tz="UTC"), pa.timestamp("us")
    wanted = pa.timestamp("us", tz=zone)

    def fast(values: Sequence[JsonValue]) -> pa.Array:
        texts = pa.array(values, pa.string())
        try:
            made = texts.cast(with_zone)
        except pa.ArrowInvalid:
            made = texts.cast(without)
        return _within(made.view(pa.int64()), _FIRST_DAY * _DAY_US, (_LAST_DAY + 1) * _DAY_US - 1).view(
            wanted
        )

    return fast


def _dates(values: Sequence[JsonValue]) -> pa.Array:
    days = pa.array(values, pa.string()).cast(pa.date32()).view(pa.int32())
    return _within(days, _FIRST_DAY, _LAST_DAY).view(pa.date32())


def _within(numbers: pa.Array, low: int, high: int) -> pa.Array:
    found = pc.min_max(numbers).as_py()
    if found["min"] is not None and (found["min"] < low or found["max"] > high):
        raise pa.ArrowInvalid("beyond the usual years")
    return numbers


# Values of the wrong kind that are taken all the same, but of which a double may have lost digits.
_LOSSY: Final[dict[ColumnType, Callable[[JsonValue], bool]]] = {
    STRING: lambda value: isinstance(value, float | dict | list),
    LONG: lambda value: isinstance(value, float) and abs(value) >= 2**53,
}
_NO_FAST: Final[tuple[frozenset[type], Fast | None]] = (frozenset(), None)
_FAST: Final[dict[ColumnType, tuple[frozenset[type], Fast | None]]] = {
    STRING: (frozenset({str, _NONE}), _as(pa.string())),
    Primitive("boolean"): (frozenset({bool, _NONE}), _as(pa.bool_())),
    LONG: (frozenset({int, _NONE}), _as(pa.int64())),
    Primitive("double"): (frozenset({int, float, _NONE}), _as(pa.float64())),
    DATE: (frozenset({str, _NONE}), _dates),
    TIMESTAMP: (frozenset({str, _NONE}), _timestamps(None)),
    TIMESTAMPTZ: (frozenset({str, _NONE}), _timestamps("UTC")),
}
