"""Which staged rows a file holds, where its rows are not a range of them: kept in a temporary file.

Eight bytes a row would not stay in bounds in memory. The file has no name, so nothing is left of it when the
process ends, however it ends.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

_CODEC = "zstd"


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of some consecutive rows of a file: where they are kept."""

    offset: int
    size: int
    rows: int


class RowNumbers:
    """A temporary file of row numbers.

    Args:
        folder: Where it lies; None for the system's folder for temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as this object
        self._end = 0

    def add(self, numbers: pa.Array) -> Numbers:
        """Keep numbers (64-bit integers without nulls)."""
        raw = numbers.take(pa.arange(0, len(numbers))).buffers()[1]  # a copy: of a slice only its own part
        packed = memoryview(pa.Codec(_CODEC).compress(raw, memory_pool=None))
        kept = Numbers(self._end, len(packed), len(numbers))
        while packed:
            written = os.pwrite(self._file.fileno(), packed, self._end)
            packed, self._end = packed[written:], self._end + written
        return kept

    def read(self, kept: Numbers) -> pa.Array:
        """The numbers that `add` kept."""
        packed = os.pread(self._file.fileno(), kept.size, kept.offset)
        raw = pa.Codec(_CODEC).decompress(packed, decompressed_size=8 * kept.rows)
        return pa.Array.from_buffers(pa.int64(), kept.rows, [None, raw])

    def read_all(self, parts: tuple[Numbers, ...]) -> Iterator[pa.Array]:
        """The numbers of all rows of a file, in the order of its rows."""
        for kept in parts:
            yield self.read(kept)

    def close(self) -> None:
        """Free the space."""
        self._file.close()
