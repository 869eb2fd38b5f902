"""Which staged rows a file holds, where its rows are not a range of them: kept in a temporary file.

Eight bytes a row would not stay in bounds in memory. The file has no name, so nothing is left of it when the
process ends, however it ends.
"""

from __future__ import annotations

import os
import tempfile
import weakref
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
        self._folder = folder
        self._open: tuple[int, weakref.finalize[..., RowNumbers]] | None = None
        self._end = 0

    def add(self, numbers: pa.Array) -> Numbers:
        """Keep numbers (64-bit integers without nulls)."""
        raw = numbers.take(pa.arange(0, len(numbers))).buffers()[1]  # a copy: of a slice only its own part
        packed = memoryview(pa.Codec(_CODEC).compress(raw, asbytes=True))
        kept = Numbers(self._end, len(packed), len(numbers))
        while packed:
            written = os.pwrite(self._descriptor(), packed, self._end)
            packed, self._end = packed[written:], self._end + written
        return kept

    def read(self, kept: Numbers) -> pa.Array:
        """The numbers that `add` kept."""
        packed = os.pread(self._descriptor(), kept.size, kept.offset)
        raw = pa.Codec(_CODEC).decompress(packed, decompressed_size=8 * kept.rows)
        return pa.Array.from_buffers(pa.int64(), kept.rows, [None, raw])

    def read_all(self, parts: tuple[Numbers, ...]) -> Iterator[pa.Array]:
        """The numbers of all rows of a file, in the order of its rows."""
        for kept in parts:
            yield self.read(kept)

    def close(self) -> None:
        """Forget all numbers and free the space; further ones may be added."""
        if self._open is not None:
            self._open[1]()
        self._open, self._end = None, 0

    def _descriptor(self) -> int:
        if self._open is None:
            if self._folder is not None:
                self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._folder) as file:
                descriptor = os.dup(file.fileno())
            self._open = descriptor, weakref.finalize(self, os.close, descriptor)
        return self._open[0]
