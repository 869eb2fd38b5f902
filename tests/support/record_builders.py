"""Both builders of batches behind one face, so that one suite says what both have to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias

import msgspec
import pyarrow as pa

from airberg.columns.batch import BatchBuilder
from airberg.columns.native import NativeBuilder, NativeReader
from airberg.columns.types import Field
from airberg.plan.model import StreamPlan
from airberg.protocol.state import StateKey

Way: TypeAlias = Literal["python", "native"]
WAYS: tuple[Way, ...] = ("python", "native")
_way: ContextVar[Way] = ContextVar("way", default="python")


@contextmanager
def built_by(way: Way) -> Iterator[None]:
    """Let `make_builder` make builders of one kind."""
    token = _way.set(way)
    try:
        yield
    finally:
        _way.reset(token)


def make_builder(stream: StreamPlan, **options: Any) -> BatchBuilder | NativeLines:
    """A builder of the kind that the test is about."""
    return BatchBuilder(stream, **options) if _way.get() == "python" else NativeLines(stream, **options)


class NativeLines:
    """A `NativeBuilder` whose records come in lines, as they do in a sync.

    Attributes:
        by_python: How many records the compiled reader gave back.
    """

    def __init__(self, stream: StreamPlan, **options: Any) -> None:
        self.builder = NativeBuilder(stream, **options)
        self._key = StateKey(stream.namespace or None, stream.name)
        self._reader = NativeReader({self._key: self.builder})
        self.by_python = 0

    @property
    def schema(self) -> pa.Schema:
        """Schema of the batches."""
        return self.builder.schema

    @property
    def fields(self) -> tuple[Field, ...]:
        """The table's fields."""
        return self.builder.fields

    @property
    def values_nulled(self) -> int:
        """How many values became null."""
        return self.builder.values_nulled

    @property
    def nbytes(self) -> int:
        """Size of what waits."""
        return self.builder.nbytes

    def __len__(self) -> int:
        return len(self.builder)

    def add(self, data: bytes | msgspec.Raw, emitted_at_ms: int, source_changes: Any = ()) -> None:
        """Put the record into a line and have it read; what is not taken is added by itself."""
        if b"\n" in bytes(data) or not data or not bytes(data).strip():
            self._by_python(data, emitted_at_ms, source_changes)  # no line could have brought it
            return
        meta = b',"meta":' + msgspec.json.encode({"changes": list(source_changes)}) if source_changes else b""
        name = msgspec.json.encode(self._key.name)
        space = b'"namespace":%b,' % msgspec.json.encode(self._key.namespace) if self._key.namespace else b""
        line = b'{"type":"RECORD","record":{%b"stream":%b,"data":%b,"emitted_at":%d%b}}\n' % (
            *(space, name, bytes(data), emitted_at_ms, meta),
        )
        before = len(self.builder)
        if self._reader.feed(line, 0).outcome == 0:
            assert len(self.builder) == before + 1
            return
        assert len(self.builder) == before
        self._by_python(data, emitted_at_ms, source_changes)

    def _by_python(self, data: bytes | msgspec.Raw, emitted_at_ms: int, source_changes: Any) -> None:
        self.by_python += 1
        self.builder.add(data, emitted_at_ms, source_changes)

    def flush(self) -> pa.RecordBatch:
        """The batch."""
        return self.builder.flush()
