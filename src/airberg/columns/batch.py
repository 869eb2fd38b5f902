"""Batches: the records of one stream become Arrow batches of its table's columns."""

from __future__ import annotations

import re
from array import array as int_array
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

import msgspec
import pyarrow as pa

from airberg.columns.arrow import arrow_schema, arrow_type, table_fields
from airberg.columns.convert import CipherFor, is_single, needs_exact_numbers
from airberg.columns.json_text import JsonValue, json_text, parse_exact
from airberg.columns.metadata import CHANGE, META, METADATA_FIELDS, UUID_LENGTH, uuid7_block
from airberg.columns.reading import SERIALIZATION
from airberg.columns.types import Field, Json
from airberg.columns.vectors import ChangeLog, InexactNumbers, vector
from airberg.errors import TransientFailed
from airberg.plan.model import ColumnPlan, StreamPlan

_NULL: Final = msgspec.Raw(b"null")
_ROW_BYTES: Final = 64
_UNNAMEABLE: Final = re.compile(r'[\x00-\x1f"\\]')
"""What the fast decoder cannot look for in names of properties; such streams are decoded leniently."""

_LAST_MS: Final = 253_402_300_799_999  # the end of year 9999
_META_TYPE: Final = arrow_type(next(f.type for f in METADATA_FIELDS if f.name == META))
_CHANGE_TYPE: Final = arrow_type(CHANGE)


class SourceChange(Protocol):
    """What a source says it did to a field that it could not send as it is."""

    @property
    def field(self) -> str:
        """Name of the field in the record."""
        ...

    @property
    def change(self) -> str:
        """`NULLED` or `TRUNCATED`."""
        ...

    @property
    def reason(self) -> str:
        """A reason of the protocol, such as `SOURCE_FIELD_SIZE_LIMITATION`."""
        ...


Changes: TypeAlias = Sequence[Mapping[str, str]] | Sequence[SourceChange]


class BatchBuilder:
    """Collects the records of one stream and makes batches of them.

    A record's properties may come in any order; what the plan does not have is skipped without being
    decoded. Values that do not fit become null with a change in `_airbyte_meta`.

    Attributes:
        schema: Schema of the batches.
        fields: The table's fields, metadata columns included.
        values_nulled: How many values became null, over all batches so far.
    """

    def __init__(
        self,
        stream: StreamPlan,
        *,
        add_metadata: bool,
        sync_id: int,
        generation_id: int,
        cipher_for: CipherFor,
    ) -> None:
        self.schema: pa.Schema = arrow_schema(stream.columns, add_metadata)
        self.fields: tuple[Field, ...] = table_fields(stream.columns, add_metadata)
        self.values_nulled = 0
        self._add_metadata = add_metadata
        self._sync_id = sync_id
        self._generation_id = generation_id
        self._names = {c.source: c.name for c in stream.columns}
        self._columns = [_Column(c, cipher_for) for c in stream.columns]
        named = not any(_UNNAMEABLE.search(c.source) for c in stream.columns)
        self._row_type = _row_type(self._columns, named)
        self._decode = msgspec.json.Decoder(self._row_type).decode if named else self._decode_leniently
        self._start()

    def _start(self) -> None:
        self._data: list[bytes | msgspec.Raw] = []
        self._rows: list[msgspec.Struct] = []
        self._emitted: list[int] = []
        self._source_changes: dict[int, Changes] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def nbytes(self) -> int:
        """About how large the batch is: the JSON text of its records, and something for each row."""
        return self._bytes + _ROW_BYTES * len(self._rows)

    def add(self, data: bytes | msgspec.Raw, emitted_at_ms: int, source_changes: Changes = ()) -> None:
        """Take one record.

        Args:
            data: The record's `data`, a JSON object.
            emitted_at_ms: Milliseconds since 1970.
            source_changes: `meta.changes` of the record.

        Raises:
            TransientFailed: The data is not a JSON object.
        """
        try:
            row = self._decode(data)
        except (ValueError, RecursionError):
            row = self._decode_leniently(data)
        if source_changes:
            self._source_changes[len(self._rows)] = source_changes
        self._rows.append(row)
        self._data.append(data)
        self._emitted.append(emitted_at_ms)
        self._bytes += memoryview(data).nbytes

    def flush(self) -> pa.RecordBatch:
        """The records since the last flush as one batch."""
        count = len(self._rows)
        log = ChangeLog()
        rows = range(count)
        cells = list(zip(*map(msgspec.structs.astuple, self._rows), strict=True))
        arrays = [
            column.array(cells[i] if cells else (), rows, log, self._data)
            for i, column in enumerate(self._columns)
        ]
        if self._add_metadata:
            arrays = [*self._metadata(log), *arrays]
        self.values_nulled += log.count
        self._start()
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _decode_leniently(self, data: bytes | msgspec.Raw) -> msgspec.Struct:
        """Decode a record that holds a number or a text which the fast decoder does not take."""
        try:
            record = parse_exact(data)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise TransientFailed("A record is not an object.", code="malformed-record") from None
        return self._row_type(*(c.cell(record.get(c.plan.source)) for c in self._columns))

    # ---- metadata ------------------------------------------------------------------------------------------

    def _metadata(self, log: ChangeLog) -> list[pa.Array]:
        count = len(self._rows)
        moments = [ms * 1000 if 0 <= ms <= _LAST_MS else None for ms in self._emitted]
        return [
            _fixed_width_texts(uuid7_block(count), count, UUID_LENGTH),
            pa.array(moments, pa.int64()).view(pa.timestamp("us", tz="UTC")),
            self._meta(log, count),
            pa.repeat(pa.scalar(self._generation_id, pa.int64()), count),
        ]

    def _meta(self, log: ChangeLog, count: int) -> pa.Array:
        changes: list[dict[str, str]] = []
        offsets = int_array("i", [0]) * (count + 1)
        touched = log.by_row.keys() | self._source_changes.keys()
        for row in range(count) if touched else ():
            if row in touched:
                changes.extend(map(self._as_change, self._source_changes.get(row, ())))
                changes.extend(log.by_row.get(row, ()))
            offsets[row + 1] = len(changes)
        at = pa.Array.from_buffers(pa.int32(), count + 1, [None, pa.py_buffer(offsets)])
        lists = pa.ListArray.from_arrays(at, pa.array(changes, _CHANGE_TYPE), type=_META_TYPE[1].type)
        sync_ids = pa.repeat(pa.scalar(self._sync_id, pa.int64()), count)
        return pa.StructArray.from_arrays([sync_ids, lists], fields=list(_META_TYPE))

    def _as_change(self, change: Mapping[str, str] | SourceChange) -> dict[str, str]:
        """A change that the source reported, with the name that the field has in the table."""
        if isinstance(change, Mapping):
            found = {k: str(change.get(k, "")) for k in ("field", "change", "reason")}
        else:
            found = {"field": change.field, "change": change.change, "reason": change.reason}
        first, dot, rest = found["field"].partition(".")
        return {**found, "field": self._names.get(first, first) + dot + rest}


