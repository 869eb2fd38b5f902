"""Raw records of a run, kept when a job asks for it (`archive_staging`).

One zstd-compressed JSON-lines file per stream and attempt. Columns that the job drops or protects are left
out: what is protected in the table must not lie in clear beside it.
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
        self._hidden = hidden_properties(stream)
        self._file: IO[bytes] = os.fdopen(os.open(self._partial, _NEW_FILE, 0o600), "wb")
        self._out = zstandard.ZstdCompressor(level=3).stream_writer(self._file, closefd=False)

    def add(self, data: bytes, emitted_at_ms: int) -> None:
        """Keep one record."""
        raw = data
        if self._hidden:
            record = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
            kept = {k: v for k, v in record.items() if k not in self._hidden}
            raw = msgspec.json.encode(kept)
        self._out.write(b'{"emitted_at":%d,"data":%b}\n' % (emitted_at_ms, raw))

    def close(self) -> None:
        """Finish the file; an attempt that failed keeps what it read."""
        if self._file.closed:
            return
        self._out.flush(zstandard.FLUSH_FRAME)
        self._file.close()
        self._partial.replace(self._final)


def hidden_properties(stream: StreamPlan) -> frozenset[str]:
    """Top-level properties of a record that hold something protected or dropped."""
    hidden = {dotted for dotted in stream.removed if any(dotted == p for p in _properties(stream))}
    hidden |= {p for p in _properties(stream) for dotted in stream.removed if dotted.startswith(p + ".")}
    for column in stream.columns:
        if column.protects:
            hidden.add(column.source)
    return frozenset(hidden)


def _properties(stream: StreamPlan) -> list[str]:
    declared = (stream.catalog_stream.get("json_schema") or {}).get("properties") or {}
    return list(declared)


def archive_folder(root: Path, job_id: UUID, run_id: UUID) -> Path:
    """Where the raw records of a run are."""
    return root / str(job_id) / str(run_id)
