"""Storage with room for so many bytes: a write that does not fit is cut off and fails, as on a full disk."""

from __future__ import annotations

import errno
import os
from typing import Any

from pyiceberg.io import OutputFile
from pyiceberg.io.pyarrow import PyArrowFileIO


class FullDisk(PyArrowFileIO):
    """Local storage whose files together may grow by a number of bytes.

    Attributes:
        room: Bytes that are left for all of them; None for no limit.
        written: Bytes written so far.
    """

    room: int | None = None
    written: int = 0

    @classmethod
    def leave(cls, room: int | None) -> None:
        """Leave room for so many bytes from now on."""
        cls.room, cls.written = room, 0

    def new_output(self, location: str) -> Any:
        """A file that may find the disk full."""
        return _Output(super().new_output(location))


class _Output(OutputFile):
    def __init__(self, inner: OutputFile) -> None:
        super().__init__(inner.location)
        self._inner = inner

    def __len__(self) -> int:
        return len(self._inner)

    def exists(self) -> bool:
        return self._inner.exists()

    def to_input_file(self) -> Any:
        return self._inner.to_input_file()

    def create(self, overwrite: bool = False) -> Any:
        return _Stream(self._inner.create(overwrite=overwrite))


class _Stream:
    """A file that is written to."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._inner.close()

    def write(self, content: Any) -> int:
        size = memoryview(content).nbytes
        fits = size if FullDisk.room is None else max(0, min(size, FullDisk.room - FullDisk.written))
        FullDisk.written += fits
        self._inner.write(memoryview(content).cast("B")[:fits])
        if fits < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return size