class _Column:
    """One property of the records: how it is decoded, and how its array is made.

    Three ways to decode: to Python values; not at all, when the JSON text is what the column holds; late and
    with exact numbers, when digits matter.
    """

    def __init__(self, plan: ColumnPlan, cipher_for: CipherFor) -> None:
        self.plan = plan
        self.as_text = is_single(plan) and plan.source_type == plan.type == Json() and plan.cast_to is None
        self.as_raw = self.as_text or needs_exact_numbers(plan)
        self._vector = vector(plan, cipher_for)

    def cell(self, value: JsonValue) -> JsonValue:
        """What the row holds of a value that was decoded outside of it."""
        return msgspec.Raw(json_text(value).encode()) if self.as_raw else value

    def array(
        self,
        cells: Sequence[JsonValue],
        rows: Sequence[int],
        log: ChangeLog,
        data: Sequence[bytes | msgspec.Raw],
    ) -> pa.Array:
        """The array of the column."""
        if self.as_text:
            return self._texts(cells, rows, log)
        if self.as_raw:
            return self._vector.array(list(map(parse_exact, cells)), rows, log, exact=True)
        try:
            return self._vector.array(cells, rows, log, exact=False)
        except InexactNumbers:
            again = [parse_exact(record).get(self.plan.source) for record in data]
            return self._vector.array(again, rows, log, exact=True)

    def _texts(self, cells: Sequence[JsonValue], rows: Sequence[int], log: ChangeLog) -> pa.Array:
        texts: list[bytes | None] = [None if (t := bytes(c)) == b"null" else t for c in cells]
        try:
            return pa.array(texts, pa.string())
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            pass
        for i, text in enumerate(texts):
            try:
                (text or b"").decode()
            except UnicodeDecodeError:
                texts[i] = None
                log.add(rows[i], self.plan.name, SERIALIZATION)
        return pa.array(texts, pa.string())


def _row_type(columns: Sequence[_Column], named: bool) -> type[msgspec.Struct]:
    """A struct with one member for each column: only these properties are decoded, if it has their names."""
    members: list[tuple[str, Any, Any]] = []
    for i, column in enumerate(columns):
        kind, default = (msgspec.Raw, _NULL) if column.as_raw else (Any, None)
        members.append((f"c{i}", kind, default))
    names = {f"c{i}": c.plan.source for i, c in enumerate(columns)} if named else None
    return msgspec.defstruct("Row", members, rename=names, gc=False)


def _fixed_width_texts(block: bytes, count: int, width: int) -> pa.Array:
    """A string array whose values all have the same length."""
    offsets = int_array("i", range(0, width * count + 1, width))
    return pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(block)])
