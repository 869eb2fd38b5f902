"""The private folders of one connector process.

Two folders, because they want different things: configuration and state (they hold secrets and values) belong
in memory, the connector's own temporary files may be large and belong on disk, unless columns are protected.
Both are removed at the end; what a killed process of ours left behind is removed by the next one: each folder
is held by a lock that dies with its holder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from airberg.settings import Settings
    from airberg.sources.launch import LaunchDescription

_PREFIX = "airberg-run-"
_MEMORY = Path("/dev/shm")  # noqa: S108 - memory-backed; each folder below it is private
_HOLD = ".held"
_YOUNG_S = 60.0


def for_protected_columns(launch: LaunchDescription, settings: Settings) -> LaunchDescription:
    """The connector of a job that protects columns: what it puts aside of its rows does not go to disk.

    Connectors keep answers of the source, and downloaded files, in temporary files. They go into memory, or
    where the deployment says (`sources.protected_temp_dir`).
    """
    folder = settings.sources.protected_temp_dir or _memory()
    return msgspec.structs.replace(launch, temporary=str(folder))


class Workspace:
    """Private folders (mode 0700) for one connector process; use as a context manager.

    Args:
        temporary: Where `home` is made; None for the system's folder for temporary files.

    Attributes:
        home: Becomes `HOME`, `TMPDIR` and the working folder of the connector.
        secrets: Holds its configuration.
    """

    def __init__(self, temporary: Path | None = None) -> None:
        disk, memory = temporary or Path(tempfile.gettempdir()), _memory()
        for base in {disk, memory}:
            _sweep(base)
        self._held: list[tuple[Path, IO[bytes]]] = []
        try:
            self.home = self._make(disk)
            self.secrets = self._make(memory)
        except BaseException:
            self.remove()
            raise

    def _make(self, base: Path) -> Path:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        # Locked before it has its name: another process that sweeps must never find it free.
        unnamed = folder / f"{_HOLD}.new"
        hold = unnamed.open("wb")
        fcntl.flock(hold, fcntl.LOCK_EX)
        unnamed.rename(folder / _HOLD)
        self._held.append((folder, hold))
        return folder

    def add(self, name: str, content: bytes) -> Path:
        """Write a file that only we can read (mode 0600)."""
        path = self.secrets / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        return path

    def forget(self, name: str) -> None:
        """Remove a file that was added, if it is still there."""
        with contextlib.suppress(OSError):
            (self.secrets / name).unlink()

    def remove(self) -> None:
        """Remove both folders with all that is in them."""
        while self._held:
            folder, hold = self._held.pop()
            remove_tree(folder)
            hold.close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def remove_tree(folder: Path) -> None:
    """Remove a folder, however deep it is and whatever modes its folders have."""
    with contextlib.suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        with contextlib.suppress(OSError):
            _flatten(folder)


def _flatten(folder: Path) -> None:
    """Move what is deeper to the top until there is nothing deeper: no path gets long, no stack deep."""
    number = 0
    while True:
        below = _remove_files(folder)
        if not below:
            folder.rmdir()
            return
        for path in below:
            for deeper in _remove_files(path):
                number += 1
                deeper.rename(folder / f".{folder.name}-{number}")
            path.rmdir()


def _remove_files(folder: Path) -> list[Path]:
    """Remove its files; its folders are what is left."""
    folder.chmod(0o700)
    left = []
    with os.scandir(folder) as entries:
        for entry in list(entries):
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                path.chmod(0o700)  # one that cannot be written cannot be moved either
                left.append(path)
            else:
                path.unlink()
    return left


def _memory() -> Path:
    """A memory-backed folder where there is one."""
    return _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


def _sweep(base: Path) -> None:
    """Remove folders of ours whose holder is gone."""
    for folder in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            if status.st_uid != os.getuid():
                continue
            if not (folder / _HOLD).exists():
                if time.time() - status.st_mtime > _YOUNG_S:  # a young one is just being made
                    remove_tree(folder)
                continue
            with (folder / _HOLD).open("rb") as hold:
                fcntl.flock(hold, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: alive
                remove_tree(folder)
