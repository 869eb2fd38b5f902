"""Runs Airberg's command line and kills it, or its connector, at the n-th time that it reaches a step.

Usage: `python chaos_child.py WHO STEP N MARK ARGUMENT…`, where WHO is `sync`, `connector` or `both`, MARK a
file that is made right before the kill, and the arguments are those of `airberg`. With `pause` as WHO it is
stopped instead (SIGSTOP), and goes on at SIGCONT; with `ask` it is asked to end (SIGTERM).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from airberg.cli import main
from airberg.lake.steps import EVENT


def wait_for_the_lease() -> None:
    """Wait until the lease is not being renewed: who stops inside a transaction of SQLite stops everybody."""
    sys.setswitchinterval(1.0)
    [renewer] = [thread for thread in threading.enumerate() if thread.name == "lease"]
    while sys._current_frames()[renewer.ident or 0].f_code.co_name != "wait":
        time.sleep(0.001)


def kill_at(who: str, step: str, n: int, mark: Path) -> None:
    """Watch this process and kill as it was asked."""
    left = n

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event != EVENT or arguments[0] != step:
            return
        left -= 1
        if left != 0:
            return
        if who == "pause":
            mark.touch()
            wait_for_the_lease()
            os.kill(os.getpid(), signal.SIGSTOP)
            return
        if who == "ask":
            mark.touch()
            os.kill(os.getpid(), signal.SIGTERM)
            return
        connectors = psutil.Process().children(recursive=True) if who != "sync" else []
        if who == "connector" and not connectors:
            return  # it has ended already
        mark.touch()
        for connector in connectors:
            with contextlib.suppress(psutil.NoSuchProcess):
                connector.kill()
        if who != "connector":
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ == "__main__":
    _, who, step, n, mark, *arguments = sys.argv
    kill_at(who, step, int(n), Path(mark))
    sys.argv = ["airberg", *arguments]
    sys.exit(main())
