"""Runs a connector verb as a child process that cannot outlive us, see our secrets or fill our memory."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

from airberg.errors import ConfigurationFailed, RunError, TransientFailed
from airberg.sources.launch import NETWORK_VARIABLES, LaunchDescription
from airberg.sources.redact import Redactor
from airberg.sources.workspace import Workspace

MAX_LINE_BYTES = 64 * 1024 * 1024
GRACE_S = 10.0
_SHIM = Path(__file__).with_name("shim.py")
_CHUNK_BYTES = 1024 * 1024
_TAIL_BYTES = 64 * 1024
_LOOK_EVERY_S = 1.0
_LINGER_S = 3.0
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", *NETWORK_VARIABLES)


class ConnectorProcess:
    """One running connector; use as a context manager.

    The process leads a session and process group of its own, dies with the *thread* that started it (Linux,
    `PR_SET_PDEATHSIG`), reads nothing from standard input, and has an environment of a few harmless
    variables. Its standard error is read along and only its end is kept.

    Args:
        launch: How to start it.
        verb: `spec`, `check`, `discover` or `read`.
        files: Content of the options `--config`, `--catalog`, `--state`, by name without dashes.
        redactor: Takes the secrets out of its standard error.
        grace_s: Time to end by itself, after SIGTERM or after its output has ended.
        max_line_bytes: The longest line that is taken.

    Raises:
        TransientFailed: The operating system could not start a process.
    """

    def __init__(
        self,
        launch: LaunchDescription,
        verb: str,
        files: Mapping[str, bytes] | None = None,
        *,
        redactor: Redactor | None = None,
        grace_s: float = GRACE_S,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self._redactor = redactor or Redactor()
        self._grace_s = grace_s
        self._max_line_bytes = max_line_bytes
        self._ending = threading.RLock()
        self._tail = bytearray()
        self._tail_cut = False
        self._workspace = Workspace(Path(launch.temporary) if launch.temporary else None)
        try:
            self._process = self._start(launch, verb, files or {})
        except OSError as error:
            self._workspace.remove()
            raise TransientFailed(
                f"No process could be started for the connector: {error.strerror}.", code="no-process"
            ) from error
        except BaseException:
            self._workspace.remove()
            raise

    def _start(
        self, launch: LaunchDescription, verb: str, files: Mapping[str, bytes]
    ) -> subprocess.Popen[bytes]:
        options = [
            part
            for name, content in files.items()
            for part in (f"--{name}", str(self._workspace.add(f"{name}.json", content)))
        ]
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", _SHIM, str(os.getpid()), *launch.argv, verb, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=_environment(self._workspace.home) | launch.env,
            cwd=self._workspace.home,
            start_new_session=True,
        )
        os.set_blocking(_opened(process.stderr), False)
        with contextlib.suppress(
            OSError
        ):  # a user's pipes together are limited: then the size stays as it is
            fcntl.fcntl(_opened(process.stdout), fcntl.F_SETPIPE_SZ, _CHUNK_BYTES)
        return process

    # ---- reading -------------------------------------------------------------------------------------------

    def blocks(self, *, idle_timeout_s: float, deadline: float | None = None) -> Iterator[bytes]:
        """Whole lines of standard output, as many at once as have arrived; each block ends with a line end.

        Ends when the output ends and the process has ended too; `exit_code` is known then.

        Args:
            idle_timeout_s: How long the output may be silent.
            deadline: When it has to be over, on `time.monotonic`'s clock.

        Raises:
            TransientFailed: `connector-idle` or `connector-timeout`; the process has been stopped.
            ConfigurationFailed: `line-too-long`; the process has been stopped.
        """
        pending: list[bytes] = []
        size = 0
        for chunk in self._chunks(idle_timeout_s, deadline):
            first = chunk.find(b"\n")
            size += first if first >= 0 else len(chunk)
            if size > self._max_line_bytes:
                raise self._stopped(self._too_long())
            if first < 0:
                pending.append(chunk)
                continue
            end = chunk.rfind(b"\n") + 1
            yield b"".join((*pending, chunk[:end]))
            pending, size = [chunk[end:]], len(chunk) - end
        if last := b"".join(pending):
            yield last + b"\n"
        self._end()

    def batches(self, *, idle_timeout_s: float, deadline: float | None = None) -> Iterator[list[bytes]]:
        """The lines of standard output, without their ends, as many at once as have arrived; see `blocks`."""
        for block in self.blocks(idle_timeout_s=idle_timeout_s, deadline=deadline):
            yield block[:-1].split(b"\n")

    def _chunks(self, idle_timeout_s: float, deadline: float | None) -> Iterator[bytes]:
        out, err = _opened(self._process.stdout), _opened(self._process.stderr)
        poll = select.poll()
        poll.register(out, select.POLLIN)
        poll.register(err, select.POLLIN)
        heard = time.monotonic()
        pause_ms = min(_LOOK_EVERY_S, idle_timeout_s) * 1000
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(pause_ms)}
            now = time.monotonic()
            if err in ready and not self._read_stderr(err):
                poll.unregister(err)
            if out in ready:
                chunk = os.read(out, _CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk
                heard = time.monotonic()  # what our own work took is not the connector's silence
            elif now - heard > _LINGER_S and self._has_ended():
                return  # the process is gone, but one that it started keeps the pipe open
            elif now - heard > idle_timeout_s:
                raise self._stopped(
                    TransientFailed(
                        f"The connector has written nothing for {idle_timeout_s:g} seconds.",
                        guidance="What was read up to the last checkpoint is kept.",
                        code="connector-idle",
                    )
                )
            if deadline is not None and now > deadline:
                raise self._stopped(
                    TransientFailed(
                        "The connector did not answer in time.",
                        guidance="Is the source reachable from here?",
                        code="connector-timeout",
                    )
                )

    def _read_stderr(self, descriptor: int) -> bool:
        """Take what is there; False at the end of it."""
        try:
            data = os.read(descriptor, _TAIL_BYTES)
        except BlockingIOError:  # another thread's `stop` was faster
            return True
        self._tail += data
        if len(self._tail) > _TAIL_BYTES:
            del self._tail[:-_TAIL_BYTES]
            self._tail_cut = True
        return bool(data)

    def _too_long(self) -> RunError:
        return ConfigurationFailed(
            f"The connector wrote a line of more than {self._max_line_bytes // 2**20} MiB.",
            guidance="Leave out the stream or the column that holds such large values.",
            code="line-too-long",
        )

    def _stopped(self, error: RunError) -> RunError:
        self.stop()
        return error

    def _end(self) -> None:
        """The output has ended: give the process time to end as well, then stop what is left of its group."""
        self._wait_ended(self._grace_s)
        self.stop()

    # ---- its end -------------------------------------------------------------------------------------------

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.returncode

    @property
    def stderr_tail(self) -> str:
        """The end of its standard error, without secrets."""
        tail = bytes(self._tail)
        if self._tail_cut:  # a secret may have been cut in two: drop the broken line
            _, newline, rest = tail.partition(b"\n")
            tail = rest if newline else tail[self._redactor.longest :]
        return self._redactor.text(tail.decode(errors="replace"))

    def stop(self) -> None:
        """End the whole process group: SIGTERM, then SIGKILL for what is left.

        May be called again, from another thread, and from a signal handler.
        """
        with self._ending:  # so that `close` takes no pipe away that is still read here
            if self._process.returncode is not None:
                return
            if not self._has_ended():
                self._signal(signal.SIGTERM)
                self._wait_ended(self._grace_s)
            # Children may outlive the leader. It is not reaped yet, so its id cannot mean another group.
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return

    def _has_ended(self) -> bool:
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        except ChildProcessError:  # reaped by another thread's stop
            return True

    def _wait_ended(self, timeout_s: float) -> None:
        err = _opened(self._process.stderr)
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(err, select.POLLIN)
        pause_ms = 5.0
        while not self._has_ended() and time.monotonic() < deadline:
            if poll.poll(pause_ms) and not self._read_stderr(err):
                poll.unregister(err)
            pause_ms = min(pause_ms * 2, 100.0)
        for _ in range(32):  # what is left in the pipe
            if not poll.poll(0) or not self._read_stderr(err):
                break

    def close(self) -> None:
        """Stop it if it still runs, and remove its files."""
        with self._ending:
            try:
                self.stop()
            finally:
                for stream in (self._process.stdout, self._process.stderr):
                    if stream is not None:
                        stream.close()
                self._workspace.remove()

    def __enter__(self) -> ConnectorProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _opened(stream: IO[bytes] | None) -> int:
    if stream is None:
        raise TypeError("the process was started without pipes")
    return stream.fileno()


def _environment(home: Path) -> dict[str, str]:
    """The least that a connector needs: nothing of our own settings, keys or credentials is in it."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {"LANG": "C.UTF-8", "PATH": os.defpath} | kept | {"HOME": str(home), "TMPDIR": str(home)}
