"""Runs a connector verb as a child process that cannot outlive us, see our secrets or fill our memory.

Between us and the connector is `shim.py`, its parent; it sets the limits, watches them, and ends whatever the
connector has started. What the two sides say to each other is described there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

from airberg.errors import ConfigurationFailed, RunError, TransientFailed
from airberg.sources.description import LaunchDescription
from airberg.sources.gateway import Gateway, own_proxy, proxy_variables
from airberg.sources.guard import Guard
from airberg.sources.redact import Redactor
from airberg.sources.variables import NETWORK_VARIABLES
from airberg.sources.workspace import Workspace

MAX_LINE_BYTES = 64 * 1024 * 1024
GRACE_S = 10.0
_SHIM = Path(__file__).with_name("shim.py")
_CHUNK_BYTES = 1024 * 1024
_TAIL_BYTES = 64 * 1024
_LOOK_EVERY_S = 1.0
_LINGER_S = 3.0
_KILL_S = 10.0
NAMESPACE_PORT = 3128
"""Of the proxy, on the loopback of a connector's own network, where nothing else is."""
_MARK = "AIRBERG_CONNECTOR"
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", *NETWORK_VARIABLES)


class ConnectorProcess:
    """One running connector; use as a context manager.

    The process leads a session and process group of its own, dies with the *thread* that started it (Linux,
    `PR_SET_PDEATHSIG`) together with all that it has started, reads nothing from standard input, and has an
    environment of a few harmless variables. Its standard error is read along and only its end is kept.

    Args:
        launch: How to start it, and its limits. Of `log_bytes` its standard error counts, and the other
            output of a verb that is no `read`.
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
        self._limits = launch.limits
        self._verb = verb
        self._log_bytes = 0
        self._exit_code: int | None = None
        self._exceeded: str | None = None
        self._nothing_left = False
        self._reports = threading.RLock()
        self._mark = secrets.token_hex(16)
        self._grace_s = grace_s
        self._max_line_bytes = max_line_bytes
        self._ending = threading.RLock()
        self._tail = bytearray()
        self._tail_cut = False
        self._workspace = Workspace(Path(launch.temporary) if launch.temporary else None)
        self._guard: Guard | None = None
        self._gateway: Gateway | None = None
        try:
            self._guard = Guard(launch, self._workspace.home)
            self._variables = self._way_out(launch)
            self._process = self._start(launch, verb, files or {})
        except OSError as error:
            self._let_go()
            raise TransientFailed(
                f"No process could be started for the connector: {error.strerror}.", code="no-process"
            ) from error
        except BaseException:
            self._let_go()
            raise

    def _way_out(self, launch: LaunchDescription) -> dict[str, str]:
        """The variables that show the connector its way to the network, where it is confined.

        The network of a container is the engine's. A proxy of the deployment's own knows the way out, and has
        to hold the list of hosts itself.
        """
        rules = self._limits.host_rules
        if rules is None or launch.guard or (own_proxy() and not self._limits.network_namespace):
            return {}
        if self._limits.network_namespace:
            return proxy_variables(NAMESPACE_PORT)
        self._gateway = Gateway(rules)
        return self._gateway.variables

    def _let_go(self) -> None:
        """Remove what is not a process of the connector's: proxy and container, if any, and its folders."""
        if self._gateway is not None:
            self._gateway.close()
        if self._guard is not None:
            self._guard.close()
        self._workspace.remove()

    def _start(
        self, launch: LaunchDescription, verb: str, files: Mapping[str, bytes]
    ) -> subprocess.Popen[bytes]:
        options = [
            part
            for name, content in files.items()
            for part in (f"--{name}", str(self._workspace.add(f"{name}.json", content)))
        ]
        self._shim, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with other:
                process = subprocess.Popen(
                    [
                        sys.executable,
                        "-I",
                        "-S",
                        str(_SHIM),
                        *self._shim_values(),
                        "--",
                        *launch.argv,
                        verb,
                        *options,
                    ],
                    stdin=other.fileno(),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    env=_environment(self._workspace.home)
                    | launch.env
                    | self._variables
                    | {_MARK: self._mark},
                    cwd=self._workspace.home,
                    start_new_session=True,
                )
        except BaseException:
            self._shim.close()
            raise
        if self._variables and self._gateway is None:
            self._enter_namespace(process)
        self._shim.setblocking(False)
        os.set_blocking(_opened(process.stderr), False)
        with contextlib.suppress(
            OSError
        ):  # a user's pipes together are limited: then the size stays as it is
            fcntl.fcntl(_opened(process.stdout), fcntl.F_SETPIPE_SZ, _CHUNK_BYTES)
        return process

    def _enter_namespace(self, process: subprocess.Popen[bytes]) -> None:
        """Take the socket that listens in the network of the connector, and let it be started.

        Raises:
            ConfigurationFailed: It has no network of its own here (`no-network-namespace`).
        """
        rules = self._limits.host_rules
        self._shim.settimeout(_KILL_S)
        try:
            said, handles, _, _ = socket.recv_fds(self._shim, 256, 1)
        except OSError:
            said, handles = b"", []
        if rules is None or not handles:
            process.kill()
            process.communicate()
            self._shim.close()
            reason = said.decode().partition(" ")[2] or "it did not start"
            raise ConfigurationFailed(
                f"The connector could not get a network of its own: {reason}.",
                guidance="Allow user namespaces, or set AIRBERG_SOURCES__NETWORK_NAMESPACE=false.",
                code="no-network-namespace",
            )
        self._gateway = Gateway(rules, socket.socket(fileno=handles[0]))
        self._shim.send(b"go")

    def _shim_values(self) -> Iterator[str]:
        yield f"parent={os.getpid()}"
        yield f"home={self._workspace.home}"
        yield f"secrets={self._workspace.secrets}"
        yield f"memory={self._limits.memory_bytes}"
        yield f"disk={self._limits.disk_bytes}"
        yield f"files={self._limits.open_files}"
        yield f"processes={self._limits.processes}"
        if self._variables and self._gateway is None:
            yield f"proxy={NAMESPACE_PORT}"

    def forget(self, name: str) -> None:
        """Remove the file of an option, such as `config`, that the connector has read."""
        self._workspace.forget(f"{name}.json")

    # ---- reading -------------------------------------------------------------------------------------------

    def blocks(self, *, idle_timeout_s: float, deadline: float | None = None) -> Iterator[bytes]:
        """Whole lines of standard output, as many at once as have arrived; each block ends with a line end.

        Ends when the output ends and the process has ended too; `exit_code` is known then.

        Args:
            idle_timeout_s: How long the output may be silent.
            deadline: When it has to be over, on `time.monotonic`'s clock.

        Raises:
            TransientFailed: `connector-idle` or `connector-timeout`, or a limit was exceeded
                (`connector-memory`, `connector-disk`, `connector-processes`, `connector-log`); the process
                has been stopped.
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
        self._raise_exceeded()

    def batches(self, *, idle_timeout_s: float, deadline: float | None = None) -> Iterator[list[bytes]]:
        """The lines of standard output, without their ends, as many at once as have arrived; see `blocks`."""
        for block in self.blocks(idle_timeout_s=idle_timeout_s, deadline=deadline):
            yield block[:-1].split(b"\n")

    def _chunks(self, idle_timeout_s: float, deadline: float | None) -> Iterator[bytes]:
        out, err = _opened(self._process.stdout), _opened(self._process.stderr)
        poll = select.poll()
        poll.register(out, select.POLLIN)
        poll.register(err, select.POLLIN)
        poll.register(self._shim, select.POLLIN)
        heard = time.monotonic()
        pause_ms = min(_LOOK_EVERY_S, idle_timeout_s) * 1000
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(pause_ms)}
            now = time.monotonic()
            if err in ready and not self._read_stderr(err):
                poll.unregister(err)
            if self._shim.fileno() in ready and not self._hear():
                poll.unregister(self._shim)
            self._raise_exceeded()
            if out in ready:
                chunk = os.read(out, _CHUNK_BYTES)
                if not chunk:
                    return
                if self._verb != "read":
                    self._log_bytes += len(chunk)
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
        self._log_bytes += len(data)
        self._tail += data
        if len(self._tail) > _TAIL_BYTES:
            del self._tail[:-_TAIL_BYTES]
            self._tail_cut = True
        return bool(data)

    def _too_long(self) -> RunError:
        return ConfigurationFailed(
            f"The connector wrote a line of more than {self._max_line_bytes // 2**20} MiB.",
            guidance="Leave out the stream or the column that holds such large values."
            if self._verb == "read"
            else "An answer of that size cannot be used; is this a connector?",
            code="line-too-long",
        )

    def _raise_exceeded(self) -> None:
        if self._exceeded:
            raise self._stopped(self._limits.exceeded(self._exceeded))
        if self._log_bytes > self._limits.log_bytes > 0:
            raise self._stopped(self._limits.too_much_log())

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
        return self._exit_code if self._exit_code is not None else self._process.returncode

    @property
    def stderr_tail(self) -> str:
        """The end of its standard error, without secrets."""
        tail = bytes(self._tail)
        if self._tail_cut:  # a secret may have been cut in two: drop the broken line
            _, newline, rest = tail.partition(b"\n")
            tail = rest if newline else tail[self._redactor.longest :]
        return self._redactor.text(tail.decode(errors="replace"))

    def stop(self, grace_s: float | None = None) -> None:
        """End it with all that it has started: SIGTERM for its group, then SIGKILL for what is left.

        Args:
            grace_s: Time between the two, where it is less than usual.

        May be called again, from another thread, and from a signal handler.
        """
        with self._ending:  # so that `close` takes no pipe away that is still read here
            if self._process.returncode is not None:
                return
            if not self._has_ended():
                self._say(b"term")
                self._wait_ended(self._grace_s if grace_s is None else grace_s)
            self._say(b"kill")
            self._wait_shim()
            if not self._nothing_left:  # somebody killed the shim, or it cannot know
                self._process.kill()
                _kill_marked(f"{_MARK}={self._mark}".encode())
            self._process.wait()

    def _say(self, order: bytes) -> None:
        with contextlib.suppress(OSError):  # the shim is gone
            self._shim.send(order)

    def _hear(self) -> bool:
        """Take what the shim has said; False when it is gone."""
        with self._reports:
            while True:
                try:
                    said, _, value = self._shim.recv(256).decode().partition(" ")
                except BlockingIOError:
                    return True
                except OSError:
                    return False
                match said:
                    case "exit":
                        self._exit_code = int(value)
                    case "limit":
                        self._exceeded = value
                    case "none":
                        self._nothing_left = True
                    case _:
                        return False

    def _has_ended(self) -> bool:
        return not self._hear() or self._exit_code is not None

    def _wait_shim(self) -> None:
        """Until all is killed. A process that waits for a broken disk or network file system may not end."""
        deadline = time.monotonic() + _KILL_S
        poll = select.poll()
        poll.register(self._shim, select.POLLIN)
        while self._hear() and not self._nothing_left and time.monotonic() < deadline:
            poll.poll(100)

    def _wait_ended(self, timeout_s: float) -> None:
        err = _opened(self._process.stderr)
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(err, select.POLLIN)
        poll.register(self._shim, select.POLLIN)
        while not self._has_ended() and (left := deadline - time.monotonic()) > 0:
            ready = {descriptor for descriptor, _ in poll.poll(min(left, 0.1) * 1000)}
            if err in ready and not self._read_stderr(err):
                poll.unregister(err)
        poll = select.poll()
        poll.register(err, select.POLLIN)
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
                self._shim.close()
                self._let_go()

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
    own = dict.fromkeys(("HOME", "TMPDIR", "TMP", "TEMP"), str(home))
    # Whoever honours it tells nobody that it was started.
    return {"LANG": "C.UTF-8", "PATH": os.defpath, "DO_NOT_TRACK": "1"} | kept | own


def _kill_marked(mark: bytes) -> None:
    """Kill the processes that have this in their environment: all that can be found without the shim."""
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError, ValueError):  # not ours, or it has just ended
            if mark in entry.read_bytes().split(b"\0"):
                os.kill(int(entry.parent.name), signal.SIGKILL)
