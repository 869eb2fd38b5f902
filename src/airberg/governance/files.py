"""Change proposals as files that `datahub ingest` (source `file`) replays: one per run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from uuid import UUID

from airberg.errors import Unavailable
from airberg.governance.port import Proposal
from airberg.governance.wire import render


class FileSink:
    """Writes `<folder>/<job id>/<run id>.json`, whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def send(self, job_id: UUID, run_id: UUID, proposals: Iterable[Proposal]) -> str:
        """Write the run's file; see `MetadataSink.send`."""
        target = self._folder / str(job_id) / f"{run_id}.json"
        with _unwritable_is_told(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}.", suffix=".tmp")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                for text in render(proposals):  # what this raises is no fault of the file's
                    with _unwritable_is_told(target):
                        file.write(text)
                with _unwritable_is_told(target):
                    _replace(file, temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        return str(target)


def _replace(file: IO[str], temporary: Path, target: Path) -> None:
    """What was written beside the target takes its place: a reader sees the old file or the new one."""
    file.flush()
    os.fsync(file.fileno())
    temporary.chmod(0o644)  # mkstemp makes files that only we can read
    temporary.replace(target)


@contextmanager
def _unwritable_is_told(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"The metadata file {target} could not be written: {error.strerror or type(error).__name__}.",
            guidance="Make the folder writable; the task is tried again.",
            code="metadata-unavailable",
        ) from error
