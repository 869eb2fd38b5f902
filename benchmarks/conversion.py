"""How fast records become Arrow batches: prints one JSON object per stream of a recording.

    python benchmarks/columns.py RECORDING.jsonl[.zst] CONFIGURED_CATALOG.json [--encrypt users.email]

`columns` is the work of `airberg.columns` alone: decode the record's data, convert, build batches of 10,000
rows with metadata columns. `lines` is the decoding of the message lines around it. Best of three passes.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from airberg.columns.batch import BatchBuilder
from airberg.columns.json_schema import stream_fields
from airberg.columns.types import Field
from airberg.keys.cipher import CipherShelf
from airberg.keys.memory import MemoryKeyStore
from airberg.plan.model import StreamPlan, Transformation
from airberg.plan.transformations import EncryptionContext, match_rules, plan_columns

BATCH_ROWS = 10_000
PASSES = 3


class Record(msgspec.Struct, gc=False):
    """The part of a RECORD message that is measured."""

    stream: str
    data: msgspec.Raw
    emitted_at: int


class Message(msgspec.Struct, gc=False):
    """One line."""

    record: Record | None = None


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a recording."""
    with path.open("rb") as file:
        packed = path.suffix == ".zst"
        raw = zstandard.ZstdDecompressor().stream_reader(file) if packed else file
        yield from io.BufferedReader(raw)


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
    rules = match_rules(asked, {name: fields}, {name: name}, "default", lambda _: True, [])
    context = EncryptionContext(f"bench.{name}", frozenset())
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


def main() -> None:
    """Measure every stream of the recording."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", type=Path)
    parser.add_argument("catalog", type=Path)
    parser.add_argument("--encrypt", action="append", default=[], metavar="STREAM.COLUMN")
    options = parser.parse_args()
    recorded = list(lines(options.recording))
    begun = time.process_time()
    by_stream = records_by_stream(recorded)
    seconds = time.process_time() - begun
    sys.stdout.write(
        json.dumps({"lines": len(recorded), "lines_per_s": round(len(recorded) / seconds)}) + "\n"
    )
    keys = MemoryKeyStore()
    keys.create("default")
    for configured in json.loads(options.catalog.read_text())["streams"]:
        plan = plan_stream(configured["stream"], options.encrypt)
        records = by_stream.get(plan.name, [])
        if not records:
            continue
        best, size, nulled = min(run(plan, records, CipherShelf(keys)) for _ in range(PASSES))
        result = {
            "stream": plan.name,
            "columns": len(plan.columns),
            "records": len(records),
            "json_bytes_per_record": sum(memoryview(r.data).nbytes for r in records) // len(records),
            "records_per_cpu_s": round(len(records) / best),
            "arrow_bytes": size,
            "values_nulled": nulled,
        }
        sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
