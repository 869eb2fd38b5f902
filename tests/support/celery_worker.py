"""A machine with a worker of Celery, which can be lost."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from airberg.stack.keeper import descendants, send
from airberg.stack.supervisor import Kept
from support.conditions import eventually


@dataclass
class Worker:
    """A machine that runs tasks.

    Attributes:
        name: Of its worker.
        address: Airflow shows it with the tasks that ran there, and asks it for their logs.
        folder: All that this machine has.
        queues: Those that it takes tasks from.
        killed: Process ids of what ran there when it was lost.
    """

    name: str
    address: str
    folder: Path
    queues: str = "default"
    kept: Kept | None = None
    killed: list[int] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        """Whether it takes tasks."""
        assert self.kept is not None
        return f"{self.name} ready" in self.kept.log_path.read_text(errors="replace")

    def kill(self) -> None:
        """Lose the machine: all of its processes at once, and none of them can say or clean up anything.

        They are stopped first, so that none sees another one die.
        """
        assert self.kept is not None
        stopped: set[int] = set()
        while new := {self.kept.pid, *descendants(self.kept.pid)} - stopped:
            send(new, signal.SIGSTOP)
            stopped |= new
        self.killed = sorted(stopped)
        send(stopped, signal.SIGKILL)
        assert self.kept.wait(10.0) is not None
        eventually(lambda: not any(map(runs, stopped)), 10.0)


def runs(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
