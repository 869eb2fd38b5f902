"""What a shape of data is: streams with schemas and records, and the lines that a connector writes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

STATE_EVERY = 1_000
EMITTED_AT = 1_767_225_600_000
SEED = 7

MakeRecord = Callable[[int, random.Random], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class StreamShape:
    """One stream.

    Attributes:
        name: Its name.
        properties: The properties of its JSON schema.
        make: Makes record number n, from 1.
        share: Its part of a block's rows.
    """

    name: str
    properties: dict[str, Any]
    make: MakeRecord
    share: float

    @property
    def declared(self) -> dict[str, Any]:
        """The stream as `discover` gives it."""
        return {
            "name": self.name,
            "json_schema": {"type": "object", "properties": self.properties},
            "supported_sync_modes": ["full_refresh", "incremental"],
            "source_defined_cursor": True,
            "default_cursor_field": ["updated_at"],
            "source_defined_primary_key": [["id"]],
            "is_resumable": True,
        }


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape of data.

    Attributes:
        name: Its name.
        title: For readers.
        block_rows: Rows of one block; the fast contenders load the block many times.
        part_rows: Rows of the smaller recording that the slowest contenders load.
        streams: Its streams, in the order in which they are read.
    """

    name: str
    title: str
    block_rows: int
    part_rows: int
    streams: tuple[StreamShape, ...]

    def rows_of(self, stream: StreamShape, block_rows: int) -> int:
        """Rows of a stream in a block; the last stream has what is left."""
        if stream is self.streams[-1]:
            return block_rows - sum(self.rows_of(s, block_rows) for s in self.streams[:-1])
        return max(1, int(block_rows * stream.share))


def log(message: str) -> dict[str, Any]:
    """A LOG message."""
    return {"type": "LOG", "log": {"level": "INFO", "message": message}}


def status(stream: str, phase: str) -> dict[str, Any]:
    """A stream status."""
    return {
        "type": "TRACE",
        "trace": {
            "type": "STREAM_STATUS",
            "emitted_at": EMITTED_AT + 0.25,
            "stream_status": {"stream_descriptor": {"name": stream}, "status": phase},
        },
    }


def estimate(stream: str, rows: int) -> dict[str, Any]:
    """An estimate of a stream's size."""
    size = {"name": stream, "type": "STREAM", "row_estimate": rows, "byte_estimate": rows * 180}
    return {"type": "TRACE", "trace": {"type": "ESTIMATE", "emitted_at": EMITTED_AT, "estimate": size}}


def state(stream: str, offset: int, count: int) -> dict[str, Any]:
    """A state that covers `count` records."""
    return {
        "type": "STATE",
        "state": {
            "type": "STREAM",
            "stream": {
                "stream_descriptor": {"name": stream},
                "stream_state": {
                    "seed": SEED,
                    "updated_at": "2026-01-01T00:00:00+00:00",
                    "loop_offset": offset,
                },
            },
            "sourceStats": {"recordCount": float(count)},
        },
    }


def stream_messages(
    stream: StreamShape, records: Sequence[dict[str, Any]] | Iterator[dict[str, Any]], rows: int
) -> Iterator[dict[str, Any]]:
    """The messages of one stream as Airbyte's Python SDK writes them: a state each 1,000 records."""
    yield log(f"Marking stream {stream.name} as STARTED")
    yield status(stream.name, "STARTED")
    yield log(f"Syncing stream: {stream.name} ")
    yield estimate(stream.name, rows)
    yield log(f"Marking stream {stream.name} as RUNNING")
    yield status(stream.name, "RUNNING")
    since = number = 0
    for number, record in enumerate(records, 1):
        emitted = EMITTED_AT + number // 5
        yield {"type": "RECORD", "record": {"stream": stream.name, "data": record, "emitted_at": emitted}}
        since += 1
        if since == STATE_EVERY:
            yield state(stream.name, number, since)
            since = 0
    if since:
        yield state(stream.name, number, since)
    yield log(f"Read {number} records from {stream.name} stream")
    yield status(stream.name, "COMPLETE")
    yield log(f"Finished syncing {stream.name}")


def block_lines(shape: Shape, block_rows: int) -> Iterator[tuple[str | None, bytes]]:
    """Each line of a block, with the stream if it is a record; always the same for the same arguments."""
    encode = msgspec.json.Encoder().encode
    yield None, encode(log(f"Starting syncing {shape.name}")) + b"\n"
    for stream in shape.streams:
        dice = random.Random(SEED)
        rows = shape.rows_of(stream, block_rows)
        records = (stream.make(number, dice) for number in range(1, rows + 1))
        for message in stream_messages(stream, records, rows):
            yield stream.name if message["type"] == "RECORD" else None, encode(message) + b"\n"
    yield None, encode(log(f"Finished syncing {shape.name}")) + b"\n"
