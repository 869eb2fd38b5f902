"""One embedded Airflow for a whole test session, started with the code that `airberg up` uses."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from airberg.errors import TransientFailed, Unavailable
from airberg.flows.airflow import AirflowOrchestrator
from airberg.flows.credentials import ADMIN, ensure_credentials
from airberg.flows.model import FlowSpec, Spec, UpkeepSpec, upkeep_spec
from airberg.settings import AirflowSettings, ApiSettings, Settings
from airberg.stack.airflow import EmbeddedAirflow
from airberg.stack.environments import Environment, airflow_environment
from airberg.stack.supervisor import Supervisor
from support.conditions import eventually
from support.flow_feed import FlowFeed
from support.free_ports import free_ports
from support.pages import ROOT

READY_WITHIN_S = 180.0
UNDER_TEST = "AIRFLOW_UNDER_TEST"
"""Variable with the name of a lock below `requirements/`: of the Airflow that is tested in its place."""
VISIBLE_WITHIN_S = 30.0
HURRIED = {"scheduler_idle_sleep_time": 0.2, "min_heartbeat_interval": 1}
"""Options of Airflow for tests, in seconds: how long an idle scheduler sleeps, and a task's supervisor."""
DOWNSTREAM = """\
from airflow.sdk import DAG, Asset, AssetAlias, BaseOperator


class Look(BaseOperator):
    def execute(self, context):
        events = context["triggering_asset_events"].items()
        return [{{"uri": a.uri, "extra": e.extra}} for a, es in events if isinstance(a, Asset) for e in es]


with DAG("{flow_id}", schedule=[{schedule}], catchup=False, is_paused_upon_creation=False):
    Look(task_id="look")
"""
S = TypeVar("S", bound=Spec)
T = TypeVar("T")


