"""The service for tests: real API process, the session's one Airflow, real connectors, a temporary home."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import pytest

from airberg.flows.credentials import load_credentials
from airberg.flows.model import UPKEEP_ID
from airberg.identity.development import DevelopmentIssuer
from airberg.settings import Settings, load_settings
from airberg.stack.embedded import Stack
from support.airflow_stack import AirflowStack, temporary_folder
from support.deployment import SCRIPTED
from support.free_ports import free_ports

READY_WITHIN_S = 300.0
T = TypeVar("T")


@dataclass
class LiveStack:
    """A running stack and ways to talk to it."""

    settings: Settings
    stack: Stack | None = None

    def token(
        self, sub: str = "ann@example.com", scope: str = "ingest:read ingest:write", **claims: Any
    ) -> str:
        """An access token of the development issuer."""
        email = {"email": sub} if "@" in sub else {}
        return DevelopmentIssuer(self.settings).mint(sub, scope.split(), 3600, **(email | claims))

    def client(self, sub: str = "ann@example.com", **claims: Any) -> httpx.Client:
        """An HTTP client that is logged in."""
        headers = {"Authorization": f"Bearer {self.token(sub, **claims)}"}
        return httpx.Client(base_url=self.settings.api_url, headers=headers, timeout=40.0, trust_env=False)

    @contextlib.contextmanager
    def airflow(self) -> Iterator[httpx.Client]:
        """A client of Airflow's own REST API."""
        credentials = load_credentials(self.settings)
        with httpx.Client(base_url=self.settings.airflow_url, timeout=30.0, trust_env=False) as client:
            body = {"username": "admin", "password": credentials.admin_password}
            answer = client.post("/auth/token", json=body)
            client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
            yield client

    def post(self, body: dict[str, Any], sub: str = "ann@example.com", **params: str) -> httpx.Response:
        """POST a job, again while the service has no time for it."""
        with self.client(sub) as api:
            answer = api.post("/api/airbyte/ingest", params=params, json=body)
            for _ in range(20):
                if answer.status_code != 503:
                    break
                time.sleep(3)
                answer = api.post("/api/airbyte/ingest", params=params, json=body)
        return answer

    def submit(self, body: dict[str, Any], sub: str = "ann@example.com") -> str:
        """POST a job that must be accepted; returns its id."""
        answer = self.post(body, sub)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["job_id"])

    def newest_run(self, job_id: str, sub: str = "ann@example.com") -> dict[str, Any] | None:
        """The newest run of a job."""
        with self.client(sub) as api:
            runs = api.get(f"/api/jobs/{job_id}/runs").json()
        return runs[0] if runs else None

    def finished_run(self, job_id: str, after: str | None = None, attempt: int = 1) -> dict[str, Any]:
        """The newest run, once it has ended; with metadata when it completed. `after`: not this run."""

        def ended() -> dict[str, Any] | None:
            run = self.newest_run(job_id)
            if run is None or run["id"] == after or run["attempt"] < attempt:
                return None
            if run["status"] == "completed":
                return run if run["metadata"] or run["metadata_error"] else None
            return run if run["status"] in ("failed", "cancelled") else None

        return wait_for(ended, 180, f"a finished run of {job_id}")

    def trigger(self, job_id: str) -> dict[str, Any]:
        """Start the job again and wait for the run's end."""
        last = self.newest_run(job_id)
        with self.client() as api:
            answer = api.post(f"/api/jobs/{job_id}/trigger")
            assert answer.status_code == 202, answer.text
        return self.finished_run(job_id, after=last["id"] if last else None)

    def start_upkeep(self, job_id: str) -> str:
        """Start the upkeep of one job's tables; returns the id of the run of its flow."""
        run_id = f"test__{uuid4()}"
        body = {"logical_date": None, "dag_run_id": run_id, "conf": {"job": job_id}}
        with self.airflow() as airflow:

            def started() -> bool | None:
                answer = airflow.post(f"/api/v2/dags/{UPKEEP_ID}/dagRuns", json=body)
                return True if answer.status_code in (200, 409) else None  # 404: not registered yet

            wait_for(started, 60, "the flow of upkeep")
        return run_id

    def upkeep_ended(self, run_id: str) -> tuple[str, str]:
        """State of such a run when it has ended, and the log of the task that did the work."""
        run = f"/api/v2/dags/{UPKEEP_ID}/dagRuns/{run_id}"
        with self.airflow() as airflow:

            def ended() -> str | None:
                state = airflow.get(run).json()["state"]
                return state if state in ("success", "failed") else None

            state = wait_for(ended, 90, "the end of upkeep")
            log = airflow.get(f"{run}/taskInstances/upkeep/logs/1", params={"map_index": 0})
        return state, log.text

    @contextlib.contextmanager
    def api_away(self, airflow: AirflowStack) -> Iterator[None]:
        """Our API is stopped while the block lasts: Airflow finds nobody where it gets its flows from."""
        airflow.feed.close()
        self.stack.stop()
        try:
            yield
        finally:
            self.stack = started(self.settings)
            airflow.feed.open()

    def airberg(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run our command line against this home."""
        return subprocess.run(
            [sys.executable, "-m", "airberg.cli", *arguments], capture_output=True, text=True, timeout=120
        )


def wait_for(look: Callable[[], T | None], within_s: float, what: str) -> T:
    """The first answer that is not None."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = look()
        if found is not None:
            return found
        time.sleep(0.3)
    raise AssertionError(f"waited {within_s:.0f} s in vain for {what}")


def sqlite_text(path: Path) -> str:
    """Everything in an SQLite database as text, for searching."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return "\n".join(connection.iterdump())


def started(settings: Settings) -> Stack:
    """The API, ready."""
    stack = Stack(settings)
    try:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("TMPDIR", str(temporary_folder(settings.home)))
            stack.start(lambda _: None)
        stack.wait_ready(READY_WITHIN_S)
    except BaseException:
        stack.stop()
        raise
    return stack


@contextlib.contextmanager
def running_stack(airflow: AirflowStack, pyairbyte_dir: Path) -> Iterator[LiveStack]:
    """The real API beside a running Airflow, in the same home; `airflow.feed` serves its flows too."""
    home = airflow.settings.home
    (home / "connectors.toml").write_text(f'[connectors.source-scripted]\nexecutable = "{SCRIPTED}"\n')
    variables = {
        "AIRBERG_HOME": str(home),
        "AIRBERG_API__PORT": str(free_ports(1)[0]),
        "AIRBERG_AIRFLOW__EMBEDDED": "false",
        "AIRBERG_AIRFLOW__PORT": str(airflow.settings.airflow.port),
        "AIRBERG_AIRFLOW__RETRIES": "0",
        "AIRBERG_SOURCES__PYAIRBYTE_DIR": str(pyairbyte_dir),
    }
    before = {k: os.environ.get(k) for k in variables}
    os.environ.update(variables)
    settings = load_settings()
    live: LiveStack | None = None
    try:
        live = LiveStack(settings, started(settings))
        airflow.feed.api_url = settings.api_url
        yield live
    finally:
        airflow.feed.api_url = None
        if live is not None:
            live.stack.stop()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
