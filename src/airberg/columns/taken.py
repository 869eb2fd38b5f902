"""What the compiled reader gives out of a batch, as Arrow arrays: what it took, and what it left to us."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal as Exact
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from airberg.columns.arrow import arrow_type
from airberg.columns.cast_arrays import ArrayCast, array_cast
from airberg.columns.convert import (
    CipherFor,
    element_of,
    is_single,
    members_of,
    path_of,
    plain_conversion,
)
from airberg.columns.json_text import JsonValue, as_utf8, parse_exact
from airberg.columns.protection import Protection, protection
from airberg.columns.reading import REJECTIONS, SERIALIZATION, TYPECAST, reason_of
from airberg.columns.types import (
    BOOLEAN,
    DATE,
    DOUBLE,
    JSON,
    LONG,
    STRING,
    TIMESTAMP,
    TIMESTAMPTZ,
    ColumnType,
    List,
)
from airberg.columns.vectors import ChangeLog
from airberg.plan.model import ColumnPlan

if TYPE_CHECKING:
    from airberg.columns._records import TakenColumn, TakenDeferred

Rows: TypeAlias = Callable[[], Sequence[int]]
"""Gives the rows of the batch that values belong to; asked for only when something does not fit."""

Shape: TypeAlias = tuple[str, str, tuple["Shape", ...]]
"""Name, kind and members of a column, as the compiled reader wants to know them."""

_PLAIN: Final[Mapping[ColumnType, str]] = {
    BOOLEAN: "boolean",
    LONG: "int64",
    DOUBLE: "float64",
    STRING: "string",
    DATE: "date",
    TIMESTAMP: "timestamp",
    TIMESTAMPTZ: "timestamp",
    JSON: "json",
}
_decode_all = msgspec.json.Decoder(list[Any], float_hook=Exact).decode


class NativeColumn(Protocol):
    """One column, over the compiled reader."""

    @property
    def shape(self) -> Shape:
        """The column, as the compiled reader wants to know it."""
        ...

    def array(self, taken: TakenColumn, rows: Rows, log: ChangeLog) -> pa.Array:
        """The array of what was taken; what does not fit goes into the log."""
        ...


def native_column(plan: ColumnPlan, cipher_for: CipherFor, parent: str = "") -> NativeColumn:
    """The column of a plan and all that is in it."""
    path = path_of(plan, parent)
    if is_single(plan):
        cast = array_cast(plan.source_type, plan.cast_to) if plan.cast_to else None
        plain = None if plan.cast_to else _PLAIN.get(plan.source_type)
        if plan.protection is not None and (plan.cast_to or plan.source_type) == JSON:
            plain = cast = None  # its canonical text is another one
        return _Single(plan, path, plain, cast, protection(plan, cipher_for))
    type_ = arrow_type(plan.type)
    if isinstance(plan.source_type, List):
        return _List(plan.source, path, type_, native_column(element_of(plan.source_type), cipher_for, path))
    members = [native_column(member, cipher_for, path) for member in members_of(plan)]
    return _Struct(plan.source, path, type_, members)


class _Single:
    """A column of single values.

    Those of a plain kind are made by the reader, those that are cast by the compiled casts. What they leave,
    and every value where there is neither, is converted by Python.
    """

    def __init__(
        self, plan: ColumnPlan, path: str, plain: str | None, cast: ArrayCast | None, last: Protection
    ) -> None:
        self.shape: Shape = (plan.source, plain or "json", ())
        self._path = path
        self._convert = plain_conversion(plan)
        self._plain = plain
        self._cast = cast
        self._type = last.plain_type
        self._protect = last.protect

    def array(self, taken: TakenColumn, rows: Rows, log: ChangeLog) -> pa.Array:
        return self._protect(self._plain_array(taken, rows, log))

    def _plain_array(self, taken: TakenColumn, rows: Rows, log: ChangeLog) -> pa.Array:
        length, _, validity, buffers, _, deferred = taken
        if self._plain is None:
            made = self._cast_array(buffered(pa.binary(), length, validity, *buffers), rows, log)
        else:
            made = buffered(self._type, length, validity, *buffers)
        if deferred is None:
            return made
        places, at, texts_of = _deferred(deferred)
        if self._plain == "json":  # bytes that are no text cannot be stored
            for row in at:
                log.add(row, self._path, SERIALIZATION)
            return made
        # What is no UTF-8 inside of it becomes U+FFFD, as in a record that Python reads.
        values = self._converted([as_utf8(text) for text in texts_of], at, log)
        return _put(made, places, pa.array(values, self._type))

    def _cast_array(self, texts: pa.Array, rows: Rows, log: ChangeLog) -> pa.Array:
        """The values of JSON texts: the plain ones all at once, the others each by itself."""
        if self._cast is None:
            return pa.array(self._converted(texts.to_pylist(), rows(), log), self._type)
        made, left = self._cast(texts)
        made = made.cast(self._type)
        if left is None:
            return made
        places, all_rows = pc.indices_nonzero(left), rows()
        at = [all_rows[place] for place in places.to_pylist()]
        values = self._converted(texts.take(places).to_pylist(), at, log)
        return pc.replace_with_mask(made, left, pa.array(values, self._type))

    def _converted(self, texts: Sequence[bytes | None], rows: Sequence[int], log: ChangeLog) -> list[Any]:
        """Values of JSON texts, as Arrow takes them."""
        values, convert = _parsed(texts), self._convert
        out: list[Any] = []
        for i, text in enumerate(texts):
            value = None
            if text is not None:
                try:
                    found = parse_exact(text) if values is None else values[i]
                    value = None if found is None else convert(found)
                except REJECTIONS as e:
                    log.add(rows[i], self._path, reason_of(e))
            out.append(value)
        return out


class _Struct:
    """An object with declared members."""

    def __init__(self, name: str, path: str, type_: pa.DataType, members: Sequence[NativeColumn]) -> None:
        self.shape: Shape = (name, "object", tuple(member.shape for member in members))
        self._path = path
        self._type = type_
        self._members = members

    def array(self, taken: TakenColumn, rows: Rows, log: ChangeLog) -> pa.Array:
        length, nulls, validity, _, children, deferred = taken
        _note_all(deferred, self._path, log)
        arrays = [m.array(child, rows, log) for m, child in zip(self._members, children, strict=True)]
        mask = _mask(validity, length) if nulls else None
        return pa.StructArray.from_arrays(arrays, fields=list(self._type), mask=mask)


class _List:
    """An array whose items have one type."""

    def __init__(self, name: str, path: str, type_: pa.DataType, element: NativeColumn) -> None:
        self.shape: Shape = (name, "list", (element.shape,))
        self._path = path
        self._type = type_
        self._element = element

    def array(self, taken: TakenColumn, rows: Rows, log: ChangeLog) -> pa.Array:
        length, nulls, validity, (ends,), (child,), deferred = taken
        _note_all(deferred, self._path, log)
        offsets = buffered(pa.int32(), length + 1, None, ends)

        def item_rows() -> Sequence[int]:
            counts = pc.subtract(offsets.slice(1), offsets.slice(0, length)).to_pylist()
            return [row for row, count in zip(rows(), counts, strict=True) for _ in range(count)]

        items = self._element.array(child, item_rows, log)
        mask = _mask(validity, length) if nulls else None
        return pa.ListArray.from_arrays(offsets, items, type=self._type, mask=mask)


def _note_all(deferred: TakenDeferred | None, path: str, log: ChangeLog) -> None:
    """Objects and lists that are none are null, whatever they are instead."""
    for row in longs(deferred[1]) if deferred else ():
        log.add(row, path, TYPECAST)


# ---- buffers -----------------------------------------------------------------------------------------------


def buffered(type_: pa.DataType, length: int, validity: bytes | None, *buffers: bytes) -> pa.Array:
    """The array over buffers as Arrow lays them out."""
    wrapped = [None if validity is None else pa.py_buffer(validity), *map(pa.py_buffer, buffers)]
    return pa.Array.from_buffers(type_, length, wrapped)


def held(taken: TakenColumn) -> int:
    """Bytes that a column holds."""
    _, _, validity, buffers, children, deferred = taken
    own = sum(map(len, (validity or b"", *buffers, *(deferred or ()))))
    return own + sum(map(held, children))


def _mask(validity: bytes | None, length: int) -> pa.Array:
    return pc.invert(buffered(pa.bool_(), length, None, validity or b""))


def longs(data: bytes) -> memoryview[int]:
    """64-bit integers as they lie in memory."""
    return memoryview(data).cast("q")


def _deferred(taken: TakenDeferred) -> tuple[memoryview[int], memoryview[int], list[bytes]]:
    places, rows, ends, texts = taken
    at = longs(ends)
    return longs(places), longs(rows), [texts[at[i] : at[i + 1]] for i in range(len(at) - 1)]


def deferred_rows(taken: TakenDeferred | None) -> Iterator[tuple[int, bytes]]:
    """The rows of what was left to us, and its JSON text."""
    if taken is not None:
        _, rows, texts = _deferred(taken)
        yield from zip(rows, texts, strict=True)


def _parsed(texts: Sequence[bytes | None]) -> list[JsonValue] | None:
    """The values of JSON texts, numbers exact, all at once; None where that does not go."""
    try:
        return _decode_all(b"[" + b",".join([b"null" if t is None else t for t in texts]) + b"]")
    except (ValueError, RecursionError, ArithmeticError):
        return None


def _put(array: pa.Array, places: memoryview[int], values: pa.Array) -> pa.Array:
    """The array with `values` in their places."""
    if not len(values) - values.null_count:
        return array  # what was deferred is null there already
    chosen = list(range(len(array)))
    for i, place in enumerate(places):
        chosen[place] = len(array) + i
    return pa.concat_arrays([array, values]).take(pa.array(chosen, pa.int64()))
