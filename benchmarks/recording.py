"""Recordings: files of message lines that are replayed. Made once, the same on every machine, never in git.

    python -m benchmarks.recording SHAPE [--rows 190100]

prints the folder of one. The variable `AIRBERG_RECORDING` names a folder with a real recording of
source-faker (`faker_all.jsonl.zst`, `catalog.json`); then its lines are the recorded shape.
`AIRBERG_BENCH_DIR` is another folder for everything that benchmarks keep.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from airberg.columns.json_schema import stream_fields
from airberg.columns.types import Field
from benchmarks.shape_nested import NESTED
from benchmarks.shape_recorded import RECORDED
from benchmarks.shape_wide import WIDE
from benchmarks.shapes import Shape, block_lines

FORMAT = 2
"""Grows when the same arguments give other lines, so that old files are not taken for new ones."""

SHAPES = {shape.name: shape for shape in (RECORDED, WIDE, NESTED)}
BUILD = Path(os.environ.get("AIRBERG_BENCH_DIR") or Path(__file__).parents[1] / ".build" / "bench").absolute()
"""Recordings, environments and connectors are kept here; what is loaded lies here until it was compared."""

WORK = BUILD / "work" / str(os.getpid())

Lines = Iterator[tuple[str | None, bytes]]


class Facts(msgspec.Struct, frozen=True):
    """What is known of a block's lines."""

    rows: dict[str, int]
    bytes: int
    origin: str

    def __hash__(self) -> int:
        return hash((*self.rows.items(), self.bytes, self.origin))


@dataclass(frozen=True, slots=True)
class Recording:
    """A block of message lines, to be replayed once or many times.

    Attributes:
        folder: `messages.jsonl`, `catalog.json`, and a file of RECORD lines alone for each stream.
        facts: Of one block.
        repeat: How often the block is replayed.
    """

    folder: Path
    facts: Facts
    repeat: int = 1

    @property
    def messages(self) -> Path:
        """All lines of a block."""
        return self.folder / "messages.jsonl"

    @property
    def catalog(self) -> Path:
        """The streams, as `discover` gives them."""
        return self.folder / "catalog.json"

    @property
    def rows(self) -> dict[str, int]:
        """Records of each stream, over all repetitions."""
        return {stream: count * self.repeat for stream, count in self.facts.rows.items()}

    @property
    def total_rows(self) -> int:
        """Records, over all repetitions."""
        return sum(self.rows.values())

    @property
    def total_bytes(self) -> int:
        """Bytes of the lines, over all repetitions."""
        return self.facts.bytes * self.repeat

    def records_of(self, stream: str) -> Path:
        """The file that has the RECORD lines of one stream and no others."""
        return self.folder / "streams" / f"{stream}.jsonl"

    def fields(self) -> dict[str, tuple[Field, ...]]:
        """Columns of each stream."""
        streams = json.loads(self.catalog.read_text())["streams"]
        return {s["name"]: stream_fields(s["json_schema"]) for s in streams}

    def times(self, rows: int) -> Recording:
        """The recording, repeated until it has at least so many rows."""
        block = sum(self.facts.rows.values())
        return Recording(self.folder, self.facts, max(1, -(-rows // block)))


def recording_of(shape: Shape, rows: int | None = None) -> Recording:
    """One block of a shape; made when it is not there yet.

    Args:
        shape: Which.
        rows: Rows of the block, when it should not have the usual size.
    """
    block_rows = rows or shape.block_rows
    given = os.environ.get("AIRBERG_RECORDING")
    if given and shape is RECORDED and block_rows == shape.block_rows:
        return _made(
            BUILD / "recordings" / "given", _given_lines(Path(given)), _given_catalog(Path(given)), given
        )
    catalog = {"streams": [stream.declared for stream in shape.streams]}
    folder = BUILD / "recordings" / f"{shape.name}-{block_rows}-{FORMAT}"
    return _made(folder, block_lines(shape, block_rows), catalog, "generated")


def _made(folder: Path, lines: Lines, catalog: dict[str, Any], origin: str) -> Recording:
    described = folder / "facts.json"
    if described.exists():
        facts = msgspec.json.decode(described.read_bytes(), type=Facts)
        if facts.origin == origin:
            return Recording(folder, facts)
    final, folder = (
        folder,
        folder.with_name(f"{folder.name}.{os.getpid()}"),
    )  # two processes may make the same
    (folder / "streams").mkdir(parents=True)
    counts: Counter[str] = Counter()
    size = 0
    names = [stream["name"] for stream in catalog["streams"]]
    files = {name: (folder / "streams" / f"{name}.jsonl").open("wb") for name in names}
    with (folder / "messages.jsonl").open("wb") as out:
        for stream, line in lines:
            out.write(line)
            size += len(line)
            if stream is not None:
                files[stream].write(line)
                counts[stream] += 1
    for file in files.values():
        file.close()
    (folder / "catalog.json").write_text(json.dumps(catalog))
    facts = Facts(rows={name: counts[name] for name in names}, bytes=size, origin=origin)
    (folder / "facts.json").write_bytes(msgspec.json.encode(facts))
    shutil.rmtree(final, ignore_errors=True)
    folder.rename(final)
    return Recording(final, facts)


class _Named(msgspec.Struct):
    stream: str


class _Line(msgspec.Struct):
    record: _Named | None = None


def _given_lines(folder: Path) -> Lines:
    decode = msgspec.json.Decoder(_Line).decode
    with (folder / "faker_all.jsonl.zst").open("rb") as file:
        for line in io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file)):
            record = decode(line).record
            yield record.stream if record else None, line


def _given_catalog(folder: Path) -> dict[str, Any]:
    catalog: dict[str, Any] = json.loads((folder / "catalog.json").read_text())
    return catalog


def main() -> int:
    """Make a recording."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("--rows", type=int)
    options = parser.parse_args()
    made = recording_of(SHAPES[options.shape], options.rows)
    print(made.folder)
    print(json.dumps({"rows": made.rows, "bytes": made.total_bytes}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
