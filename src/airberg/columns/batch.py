"""Batches: the records of one stream become Arrow batches of its table's columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec
import pyarrow as pa

from airberg.columns.arrow import arrow_schema, table_fields
from airberg.columns.convert import CipherFor, is_single, needs_exact_numbers
from airberg.columns.json_text import JsonValue, as_utf8, json_text, parse_exact
from airberg.columns.provenance import Changes, Provenance
from airberg.columns.reading import SERIALIZATION
from airberg.columns.types import Field, Json
from airberg.columns.vectors import ChangeLog, InexactNumbers, vector
from airberg.errors import TransientFailed
from airberg.plan.model import ColumnPlan, StreamPlan

_NULL: Final = msgspec.Raw(b"null")
_ROW_BYTES: Final = 64
_UNNAMEABLE: Final = re.compile(r'[\x00-\x1f"\\]')
"""What the fast decoder cannot look for in names of properties; such streams are decoded leniently."""


class PendingBatch(Protocol):
    """Records that were taken out of a builder and are still to be converted, by any thread."""

    @property
    def rows(self) -> int:
        """How many records."""
        ...

    @property
    def nbytes(self) -> int:
        """About how much memory they take."""
        ...

    def batch(self) -> pa.RecordBatch:
        """Convert them."""
        ...

    def texts(self) -> Iterator[tuple[bytes, int]]:
        """The JSON text of each record, where it is kept, and the millisecond that it was emitted at."""
        ...


class RecordBuilder(Protocol):
    """Collects the records of one stream and makes batches of them."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """The table's fields, metadata columns included."""
        ...

    @property
    def values_nulled(self) -> int:
        """How many values became null, over all batches that were converted so far."""
        ...

    @property
    def nbytes(self) -> int:
        """About how large the records are that wait."""
        ...

    @property
    def total(self) -> int:
        """Records taken so far, in all batches."""
        ...

    @property
    def json_bytes(self) -> int:
        """Bytes of JSON text of the records taken so far."""
        ...

    def __len__(self) -> int: ...

    def add(self, data: bytes | msgspec.Raw, emitted_at_ms: int, source_changes: Changes = ()) -> None:
        """Take one record; see `BatchBuilder.add`."""
        ...

    def take(self) -> PendingBatch:
        """Take the records since the last time out, to be converted."""
        ...


@dataclass(slots=True)
class _Waiting:
    """Records that were added and not yet taken out."""

    data: list[bytes | msgspec.Raw] = field(default_factory=list)
    rows: list[msgspec.Struct] = field(default_factory=list)
    emitted: list[int] = field(default_factory=list)
    source_changes: dict[int, Changes] = field(default_factory=dict)
    bytes: int = 0


