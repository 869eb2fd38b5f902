"""Batches from lines, by the compiled reader of RECORD messages (`native/` in the repository).

The reader takes what is plain: a RECORD line of a stream that was asked for, in it values that are of their
column's type in the usual way of writing. It gives back everything else, so that nothing has two meanings:

- a value that is not plain comes as JSON text and is converted like any value of `BatchBuilder`, or becomes
  null with a change in `_airbyte_meta`; the other values of its batch stay on the fast path;
- a line that is not plain (a property that occurs twice, `NaN`, half a surrogate pair in a name, ...) is read
  by Python, written anew in plain form, and read again.

The tests compare both builders over all kinds of input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import pyarrow as pa

from airberg.columns.arrow import arrow_schema, table_fields
from airberg.columns.batch import PendingBatch
from airberg.columns.compiled import compiled
from airberg.columns.convert import CipherFor
from airberg.columns.json_text import as_utf8, json_text, parse_exact
from airberg.columns.provenance import Changes, Provenance
from airberg.columns.taken import Shape, buffered, deferred_rows, held, longs, native_column
from airberg.columns.vectors import ChangeLog
from airberg.errors import TransientFailed
from airberg.plan.model import StreamPlan
from airberg.protocol.messages import record_changes_in
from airberg.protocol.state import StateKey

if TYPE_CHECKING:
    from airberg.columns._records import Reader, TakenColumn, TakenDeferred

_ROW_BYTES: Final = 64
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Fed(NamedTuple):
    """How far a block was read: position, lines taken, and why it stopped (0 the block has ended)."""

    position: int
    lines: int
    outcome: int


class NativeReader:
    """Reads the RECORD lines of some streams; one builder a stream.

    Not for use by several threads at once; what builders give out may be converted by any.

    Args:
        builders: What becomes of each stream.
    """

    def __init__(self, builders: Mapping[StateKey, NativeBuilder]) -> None:
        if compiled is None:
            raise RuntimeError("the compiled reader is not there")
        shapes = tuple(
            (key.namespace or "", key.name, builder.shapes, builder.keeps_text)
            for key, builder in builders.items()
        )
        self._reader: Reader = compiled.Reader(shapes)
        for index, builder in enumerate(builders.values()):
            builder.attach(self._reader, index)

    def feed(self, block: bytes, position: int) -> Fed:
        """Read whole lines of `block` from `position` on, up to the first line that is not a plain record."""
        return Fed(*self._reader.feed(block, position))


class NativeBuilder:
    """What `BatchBuilder` is, over the compiled reader. Records come through `NativeReader.feed`.

    Attributes: see `airberg.columns.batch.BatchBuilder`.
    """

    def __init__(
        self,
        stream: StreamPlan,
        *,
        add_metadata: bool,
        sync_id: int,
        generation_id: int,
        cipher_for: CipherFor,
        keeps_text: bool = False,
    ) -> None:
        self.schema: pa.Schema = arrow_schema(stream.columns, add_metadata)
        self.fields = table_fields(stream.columns, add_metadata)
        self.values_nulled = 0
        self.keeps_text = keeps_text
        self._provenance = Provenance(stream, sync_id, generation_id) if add_metadata else None
        self._columns = [native_column(c, cipher_for) for c in stream.columns]
        self._taken_rows = 0
        self._taken_bytes = 0
        self._reader: Reader | None = None
        self._index = 0
        self._key = stream.state_key

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The columns, as the compiled reader wants to know them."""
        return tuple(column.shape for column in self._columns)

    def attach(self, reader: Reader, index: int) -> None:
        """Take part in a reader."""
        self._reader, self._index = reader, index

    def __len__(self) -> int:
        return self._size()[0]

    @property
    def nbytes(self) -> int:
        """About how large the records are that wait."""
        rows, size = self._size()
        return size + _ROW_BYTES * rows

    @property
    def total(self) -> int:
        """Records taken so far, in all batches."""
        return self._taken_rows + self._size()[0]

    @property
    def json_bytes(self) -> int:
        """Bytes of JSON text of the records taken so far."""
        return self._taken_bytes + self._size()[1]

    def add(self, data: bytes | msgspec.Raw, emitted_at_ms: int, source_changes: Changes = ()) -> None:
        """Take one record that the compiled reader did not take from its line.

        Raises:
            TransientFailed: The data is not a JSON object.
        """
        ways = (bytes, _without_repeats, _written_anew)
        if not any(self._feed(way(data), emitted_at_ms, source_changes) for way in ways):
            raise TransientFailed("A record is not an object.", code="malformed-record")

    def take(self) -> PendingBatch:
        """Take the records since the last time out, to be converted."""
        if self._reader is None:
            raise RuntimeError("the builder is in no reader")
        size = self._size()[1]
        rows, emitted, columns, meta, ends, texts = self._reader.take(self._index)
        self._taken_rows += rows
        self._taken_bytes += size
        return _Pending(self, rows, emitted, columns, meta, ends, texts)

    def flush(self) -> pa.RecordBatch:
        """The records since the last time as one batch."""
        return self.take().batch()

    def convert(self, taken: _Pending) -> pa.RecordBatch:
        """The batch of records that were taken out."""
        log = ChangeLog()
        rows = range(taken.rows)
        arrays = [
            column.array(found, lambda: rows, log)
            for column, found in zip(self._columns, taken.columns, strict=True)
        ]
        if self._provenance is not None:
            reported = {
                row: changes for row, raw in deferred_rows(taken.meta) if (changes := record_changes_in(raw))
            }
            emitted = buffered(pa.int64(), taken.rows, None, taken.emitted)
            arrays = [*self._provenance.arrays(emitted, log, reported), *arrays]
        self.values_nulled += log.count
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _size(self) -> tuple[int, int]:
        return (0, 0) if self._reader is None else self._reader.size(self._index)

    def _feed(self, data: bytes | None, emitted_at_ms: int, source_changes: Changes) -> bool:
        if self._reader is None:
            raise RuntimeError("the builder is in no reader")
        if data is None:
            return False
        record: dict[str, Any] = {
            "namespace": self._key.namespace,
            "stream": self._key.name,
            "emitted_at": emitted_at_ms if 0 <= emitted_at_ms < 2**63 else -1,
            "data": msgspec.Raw(data),
        }
        if source_changes:
            record["meta"] = {"changes": list(source_changes)}
        line = _encode({"type": "RECORD", "record": record})
        return self._reader.feed(line, 0, True)[2] == 0


