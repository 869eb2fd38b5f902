"""How fast records become Arrow batches, in one process and without a table: `results/conversion.json`.

    python -m benchmarks.conversion [--quick] [--encrypt users.email]

`records_per_cpu_s` is the work of `airberg.columns` alone: decode the record's data, convert, build batches
of 10,000 rows with metadata columns; best of three passes. `lines_per_cpu_s` is the decoding of the lines
around it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from airberg.columns.batch import BatchBuilder
from airberg.columns.json_schema import stream_fields
from airberg.columns.types import Field
from airberg.keys.cipher import CipherShelf
from airberg.keys.memory import MemoryKeyStore
from airberg.plan.model import StreamPlan, Transformation
from airberg.plan.protection import ProtectionContext
from airberg.plan.transformations import match_rules, plan_columns
from benchmarks.recording import SHAPES, Recording, recording_of
from benchmarks.report import arguments, say, write

BATCH_ROWS = 10_000
QUICK_ROWS = 2_000
PASSES = 3


class Record(msgspec.Struct, gc=False):
    """The part of a RECORD message that is measured."""

    stream: str
    data: msgspec.Raw
    emitted_at: int


class Message(msgspec.Struct, gc=False):
    """One line."""

    record: Record | None = None


def records_by_stream(recorded: Iterable[bytes]) -> dict[str, list[Record]]:
    """All records, by stream."""
    decode = msgspec.json.Decoder(Message).decode
    found: dict[str, list[Record]] = {}
    for line in recorded:
        record = decode(line).record
        if record is not None:
            found.setdefault(record.stream, []).append(record)
    return found


def plan_stream(stream: dict[str, Any], encrypt: list[str]) -> StreamPlan:
    """A plan for a stream as it is, with some columns encrypted."""
    name = stream["name"]
    fields: tuple[Field, ...] = stream_fields(stream["json_schema"])
    wanted = [e.partition(".")[2] for e in encrypt if e.partition(".")[0] == name]
    asked = [Transformation(column=c, transformation_type="encrypt", stream=name) for c in wanted]
    rules = match_rules(asked, {name: fields}, {name: name}, "default", lambda _: None, [])
    context = ProtectionContext(f"bench.{name}")
    return StreamPlan(
        name=name,
        table=name,
        sync_mode="full_refresh",
        mode="append",
        columns=plan_columns(fields, rules[name], context),
        catalog_stream=stream,
    )


def run(plan: StreamPlan, records: list[Record], shelf: CipherShelf) -> tuple[float, int, int]:
    """Seconds for one pass over the records, bytes of the batches, and values that became null."""
    builder = BatchBuilder(plan, add_metadata=True, sync_id=1, generation_id=1, cipher_for=shelf.cipher_for)
    size = 0
    begun = time.process_time()
    for record in records:
        builder.add(record.data, record.emitted_at)
        if len(builder) >= BATCH_ROWS:
            size += builder.flush().nbytes
    size += builder.flush().nbytes
    return time.process_time() - begun, size, builder.values_nulled


def measured(recording: Recording, encrypt: list[str]) -> tuple[int, dict[str, Any]]:
    """Lines per second of decoding, and the figures of each stream of a recording."""
    recorded = recording.messages.read_bytes().splitlines()
    begun = time.process_time()
    by_stream = records_by_stream(recorded)
    lines_per_s = round(len(recorded) / (time.process_time() - begun))
    keys = MemoryKeyStore()
    keys.create("default")
    found = {}
    for declared in json.loads(recording.catalog.read_text())["streams"]:
        plan = plan_stream(declared, encrypt)
        records = by_stream[plan.name]
        best, size, nulled = min(run(plan, records, CipherShelf(keys)) for _ in range(PASSES))
        found[plan.name] = {
            "columns": len(plan.columns),
            "records": len(records),
            "json_bytes_per_record": sum(memoryview(r.data).nbytes for r in records) // len(records),
            "records_per_cpu_s": round(len(records) / best),
            "arrow_bytes": size,
            "values_nulled": nulled,
        }
    return lines_per_s, found


def main() -> int:
    """Measure every stream of every shape."""
    parser = arguments(__doc__)
    parser.add_argument("--encrypt", action="append", default=[], metavar="STREAM.COLUMN")
    options = parser.parse_args()
    shapes: dict[str, dict[str, Any]] = {}
    for name, shape in SHAPES.items():
        recording = recording_of(shape, QUICK_ROWS if options.quick else None)
        lines_per_s, streams = measured(recording, options.encrypt)
        shapes[name] = {"lines_per_cpu_s": lines_per_s, "streams": streams}
    write("conversion", options, ratios={}, targets={}, found_versions={}, figures={"shapes": shapes})
    nulled = [n for s in shapes.values() for n, f in s["streams"].items() if f["values_nulled"]]
    if nulled:
        say(f"NOT EQUAL: values of {', '.join(nulled)} became null, and all of them fit")
    return 1 if nulled else 0


if __name__ == "__main__":
    sys.exit(main())
