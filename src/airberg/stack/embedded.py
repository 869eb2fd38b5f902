"""The whole stack on one machine: our API, Airflow, and the environments that runs need."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import httpx

from airberg.errors import ConfigurationFailed, TransientFailed
from airberg.flows.credentials import ensure_credentials
from airberg.settings import Settings
from airberg.stack.airflow import EmbeddedAirflow, child_settings
from airberg.stack.environments import Report, ensure_pyairbyte_environment
from airberg.stack.ports import check_ports
from airberg.stack.supervisor import Command, Supervisor, wait_until

POOLS_WITHIN_S = 300.0
"""How long Airflow may take until it is healthy, where there are pools to be made."""


class Stack:
    """Starts, watches and stops all of it. `start`, then `wait_ready`, then `stop`; or a `with` block.

    Settings that children read come from the environment (`AIRBERG_*`); home, hosts and ports are those of
    `settings`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._supervisor = Supervisor(settings.home / "logs")
        self._pool = ThreadPoolExecutor(max_workers=3, thread_name_prefix="stack")
        self._steps: list[Future[None]] = []
        self._airflow: EmbeddedAirflow | None = None
        self._home_lock: int | None = None
        self._stop_lock = threading.Lock()

    def start(self, report: Report) -> None:
        """Check what can be checked at once, then start everything side by side; does not wait.

        Args:
            report: Gets a line for each step; called from several threads, one at a time.

        Raises:
            ConfigurationFailed: A port is taken, or the home is in use by another stack.
        """
        from airberg.jobs.migrate import upgrade
        from airberg.keys.kek import ensure_master_key

        settings, say = self._settings, _one_at_a_time(report)
        try:
            settings.home.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise ConfigurationFailed(
                f"The home {settings.home} cannot be made: {e.strerror}.",
                guidance="Set AIRBERG_HOME to another folder.",
                code="home-not-writable",
            ) from None
        self._home_lock = hold_home(settings.home)
        check_ports(settings)
        ensure_master_key(settings)
        credentials = ensure_credentials(settings)
        if settings.airflow.embedded:
            self._airflow = EmbeddedAirflow(settings, credentials, self._supervisor)
            self._begin(self._start_airflow, say)
        upgrade(settings.database_url)
        self._supervisor.start(self._api_command())
        self._begin(self._prepare_connectors, say)

    def wait_ready(self, within_s: float) -> None:
        """Wait until everything answers and both environments are there.

        Raises:
            ConfigurationFailed: A person has to change something.
            TransientFailed: A part ended, or it took longer than `within_s` seconds.
        """
        deadline = time.monotonic() + within_s
        while not (self._steps_done() and self._api_ready() and self._airflow_ready()):
            self.check()
            if not wait_until(deadline, every_s=0.2):
                raise TransientFailed(
                    f"The stack was not ready within {within_s:.0f} s.",
                    guidance=f"See the logs in {self._settings.home / 'logs'}.",
                    code="stack-not-ready",
                )

    def check(self) -> None:
        """See whether all parts are alive.

        Raises:
            AirbergError: One has ended, or a step of the start failed.
        """
        self._steps_done()
        self._supervisor.check()

    def stop(self) -> None:
        """End everything; nothing is left running. May be called more than once."""
        with self._stop_lock:
            self._supervisor.stop()
            self._pool.shutdown(wait=True, cancel_futures=True)
            if self._home_lock is not None:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._home_lock, 0)
                os.close(self._home_lock)
                self._home_lock = None

    def __enter__(self) -> Stack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # ---- steps -------------------------------------------------------------------------------------------

    def _begin(self, step: Callable[[Report], None], report: Report) -> None:
        self._steps.append(self._pool.submit(step, report))

    def _start_airflow(self, report: Report) -> None:
        if self._airflow is not None:
            self._airflow.prepare(report)
            report("starting Airflow")
            self._airflow.start()
            self._airflow.make_pools(POOLS_WITHIN_S)

    def _prepare_connectors(self, report: Report) -> None:
        ensure_pyairbyte_environment(self._settings, report, self._supervisor)

    def _api_command(self) -> Command:
        return Command(
            name="api",
            argv=(sys.executable, "-m", "airberg.cli", "serve"),
            environment=dict(os.environ) | child_settings(self._settings),
            cwd=self._settings.home,
        )

    def _steps_done(self) -> bool:
        done = [step for step in self._steps if step.done()]
        for step in done:
            step.result()
        return len(done) == len(self._steps)

    def _api_ready(self) -> bool:
        try:
            url = f"{self._settings.api_url}/api/health/ready"
            return httpx.get(url, timeout=5.0, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def _airflow_ready(self) -> bool:
        return self._airflow is None or self._airflow.healthy()


def hold_home(home: Path) -> int:
    """Take a home for this process. The lock goes with the process, however it ends.

    Returns:
        The descriptor that holds it; closing it gives the home back.

    Raises:
        ConfigurationFailed: Another process has it.
    """
    path = home / "airberg.pid"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode(errors="replace").strip()
        os.close(descriptor)
        raise ConfigurationFailed(
            f"A stack runs in {home} already{f' (process {holder})' if holder.isdigit() else ''}.",
            guidance="Stop it with Ctrl-C, or set AIRBERG_HOME to another folder.",
            code="home-in-use",
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _one_at_a_time(report: Report) -> Report:
    lock = threading.Lock()

    def say(text: str) -> None:
        with lock:
            report(text)

    return say
