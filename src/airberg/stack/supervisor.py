"""Starts, watches and ends the processes of the stack."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from airberg.errors import TransientFailed
from airberg.stack import keeper

GRACE_S = 5.0
LOG_LIMIT_BYTES = 20 * 1024 * 1024
TAIL_LINES = 15
_KEEPER = Path(keeper.__file__)
_KEEPER_OWN_S = keeper.SECOND_GRACE_S + keeper.LAST_GRACE_S + 5.0


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a process.

    Attributes:
        name: For people and for the name of the log file.
        environment: All of it; nothing is inherited.
        cwd: Its working folder.
        grace_s: Time between SIGTERM to its process group and to all that it has started.
        stop_first: Ended before those that are not (it still needs them while it ends).
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: Path
    grace_s: float = GRACE_S
    stop_first: bool = False


class Kept:
    """A running process behind its keeper (see `airberg.stack.keeper`)."""

    def __init__(self, command: Command, log_path: Path) -> None:
        self.command = command
        self.log_path = log_path
        _rotate(log_path)
        with log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_KEEPER), str(command.grace_s), *command.argv],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(command.environment),
                cwd=command.cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id of the keeper."""
        return self._process.pid

    def poll(self) -> int | None:
        """Exit code of the command if it has ended."""
        return self._process.poll()

    def ask_to_stop(self) -> None:
        """Let go of it: the keeper ends its tree."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def wait(self, timeout_s: float) -> int | None:
        """Exit code, or None when it has not ended in time."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """End it with all that it started, and wait for that."""
        self.ask_to_stop()
        if self.wait(self.command.grace_s + _KEEPER_OWN_S) is None:
            below = keeper.descendants(self._process.pid)
            self._process.kill()
            keeper.send(below, signal.SIGKILL)
            self._process.wait()

    def last_lines(self, count: int = TAIL_LINES) -> str:
        """The end of what it has printed since it was started."""
        with self.log_path.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(min(self._log_start, end), end - 64 * 1024))
            lines = log.read().decode("utf-8", errors="replace").splitlines()
        return "\n".join(lines[-count:])


class Supervisor:
    """All processes of one stack. Safe to be used from several threads.

    Args:
        logs_dir: Where their output goes, one file each.
    """

    def __init__(self, logs_dir: Path) -> None:
        self._logs_dir = logs_dir
        self._services: list[Kept] = []
        self._tools: set[Kept] = set()
        self._stopping = False
        self._lock = threading.Lock()

    def start(self, command: Command) -> Kept:
        """Start a process that is to stay until `stop`; `check` tells when it does not.

        Raises:
            TransientFailed: The stack is being stopped.
        """
        with self._lock:
            kept = self._start(command)
            self._services.append(kept)
            return kept

    def run(self, command: Command) -> tuple[int, str]:
        """Run a process to its end.

        Returns:
            Its exit code and the last lines that it printed.

        Raises:
            TransientFailed: The stack is being stopped.
        """
        with self._lock:
            tool = self._start(command)
            self._tools.add(tool)
        try:
            while (code := tool.wait(3600.0)) is None:
                pass
            return code, tool.last_lines()
        finally:
            tool.stop()
            with self._lock:
                self._tools.discard(tool)

    def check(self) -> None:
        """See whether all are alive.

        Raises:
            TransientFailed: One has ended by itself; the message has the end of its log.
        """
        with self._lock:
            services = [] if self._stopping else list(self._services)
        for kept in services:
            code = kept.poll()
            if code is not None:
                raise TransientFailed(
                    f"{kept.command.name} ended with exit code {code}. Its last lines:\n{kept.last_lines()}",
                    guidance=f"The whole log is {kept.log_path}.",
                    code="part-ended",
                )

    def stop(self) -> None:
        """End all processes; may be called more than once."""
        with self._lock:
            self._stopping = True
            services, tools = list(self._services), list(self._tools)
        _stop_all([*tools, *(k for k in services if k.command.stop_first)])
        _stop_all([k for k in services if not k.command.stop_first])

    def _start(self, command: Command) -> Kept:
        if self._stopping:
            raise TransientFailed("The stack is being stopped.", code="stack-stopping")
        self._logs_dir.mkdir(parents=True, exist_ok=True)
        return Kept(command, self._logs_dir / f"{command.name}.log")


def _stop_all(processes: list[Kept]) -> None:
    """Ask all of them before waiting for the first."""
    for kept in processes:
        kept.ask_to_stop()
    for kept in processes:
        kept.stop()


def _rotate(log_path: Path) -> None:
    """Keep one old log when the current one has grown large."""
    with contextlib.suppress(FileNotFoundError):
        if log_path.stat().st_size > LOG_LIMIT_BYTES:
            log_path.replace(log_path.with_suffix(".log.1"))


def wait_until(deadline: float, *, every_s: float = 0.1) -> bool:
    """Wait a little for a condition to be looked at again; False when the deadline has passed.

    Args:
        deadline: By `time.monotonic()`.
        every_s: How long to wait at most.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        return False
    time.sleep(min(every_s, left))
    return True
