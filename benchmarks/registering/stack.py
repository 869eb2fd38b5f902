"""The service and the embedded Airflow, as `airberg up` has them, with CPU and memory of each part.

The command of Airflow's tasks does nothing: what is measured ends where a task starts. So nothing of sources
and tables is needed, and the benchmark itself reports to the job store that the run is over.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil

from airberg.flows.credentials import ensure_credentials
from airberg.settings import Settings
from airberg.stack.airflow import EmbeddedAirflow, child_settings
from airberg.stack.supervisor import Command, Kept, Supervisor
from benchmarks.report import say

READY_WITHIN_S = 300.0
PARTS = ("api", "airflow-api-server", "airflow-scheduler", "airflow-dag-processor")
"""`api` is ours."""


class BenchSupervisor(Supervisor):
    """A supervisor that can be asked for its processes by name."""

    def __init__(self, logs_dir: Path) -> None:
        super().__init__(logs_dir)
        self.started: dict[str, Kept] = {}

    def start(self, command: Command) -> Kept:
        """Start a process."""
        kept = super().start(command)
        self.started[command.name] = kept
        return kept


class BenchStack:
    """A running deployment.

    Args:
        settings: Home, ports. The job store must be there.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.credentials = ensure_credentials(settings)
        self._supervisor = BenchSupervisor(settings.home / "logs")
        self._airflow = EmbeddedAirflow(
            settings, self.credentials, self._supervisor, airberg_bin=_idle_command(settings.home)
        )

    @property
    def database(self) -> Path:
        """Airflow's."""
        return self._airflow.home / "airflow.db"

    @property
    def flow_files(self) -> Path:
        """Folder of the flow files that the dag-processor reads."""
        return self._airflow.home / "bundles" / "airberg" / "dags"

    def start(self) -> float:
        """Start all of it and wait until it works; how many seconds that took, behind the installation."""
        self._airflow.prepare(say)
        begun = time.monotonic()
        self._supervisor.start(
            Command(
                name="api",
                argv=(sys.executable, "-m", "airberg.cli", "serve"),
                environment=dict(os.environ) | child_settings(self.settings),
                cwd=self.settings.home,
            )
        )
        self._airflow.start()
        self._airflow.wait_healthy(READY_WITHIN_S)
        with httpx.Client(base_url=self.settings.api_url, trust_env=False, timeout=5) as client:
            while not _is_ready(client):
                self.check()
                time.sleep(0.1)
        return time.monotonic() - begun

    def check(self) -> None:
        """Raises TransientFailed when a process has ended."""
        self._supervisor.check()

    def stop(self) -> None:
        """End all of it."""
        self._supervisor.stop()

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds of each part since its start, with those of the processes that it has started."""
        return {name: cpu_of_tree(self._supervisor.started[name].pid) for name in PARTS}

    def memory_mb(self) -> dict[str, float]:
        """Memory of each part: the sum of the proportional set sizes of its processes."""
        return {name: memory_of_tree(self._supervisor.started[name].pid) for name in PARTS}


@contextlib.contextmanager
def running_stack(settings: Settings) -> Iterator[BenchStack]:
    """A stack that is stopped at the end; start it."""
    stack = BenchStack(settings)
    try:
        yield stack
    finally:
        stack.stop()


def difference(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    """What was added to each part, and to all of Airflow's together."""
    parts = {name: round(after[name] - before[name], 3) for name in PARTS}
    return parts | {"airflow": round(sum(parts[name] for name in PARTS[1:]), 3)}


def cpu_of_tree(pid: int) -> float:
    """CPU seconds of a process and its descendants; those that have ended count with whoever reaped them."""
    total = 0.0
    for process in _tree(pid):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def memory_of_tree(pid: int) -> float:
    """Megabytes of a process and its descendants, pages that several share counted once (PSS)."""
    total = 0
    for process in _tree(pid):
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return round(total / 1024**2, 1)


def _tree(pid: int) -> list[psutil.Process]:
    first = psutil.Process(pid)
    return [first, *first.children(recursive=True)]


def _is_ready(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.get("/api/health/ready").status_code == httpx.codes.OK
    return False


def _idle_command(home: Path) -> Path:
    path = home / "does-nothing"
    path.write_text("#!/bin/sh\nexit 0\n")
    path.chmod(0o755)
    return path
