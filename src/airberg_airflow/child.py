"""A command of Airberg as a child of an Airflow task. No Airflow in here."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

ERROR_MARK = "error: "
TASK_VARIABLE = "AIRBERG_TASK_PROCESS"
"""Tells the child our process id: it ends when we have ended before it could ask to be told of that."""
MAX_LINE = 16_384
"""Longer lines are cut in pieces; a task log is no place for them, and memory must stay bounded."""
_LOOK_EVERY_S = 1.0
_HIDDEN = ("AIRFLOW__", "_AIRFLOW", "__AIRFLOW")
_HIDDEN_NAMES = frozenset({"PYTHONPATH", "PYTHONHOME", "AIRFLOW_HOME", "AIRBERG_AIRFLOW__BUNDLE_TOKEN"})


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what belongs to Airflow: its keys must not reach a connector."""
    kept = {k: v for k, v in environment.items() if not k.startswith(_HIDDEN) and k not in _HIDDEN_NAMES}
    return kept | {"PYTHONUNBUFFERED": "1"}


@contextlib.contextmanager
def result_file() -> Iterator[Path]:
    """A place for a file that a command writes for us, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="airberg-") as folder:
        yield Path(folder) / "result"


def result_in(file: Path, limit: int) -> bytes | None:
    """What the command wrote there, with one byte more than the limit at most; None if it wrote nothing."""
    try:
        with file.open("rb") as opened:
            return opened.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as e:
        return str(e).encode()  # nothing that can be understood


class SupervisorEnded(Exception):
    """The process that started us, Airflow's supervisor of the task, has ended: nobody waits for us."""


class Child:
    """One child process in its own process group.

    Args:
        argv: Its command line.
        environment: Its whole environment.
        grace_s: What it gets between SIGTERM and SIGKILL.

    Attributes:
        error: Text of the last line that began with `error: `, without that; None if there was none.
    """

    def __init__(self, argv: list[str], environment: Mapping[str, str], grace_s: float = 4.0) -> None:
        self.error: str | None = None
        self._grace_s = grace_s
        self._supervisor = os.getppid()
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment) | {TASK_VARIABLE: str(os.getpid())},
            start_new_session=True,
        )

    def follow(self, say: Callable[[str], None]) -> int:
        """Pass on what it prints, line by line, until it ends.

        A grandchild that keeps the pipe open does not keep us. Whatever is left of the process group at
        the end is killed. An exception (a time-out of the task) stops the process as `stop` does.

        Returns:
            Its exit code; negative for a signal, as in `subprocess`.

        Raises:
            SupervisorEnded: Our own parent has ended (a worker that was killed tells its tasks nothing).
        """
        assert self._process.stdout is not None  # noqa: S101 - it was opened as a pipe
        try:
            for line in self._lines(self._process.stdout):
                if line.startswith(ERROR_MARK):
                    self.error = line.removeprefix(ERROR_MARK).strip()
                say(line)
        except BaseException:
            self.stop()
            raise
        finally:
            self._signal_group(signal.SIGKILL)
            code = self._process.wait()
            self._process.stdout.close()
        return code

    def stop(self) -> None:
        """SIGTERM to the whole group, SIGKILL to what is left of it after a while.

        May be called from a signal handler that interrupted `follow`: it does not reap the process.
        """
        self._signal_group(signal.SIGTERM)
        deadline = time.monotonic() + self._grace_s
        while not self._has_exited() and time.monotonic() < deadline:
            time.sleep(0.05)
        self._signal_group(signal.SIGKILL)

    def _has_exited(self) -> bool:
        if self._process.returncode is not None:
            return True
        with contextlib.suppress(ChildProcessError):
            # Not reaped here, so that the number of the group cannot go to another process meanwhile.
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        return True

    def _signal_group(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _lines(self, pipe: IO[bytes]) -> Iterator[str]:
        rest = b""
        os.set_blocking(pipe.fileno(), False)
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while True:
                if os.getppid() != self._supervisor:
                    raise SupervisorEnded
                ended = self._has_exited()  # asked first: what it wrote before that is still to be read
                if not selector.select(0 if ended else _LOOK_EVERY_S):
                    if ended:
                        break
                    continue
                chunk = os.read(pipe.fileno(), 65_536)
                if not chunk:
                    break
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield from _pieces(line)
                while len(rest) > MAX_LINE:
                    yield _text(rest[:MAX_LINE])
                    rest = rest[MAX_LINE:]
        if rest:
            yield from _pieces(rest)


def _pieces(line: bytes) -> Iterator[str]:
    for start in range(0, max(len(line), 1), MAX_LINE):
        yield _text(line[start : start + MAX_LINE])


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rstrip("\r")
