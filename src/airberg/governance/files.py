"""Change proposals as files that `datahub ingest` (source `file`) replays: one per run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from airberg.errors import Unavailable
from airberg.governance.port import Proposal
from airberg.governance.wire import render


class FileSink:
    """Writes `<folder>/<job id>/<run id>.json`, whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def send(self, job_id: UUID, run_id: UUID, proposals: Sequence[Proposal]) -> str:
        """Write the run's file; see `MetadataSink.send`."""
        target = self._folder / str(job_id) / f"{run_id}.json"
        text = render(proposals)
        try:
            _write_whole(target, text)
        except OSError as error:
            raise Unavailable(
                f"The metadata file {target} could not be written: {error.strerror or type(error).__name__}.",
                guidance="Make the folder writable; the task is tried again.",
                code="metadata-unavailable",
            ) from error
        return str(target)


def _write_whole(target: Path, text: str) -> None:
    """Write beside the target and rename: a reader sees the old file or the new one, never a part."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes files that only we can read
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
