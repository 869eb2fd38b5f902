"""What a flow's task starts must not outlive the task."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import NoReturn

PR_SET_PDEATHSIG = 1
TASK_VARIABLE = "AIRBERG_TASK_PROCESS"
"""Environment variable with the process id of the task that started us (`airberg_airflow.child` sets it)."""


def die_with_parent() -> None:
    """Get SIGTERM when the process that started us dies: a run must not outlive its task unseen.

    Linux only; elsewhere the lease alone keeps two runs apart. A task that died before the kernel could be
    asked for that is found by its process id, also when it started us through another program. As the first
    process of a container we would not even end when SIGTERM comes: for that one, Linux ignores signals that
    have no handler.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, _end_at_once)
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    task = os.environ.get(TASK_VARIABLE, "")
    if task.isdecimal() and not _is_there(int(task)):
        os.kill(os.getpid(), signal.SIGTERM)


def _end_at_once(number: int, _frame: object) -> NoReturn:
    """As a process ends that has no handler. With the first process of a container all others end."""
    os._exit(128 + number)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user, so it is there
        return True
    return True