class BatchBuilder:
    """Collects the records of one stream and makes batches of them, in Python alone.

    It says what becomes of every value; `airberg.columns.native` gives the same in a fraction of the time.

    A record's properties may come in any order; what the plan does not have is skipped without being
    decoded. Values that do not fit become null with a change in `_airbyte_meta`.

    Attributes:
        schema: Schema of the batches.
        fields: The table's fields, metadata columns included.
        values_nulled: How many values became null, over all batches so far.
        total: Records taken so far, in all batches.
        json_bytes: Bytes of JSON text of the records taken so far.
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
        self.total = 0
        self.json_bytes = 0
        self._provenance = Provenance(stream, sync_id, generation_id) if add_metadata else None
        self._columns = [_Column(c, cipher_for) for c in stream.columns]
        named = not any(_UNNAMEABLE.search(c.source) for c in stream.columns)
        self._row_type = _row_type(self._columns, named)
        self._decode = msgspec.json.Decoder(self._row_type).decode if named else self._decode_leniently
        self._waiting = _Waiting()

    def __len__(self) -> int:
        return len(self._waiting.rows)

    @property
    def nbytes(self) -> int:
        """About how large the batch is: the JSON text of its records, and something for each row."""
        return self._waiting.bytes + _ROW_BYTES * len(self._waiting.rows)

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
        waiting = self._waiting
        if source_changes:
            waiting.source_changes[len(waiting.rows)] = source_changes
        waiting.rows.append(row)
        waiting.data.append(data)
        waiting.emitted.append(emitted_at_ms)
        size = memoryview(data).nbytes
        waiting.bytes += size
        self.json_bytes += size
        self.total += 1

    def take(self) -> PendingBatch:
        """Take the records since the last time out, to be converted."""
        taken, self._waiting = self._waiting, _Waiting()
        return _Pending(self, taken)

    def flush(self) -> pa.RecordBatch:
        """The records since the last time as one batch."""
        return self.take().batch()

    def convert(self, waiting: _Waiting) -> pa.RecordBatch:
        """The batch of records that were taken out."""
        log = ChangeLog()
        rows = range(len(waiting.rows))
        cells = list(zip(*map(msgspec.structs.astuple, waiting.rows), strict=True))
        arrays = [
            column.array(cells[i] if cells else (), rows, log, waiting.data)
            for i, column in enumerate(self._columns)
        ]
        if self._provenance is not None:
            # What no 64 bits hold is no moment either.
            emitted = pa.array([ms if 0 <= ms < 2**63 else -1 for ms in waiting.emitted], pa.int64())
            arrays = [*self._provenance.arrays(emitted, log, waiting.source_changes), *arrays]
        self.values_nulled += log.count
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _decode_leniently(self, data: bytes | msgspec.Raw) -> msgspec.Struct:
        """Decode a record that holds a number or a text which the fast decoder does not take."""
        try:
            record = parse_exact(as_utf8(data))
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise TransientFailed("A record is not an object.", code="malformed-record") from None
        return self._row_type(*(c.cell(record.get(c.plan.source)) for c in self._columns))


class _Pending:
    """See `PendingBatch`."""

    def __init__(self, builder: BatchBuilder, waiting: _Waiting) -> None:
        self._builder = builder
        self._waiting = waiting

    @property
    def rows(self) -> int:
        return len(self._waiting.rows)

    @property
    def nbytes(self) -> int:
        return self._waiting.bytes + _ROW_BYTES * self.rows

    def batch(self) -> pa.RecordBatch:
        return self._builder.convert(self._waiting)

    def texts(self) -> Iterator[tuple[bytes, int]]:
        return zip(map(bytes, self._waiting.data), self._waiting.emitted, strict=True)


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
        name = None if _UNNAMEABLE.search(plan.source) else {"value": plan.source}
        alone = msgspec.defstruct("Alone", [("value", msgspec.Raw, _NULL)], rename=name)
        self._decode_alone = msgspec.json.Decoder(alone).decode if name else None

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
            return self._vector.array(list(map(_exact, cells)), rows, log, exact=True)
        try:
            return self._vector.array(cells, rows, log, exact=False)
        except InexactNumbers:
            return self._vector.array(list(map(self._exactly, data)), rows, log, exact=True)

    def _exactly(self, record: bytes | msgspec.Raw) -> JsonValue:
        """The column's value in a record, with all digits."""
        if self._decode_alone is not None:
            try:
                (value,) = msgspec.structs.astuple(self._decode_alone(record))
                return parse_exact(value)
            except ValueError:  # a record that was read leniently
                pass
        return parse_exact(as_utf8(record)).get(self.plan.source)

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


def _exact(cell: msgspec.Raw) -> JsonValue:
    try:
        return parse_exact(cell)
    except ValueError:
        return parse_exact(as_utf8(cell))


def _row_type(columns: Sequence[_Column], named: bool) -> type[msgspec.Struct]:
    """A struct with one member for each column: only these properties are decoded, if it has their names."""
    members: list[tuple[str, Any, Any]] = []
    for i, column in enumerate(columns):
        kind, default = (msgspec.Raw, _NULL) if column.as_raw else (Any, None)
        members.append((f"c{i}", kind, default))
    names = {f"c{i}": c.plan.source for i, c in enumerate(columns)} if named else None
    return msgspec.defstruct("Row", members, rename=names, gc=False)