class _Pending:
    """See `PendingBatch`; also gives the text of the records, where it is kept."""

    def __init__(
        self,
        builder: NativeBuilder,
        rows: int,
        emitted: bytes,
        columns: tuple[TakenColumn, ...],
        meta: TakenDeferred | None,
        ends: bytes,
        texts: bytes,
    ) -> None:
        self._builder = builder
        self._ends = ends
        self._texts = texts
        self.rows = rows
        self.emitted = emitted
        self.columns = columns
        self.meta = meta

    @property
    def nbytes(self) -> int:
        return sum(map(held, self.columns)) + len(self._texts) + _ROW_BYTES * self.rows

    def batch(self) -> pa.RecordBatch:
        return self._builder.convert(self)

    def texts(self) -> Iterator[tuple[bytes, int]]:
        """The records' JSON texts, each with the moment that it was emitted."""
        begin = 0
        for end, emitted in zip(longs(self._ends), longs(self.emitted), strict=True):
            yield self._texts[begin:end], emitted
            begin = end


def _without_repeats(data: bytes | msgspec.Raw) -> bytes | None:
    """A record in which each property occurs once, the last one; every value as it was written."""
    try:
        return _encode(_decode_members(data))
    except (ValueError, RecursionError):
        return None


def _written_anew(data: bytes | msgspec.Raw) -> bytes | None:
    """A record in which each member of every object occurs once, and every text is Unicode or escaped."""
    try:
        record = parse_exact(as_utf8(data))
        return json_text(record).encode() if isinstance(record, dict) else None
    except ValueError:
        return None
