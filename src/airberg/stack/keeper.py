"""Keeps one process, and sees to it that nothing of it is left when it ends or when we do.

Run as a script of its own: `python -I -S keeper.py GRACE_S COMMAND...`, standard library only. It stands
between the supervisor and a part of the stack because only the parent of a process tree can do this well:

- it adopts orphans of the tree (`PR_SET_CHILD_SUBREAPER`), so that none of them can slip away;
- its standard input is a pipe from the supervisor, which closes however the supervisor ends;
- its own child gets SIGKILL should the keeper be killed (`PR_SET_PDEATHSIG`).

To stop: SIGTERM to the command's process group; after GRACE_S, SIGTERM to every process of the tree; five
seconds later SIGKILL to what is left. Its exit code is that of the command (128 + n for signal n).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
SECOND_GRACE_S = 5.0
LAST_GRACE_S = 5.0
TICK_S = 0.05


def set_process_option(option: int, value: int) -> None:
    """`prctl(2)`, where there is one; elsewhere process groups have to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """Process ids of all below a process that have not ended, from `/proc`."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # pid (name) state ppid ...; the name may hold anything, parentheses too.
            state, parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry.name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def reap() -> dict[int, int]:
    """Collect what has ended: process id → exit code."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = os.waitstatus_to_exitcode(status)
    return ended


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal processes; those that have gone are no problem."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


class Keeper:
    """The command and its tree."""

    def __init__(self, argv: list[str]) -> None:
        self._exit_code: int | None = None
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, preexec_fn=self._in_child)
        self._pid = self._process.pid

    @staticmethod
    def _in_child() -> None:
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        set_process_option(PR_SET_PDEATHSIG, signal.SIGKILL)

    def collect(self) -> bool:
        """Reap; whether the command itself has ended."""
        code = reap().get(self._pid)
        if code is not None:
            self._exit_code = code
        return self._exit_code is not None

    def stop(self, grace_s: float) -> None:
        """End the whole tree."""
        if self._exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGTERM)
            self._wait_empty(grace_s)
        send(descendants(os.getpid()), signal.SIGTERM)
        if self._wait_empty(SECOND_GRACE_S):
            return
        self._wait_empty(LAST_GRACE_S, lambda: send(descendants(os.getpid()), signal.SIGKILL))

    def exit_code(self) -> int:
        """Exit code of the command as a shell would give it."""
        code = self._exit_code
        if code is None:
            return 128 + signal.SIGKILL
        return code if code >= 0 else 128 - code

    def _wait_empty(self, within_s: float, each_time: Callable[[], None] = lambda: None) -> bool:
        deadline = time.monotonic() + within_s
        while True:
            each_time()
            gone = not descendants(os.getpid())
            self.collect()  # after looking: what ended meanwhile must not be left for others to reap
            if gone:
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(TICK_S)


def main(arguments: list[str]) -> int:
    """Start the command, wait for its end or for a reason to stop it."""
    grace_s, argv = float(arguments[0]), arguments[1:]
    set_process_option(PR_SET_CHILD_SUBREAPER, 1)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, _frame: asked.append(n))
    signal.signal(signal.SIGCHLD, lambda _n, _frame: None)
    try:
        keeper = Keeper(argv)
    except (OSError, subprocess.SubprocessError) as e:
        print(f"{argv[0]} cannot be started: {e}", file=sys.stderr, flush=True)
        return 127
    while not asked and not keeper.collect():
        ready, _, _ = select.select([sys.stdin.fileno(), wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 512)
        if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 512):
            break
    keeper.stop(grace_s)
    return keeper.exit_code()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