class AirflowStack:
    """A running Airflow with a feed of flows and a command that does what a test says.

    The command that tasks start runs the script that `behave` has set for the job; for any other job it is
    the real `airberg`. To put the real API in the place of the feed: `feed.close()`, and let it listen on
    `settings.api.port`.

    Attributes:
        settings: Of the deployment; `settings.home` holds all of it.
        feed: Stands for the API.
        orchestrator: A client, as the API has one.
        steps: What was reported during the start, with no times.
        environment: The one of Airflow; `AIRFLOW_UNDER_TEST` chooses its version.

    Args:
        home: All that it has.
        parallelism: Tasks at once.
    """

    def __init__(self, home: Path, parallelism: int = 2) -> None:
        api_port, airflow_port = free_ports(2)
        self.settings = Settings(
            home=home,
            api=ApiSettings(port=api_port),
            airflow=AirflowSettings(port=airflow_port, parallelism=parallelism),
        )
        self.credentials = ensure_credentials(self.settings)
        self.feed = FlowFeed(api_port, self.credentials.bundle_token)
        self.orchestrator = AirflowOrchestrator(self.settings, self.credentials)
        self.steps: list[str] = []
        self.environment = airflow_under_test(self.settings)
        self._behaviours = home / "behaviours"
        self._behaviours.mkdir(parents=True)
        self._supervisor: Supervisor | None = None
        self._stopped = False
        self._admin = httpx.Client(base_url=self.settings.airflow_url, timeout=10.0, trust_env=False)

    # ---- life --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start Airflow and wait until it works."""
        self._stopped = False
        self._supervisor = Supervisor(self.settings.home / "logs")
        airflow = self._embedded(self._supervisor)
        airflow.prepare(self.steps.append)
        self._hurry(airflow.home / "airflow.cfg")
        airflow.start()
        airflow.wait_healthy(READY_WITHIN_S)

    def _embedded(self, supervisor: Supervisor) -> EmbeddedAirflow:
        """What is started."""
        return EmbeddedAirflow(
            self.settings,
            self.credentials,
            supervisor,
            airberg_bin=self._write_command(),
            environment=self.environment,
        )

    def _hurry(self, configuration: Path) -> None:
        """Let Airflow look more often whether there is something to do; tests wait for nothing else."""
        text = configuration.read_text()
        for option, seconds in HURRIED.items():
            text, found = re.subn(rf"^{option} = .*$", f"{option} = {seconds}", text, flags=re.MULTILINE)
            assert found == 1, f"Airflow's configuration has no {option} any more"
        configuration.write_text(text)

    def stop(self) -> None:
        """End it with all its processes."""
        self._stopped = True
        if self._supervisor is not None:
            self._supervisor.stop()

    def start_again_if_ended(self) -> None:
        """Start it again when a part of it has ended."""
        if self._stopped or self.failure() is not None:
            self.stop()
            self.start()

    def failure(self) -> TransientFailed | None:
        """What has gone wrong with a process since the start."""
        assert self._supervisor is not None
        try:
            self._supervisor.check()
        except TransientFailed as e:
            return e
        return None

    @contextlib.contextmanager
    def running(self) -> Iterator[Self]:
        """Airflow with its feed, while the block lasts; everything has ended after it."""
        try:
            self.feed.open()
            self.start()
            yield self
        finally:
            self.close()

    def close(self) -> None:
        """End everything."""
        self.stop()
        self.feed.close()
        self.orchestrator.close()
        self._admin.close()

    def secrets(self) -> list[str]:
        """Every secret of the deployment."""
        return [value for value in msgspec.to_builtins(self.credentials).values() if value]

    # ---- flows -------------------------------------------------------------------------------------------

    def spec(self, **changes: Any) -> FlowSpec:
        """A spec of a new job that retries at once."""
        job_id = str(uuid.uuid4())
        fields: dict[str, Any] = {
            "job_id": job_id,
            "flow_id": f"airberg_{job_id}",
            "name": f"job {job_id}",
            "schedule": None,
            "timezone": "UTC",
            "created_at": datetime.now(UTC).isoformat(),
            "paused": False,
            "shard": 0,
            "retries": 2,
            "retry_delay_s": 0,
            "timeout_s": 300,
            "tags": ("airberg",),
        }
        return FlowSpec(**(fields | changes))

    def upkeep_spec(self, **changes: Any) -> UpkeepSpec:
        """A spec of a flow of upkeep beside the deployment's, which other tests may have registered."""
        spec = upkeep_spec(Settings(airflow=AirflowSettings(retry_delay_s=0)))
        assert spec is not None
        return msgspec.structs.replace(spec, **({"flow_id": f"airberg_upkeep_{uuid.uuid4()}"} | changes))

    def registered(self, spec: S) -> S:
        """Offer a flow and wait until Airflow has it."""
        self.feed.offer(spec)
        published = lambda: self.orchestrator.publish(spec, VISIBLE_WITHIN_S)  # noqa: E731
        assert eventually(lambda: unless_busy(published), VISIBLE_WITHIN_S), f"{spec.flow_id} did not appear"
        return spec

    def add_downstream(self, flow_id: str, schedule: str) -> None:
        """A flow of somebody else, which returns the events of the assets that started it.

        Args:
            flow_id: Its id.
            schedule: What it waits for, as Python that has `Asset` and `AssetAlias`.
        """
        self.add_flow_file(flow_id, DOWNSTREAM.format(flow_id=flow_id, schedule=schedule))

    def add_flow_file(self, flow_id: str, text: str) -> None:
        """A file with a flow that is none of ours, beside ours; waits until Airflow has it."""
        folder = self.settings.home / "airflow" / "bundles" / "airberg" / "dags"
        (folder / f"{flow_id}.py").write_text(text)
        known = lambda: self.admin("GET", f"/dags/{flow_id}").status_code == 200  # noqa: E731
        deadline = time.monotonic() + VISIBLE_WITHIN_S
        while not known():
            self.orchestrator.publish(self.spec(), 1.0)  # there is no such flow: Airflow looks for it
            assert time.monotonic() < deadline, f"{flow_id} did not appear"

    def downstream_events(self, flow_id: str, runs: int = 1) -> list[list[dict[str, Any]]]:
        """The asset events of each run of such a flow, once so many have succeeded; the oldest first."""

        def ended() -> list[str] | None:
            found = self.get(f"/dags/{flow_id}/dagRuns", order_by="run_after")["dag_runs"]
            done = [run["dag_run_id"] for run in found if run["state"] == "success"]
            return done if len(done) >= runs else None

        ids = eventually(lambda: unless_busy(ended), 90.0, every_s=0.3)
        assert ids is not None
        path = "/dags/{}/dagRuns/{}/taskInstances/look/xcomEntries/return_value"
        return [self.get(path.format(flow_id, quote(run)))["value"] for run in ids]

    def give_variables(self, job_id: str, variables: Mapping[str, str]) -> None:
        """Let the commands of a job have more settings than the deployment."""
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
        self._behave_after(job_id, f'{exports}exec {shlex.quote(sys.executable)} -m airberg.cli "$@"')

    def behave(self, spec: FlowSpec, script: str) -> Path:
        """Let a job's commands run a shell script; `$OUT` in it is the returned folder."""
        return self._behave_after(spec.job_id, script)

    @contextlib.contextmanager
    def tables_behave(self, **scripts: str) -> Iterator[Path]:
        """Let `airberg tables NAME` run a shell script for a while; `$OUT` in each is the same folder."""
        out = self._behaviours / f"tables-{uuid.uuid4()}"
        out.mkdir()
        try:
            for name, script in scripts.items():
                self._behave_after(name, script, out)
            yield out
        finally:
            for name in scripts:
                (self._behaviours / f"{name}.sh").unlink(missing_ok=True)

    def _behave_after(self, word: str, script: str, out: Path | None = None) -> Path:
        """What the command does when this is its second word."""
        out = out or self._behaviours / word
        out.mkdir(exist_ok=True)
        text = f"OUT={shlex.quote(str(out))}\n{script}\n"
        (self._behaviours / f"{word}.sh").write_text(text)
        return out

    def ended(self, spec: Spec, run_id: str, within_s: float = 90.0) -> str:
        """State of a run when it has ended."""

        def state() -> str | None:
            found = unless_busy(lambda: self.orchestrator.run_state(spec.flow_id, run_id))
            return found if found in ("success", "failed") else None

        return str(eventually(state, within_s, every_s=0.2))

    # ---- Airflow's own view, as its administrator has it -------------------------------------------------

    def get(self, path: str, **params: Any) -> Any:
        """JSON of `GET /api/v2{path}`."""
        answer = self.admin("GET", path, params=params)
        answer.raise_for_status()
        return answer.json()

    def administrator(self) -> AirflowOrchestrator:
        """A client as the user `admin`, to be closed."""
        airflow = self.settings.airflow.model_copy(update={"username": ADMIN})
        credentials = msgspec.structs.replace(self.credentials, password=self.credentials.admin_password)
        return AirflowOrchestrator(self.settings.model_copy(update={"airflow": airflow}), credentials)

    def admin(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """A call as the user `admin`."""
        if "Authorization" not in self._admin.headers:
            body = {"username": ADMIN, "password": self.credentials.admin_password}
            token = self._admin.post("/auth/token", json=body).json()["access_token"]
            self._admin.headers["Authorization"] = f"Bearer {token}"
        return self._admin.request(method, f"/api/v2{path}", **arguments)

    def tasks(self, spec: Spec, run_id: str) -> dict[str, tuple[str, int]]:
        """Task → (state, number of its last try)."""
        found = self.get(f"/dags/{spec.flow_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {t["task_id"]: (t["state"], t["try_number"]) for t in found}

    def mapped(self, spec: Spec, run_id: str, task: str) -> dict[str, tuple[str, int]]:
        """Name of each instance of a mapped task → (state, number of its last try)."""
        path = f"/dags/{spec.flow_id}/dagRuns/{run_id}/taskInstances/{task}/listMapped"
        found = self.get(path)["task_instances"]
        return {t["rendered_map_index"]: (t["state"], t["try_number"]) for t in found}

    def task_log(self, spec: FlowSpec, run_id: str, task: str, attempt: int = 1) -> str:
        """A task's log as Airflow shows it."""
        path = f"/dags/{spec.flow_id}/dagRuns/{run_id}/taskInstances/{task}/logs/{attempt}"
        return json.dumps(self.get(path, full_content="true")["content"], ensure_ascii=False)

    def _write_command(self) -> Path:
        path = self.settings.home / "test-airberg"
        path.write_text(
            "#!/bin/sh\n"
            f"export TMPDIR={shlex.quote(str(temporary_folder(self.settings.home)))}\n"
            f"script={shlex.quote(str(self._behaviours))}/$2.sh\n"
            '[ -f "$script" ] && exec /bin/sh "$script" "$@"\n'
            f'exec {shlex.quote(sys.executable)} -m airberg.cli "$@"\n'
        )
        path.chmod(0o755)
        return path


def airflow_under_test(settings: Settings) -> Environment:
    """The deployment's own environment, or one of another version: see `make test-airflow-versions`."""
    name = os.environ.get(UNDER_TEST)
    if name is None:
        return airflow_environment(settings)
    return Environment(name, ROOT / ".build" / name, ROOT / "requirements" / f"{name}.txt", compile=True)


def temporary_folder(home: Path) -> Path:
    """`TMPDIR` of our processes: below the home, so that it can be searched with it."""
    folder = home / "tmp"
    folder.mkdir(exist_ok=True)
    return folder


def unless_busy(ask: Callable[[], T]) -> T | None:
    """An answer of Airflow, or None when it cannot give one now.

    The first task after a start holds the database, and the only worker of the API server, while modules are
    imported: seconds on a machine with other work, in which Airflow answers 500 or not at all.
    """
    try:
        return ask()
    except Unavailable:
        return None
