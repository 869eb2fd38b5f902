"""The metadata columns of a batch: identity, moment, changes and generation of its rows."""

from __future__ import annotations

import re
from array import array as int_array
from collections.abc import Mapping, Sequence
from typing import Final, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from airberg.columns.arrow import arrow_type
from airberg.columns.metadata import CHANGE, META, METADATA_FIELDS, UUID_LENGTH, uuid7_block
from airberg.columns.vectors import ChangeLog
from airberg.plan.model import ColumnPlan, Path, StreamPlan

_LAST_MS: Final = 253_402_300_799_999  # the end of year 9999
_META_TYPE: Final = arrow_type(next(f.type for f in METADATA_FIELDS if f.name == META))
_CHANGE_TYPE: Final = arrow_type(CHANGE)
_MOMENT: Final = pa.timestamp("us", tz="UTC")
_CHANGES: Final = ("NULLED", "TRUNCATED")
_REASON: Final = re.compile(r"(?:SOURCE|PLATFORM|DESTINATION)_[A-Z_]{1,60}")
# Those of the Airbyte protocol (AirbyteRecordMessageMetaChange).


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


class Provenance:
    """Makes the metadata columns of a stream's batches, in the order of `METADATA_FIELDS`.

    Args:
        stream: Whose columns they stand beside.
        sync_id: Airbyte's number of the sync.
        generation_id: Airbyte's generation of the stream's data.
    """

    def __init__(self, stream: StreamPlan, sync_id: int, generation_id: int) -> None:
        self._names = {c.source: c.name for c in stream.columns}
        self._protected = stream if stream.protect_state else None
        self._sync_id = pa.scalar(sync_id, pa.int64())
        self._generation_id = pa.scalar(generation_id, pa.int64())

    def arrays(
        self, emitted_ms: pa.Array, log: ChangeLog, source_changes: Mapping[int, Changes]
    ) -> list[pa.Array]:
        """The columns of one batch.

        Args:
            emitted_ms: When each record was emitted, milliseconds since 1970 (int64); null in the table where
                that is no moment that every engine has.
            log: What did not fit, by row.
            source_changes: What the source reported, by row.
        """
        count = len(emitted_ms)
        within = pc.and_(pc.greater_equal(emitted_ms, 0), pc.less_equal(emitted_ms, _LAST_MS))
        known = pc.if_else(within, emitted_ms, pa.scalar(None, pa.int64()))
        return [
            _fixed_width_texts(uuid7_block(count), count, UUID_LENGTH),
            pc.multiply(known, 1000).view(_MOMENT),
            self._meta(log, source_changes, count),
            pa.repeat(self._generation_id, count),
        ]

    def _meta(self, log: ChangeLog, source_changes: Mapping[int, Changes], count: int) -> pa.Array:
        changes: list[dict[str, str]] = []
        offsets = int_array("i", [0]) * (count + 1)
        touched = log.by_row.keys() | source_changes.keys()
        for row in range(count) if touched else ():
            if row in touched:
                reported = map(self._as_change, source_changes.get(row, ()))
                changes.extend(change for change in reported if change is not None)
                changes.extend(log.by_row.get(row, ()))
            offsets[row + 1] = len(changes)
        at = pa.Array.from_buffers(pa.int32(), count + 1, [None, pa.py_buffer(offsets)])
        lists = pa.ListArray.from_arrays(at, pa.array(changes, _CHANGE_TYPE), type=_META_TYPE[1].type)
        sync_ids = pa.repeat(self._sync_id, count)
        return pa.StructArray.from_arrays([sync_ids, lists], fields=list(_META_TYPE))

    def _as_change(self, change: Mapping[str, str] | SourceChange) -> dict[str, str] | None:
        """A change that the source reported, with the name that the field has in the table.

        Beside protected columns it is told in our own words only: None when it is about nothing in the table.
        """
        if isinstance(change, Mapping):
            found = {k: str(change.get(k, "")) for k in ("field", "change", "reason")}
        else:
            found = {"field": change.field, "change": change.change, "reason": change.reason}
        if self._protected is not None:
            return _in_our_words(self._protected.columns, found)
        first, dot, rest = found["field"].partition(".")
        return {**found, "field": self._names.get(first, first) + dot + rest}


def _in_our_words(columns: Sequence[ColumnPlan], change: Mapping[str, str]) -> dict[str, str] | None:
    """A change without any text of the source's that is not a name of the plan or a word of the protocol."""
    path = ".".join(known_path(columns, change["field"]))
    if not path:
        return None
    kind = change["change"] if change["change"] in _CHANGES else ""
    reason = change["reason"] if _REASON.fullmatch(change["reason"]) else ""
    return {"field": path, "change": kind, "reason": reason}


def known_path(columns: Sequence[ColumnPlan], field: str) -> Path:
    """Path in the table of a field of the record, as far as the plan knows it: keys of objects are data."""
    for column in columns:
        if field == column.source or field.startswith(f"{column.source}."):
            return (column.name, *known_path(column.children, field[len(column.source) + 1 :]))
    return ()


def _fixed_width_texts(block: bytes, count: int, width: int) -> pa.Array:
    """A string array whose values all have the same length."""
    offsets = pc.multiply(pa.arange(0, count + 1), width).cast(pa.int32())
    return pa.Array.from_buffers(pa.string(), count, [None, offsets.buffers()[1], pa.py_buffer(block)])
