"""Raw records of a run, kept when a job asks for it (`archive_staging`).

One zstd-compressed JSON-lines file per stream and attempt. What is protected in the table must not lie in
clear beside it: columns that the job drops or protects are left out, and so is, of their streams, what no
schema declares, because nobody could have asked for its protection.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO
from uuid import UUID

import msgspec
import zstandard

from airberg.plan.model import StreamPlan

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


class StreamArchive:
    """The raw records of one stream in one attempt. The file gets its name when it is closed."""

    def __init__(self, folder: Path, stream: StreamPlan, attempt: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._final = folder / f"{stream.table}.{attempt}.jsonl.zst"
        self._partial = self._final.with_suffix(".partial")
        self._kept = kept_properties(stream)
        self._file: IO[bytes] = os.fdopen(os.open(self._partial, _NEW_FILE, 0o600), "wb")
        self._out = zstandard.ZstdCompressor(level=3).stream_writer(self._file, closefd=False)

    def add(self, data: bytes, emitted_at_ms: int) -> None:
        """Keep one record."""
        raw = data
        if self._kept is not None:
            record = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
            raw = msgspec.json.encode({k: v for k, v in record.items() if k in self._kept})
        self._out.write(b'{"emitted_at":%d,"data":%b}\n' % (emitted_at_ms, raw))

    def close(self) -> None:
        """Finish the file; an attempt that failed keeps what it read."""
        if self._file.closed:
            return
        self._out.flush(zstandard.FLUSH_FRAME)
        self._file.close()
        self._partial.replace(self._final)


def kept_properties(stream: StreamPlan) -> frozenset[str] | None:
    """Top-level properties of a record that may be kept as they came; None when all may."""
    dropped_in = {c.source for c in stream.columns for r in stream.removed if r.startswith(f"{c.source}.")}
    if not stream.removed and not any(c.protects for c in stream.columns):
        return None
    return frozenset(c.source for c in stream.columns if not c.protects) - dropped_in


def archive_folder(root: Path, job_id: UUID, run_id: UUID) -> Path:
    """Where the raw records of a run are."""
    return root / str(job_id) / str(run_id)
