"""The embedded Airflow: small, on this machine, SQLite underneath.

Three processes instead of `airflow standalone`, which starts 42 and leaves them behind on SIGTERM: the API
server, the scheduler with its local executor, the dag-processor. No triggerer: nothing here is deferred.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec

from airberg.errors import ConfigurationFailed, TransientFailed
from airberg.flows.airflow import AirflowOrchestrator, is_healthy
from airberg.flows.credentials import ADMIN, AirflowCredentials, write_private
from airberg.settings import Settings, settings_environment
from airberg.stack.environments import Environment, Report, airflow_environment, ensure
from airberg.stack.supervisor import Command, Supervisor, wait_until

BUNDLE_CLASS = "airberg_airflow.bundle.AirbergDagBundle"
REFRESH_S = 60
PARSE_AGAIN_S = 6 * 3600
"""A pass over 10,000 flows costs minutes of a core; changes are pushed, so passes may be rare."""
GIVEN_UP_S = 120
"""After how long a task without a sign of life has failed, and may be tried again; Airflow's default is 300.
Not less: signs of life wait for the database too (`LOCKED_S`)."""
ASK_AGAIN, ASK_AGAIN_S = 60, 3.0
"""How often a worker asks an API server again that does not answer, and how long it waits in between at most:
two minutes together. By default it gives up after some seconds, and a task has failed for good that was due
when all started together: the scheduler is up before the API server is."""
LOCKED_S = 60
"""How long a process of Airflow waits for its database while another one writes."""
_FOREIGN = ("AIRFLOW_", "_AIRFLOW", "AIRBERG_", "PYTHON", "VIRTUAL_ENV")


class EmbeddedAirflow:
    """One Airflow below HOME/airflow.

    Args:
        settings: Ports, parallelism, home.
        credentials: All of its secrets.
        supervisor: Runs its processes.
        airberg_bin: The command that tasks start; by default this very installation.
        environment: The one that its processes run in; by default that of the deployment.
    """

    def __init__(
        self,
        settings: Settings,
        credentials: AirflowCredentials,
        supervisor: Supervisor,
        airberg_bin: Path | None = None,
        environment: Environment | None = None,
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._supervisor = supervisor
        self._airberg_bin = airberg_bin
        self.home = settings.home / "airflow"
        self._environment = environment or airflow_environment(settings)

    # ---- life --------------------------------------------------------------------------------------------

    def prepare(self, report: Report) -> None:
        """Environment, files, database. Does only what is not done yet.

        Raises:
            ConfigurationFailed: Something has to be changed first.
            TransientFailed: A step failed.
        """
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        ensure(self._environment, self._settings, report, self._supervisor)
        self._install_package()
        self._write_users()
        self._migrate(report)

    def start(self) -> None:
        """Start the three processes; `wait_healthy` tells when they work."""
        tasks = self._task_environment()
        token = {"AIRBERG_AIRFLOW__BUNDLE_TOKEN": self._credentials.bundle_token}
        quiet = {"AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}
        self._supervisor.start(self._command("airflow-api-server", "api-server"))
        self._supervisor.start(
            self._command(
                "airflow-scheduler", "scheduler", "--skip-serve-logs", more=tasks | token, first=True
            )
        )
        self._supervisor.start(self._command("airflow-dag-processor", "dag-processor", more=token | quiet))

    def healthy(self) -> bool:
        """Whether flows are being parsed and run.

        What tasks talk to is asked first. The API server makes that part of itself at the first request to
        it, for which it needs some eight seconds of CPU and answers nobody: that happens here, beside the
        start of the other processes, and not when the first job waits for its task.
        """
        url = self._settings.airflow_url
        try:
            if httpx.get(f"{url}/execution/health", timeout=3.0, trust_env=False).status_code != 200:
                return False
            answer = httpx.get(f"{url}/api/v2/monitor/health", timeout=3.0, trust_env=False)
            parts: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
        except (httpx.HTTPError, ValueError):
            return False
        return is_healthy(parts)

    def wait_healthy(self, within_s: float) -> None:
        """Wait for it.

        Raises:
            TransientFailed: A process ended, or it took too long.
        """
        deadline = time.monotonic() + within_s
        while not self.healthy():
            self._supervisor.check()
            if not wait_until(deadline, every_s=0.25):
                raise TransientFailed(
                    f"Airflow was not healthy within {within_s:.0f} s.",
                    guidance=f"See the logs in {self._settings.home / 'logs'}.",
                    code="airflow-not-healthy",
                )

    def make_pools(self, within_s: float) -> None:
        """Make the pools of the settings, as the administrator: the service's own role may not.

        Raises:
            TransientFailed: Airflow was not healthy in time.
            Unavailable: It does not take them.
        """
        settings = self._settings
        if not settings.airflow.pool_slots:
            return
        self.wait_healthy(within_s)
        airflow = settings.airflow.model_copy(update={"username": ADMIN})
        credentials = msgspec.structs.replace(self._credentials, password=self._credentials.admin_password)
        administrator = AirflowOrchestrator(settings.model_copy(update={"airflow": airflow}), credentials)
        with contextlib.closing(administrator):
            for name, slots in settings.airflow.pool_slots.items():
                administrator.set_pool(name, slots)

    # ---- configuration -----------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """The variables of all its processes. `AIRFLOW__*` of the caller (another Airflow's) are dropped."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
        own = {
            "AIRFLOW_HOME": str(self.home),
            "PYTHONPATH": str(self.home / "lib"),
            "PYTHONUNBUFFERED": "1",
        }
        configured = {
            f"AIRFLOW__{section}__{key}": value for (section, key), value in self._options().items()
        }
        return inherited | own | configured | _no_proxy(inherited, self._settings.airflow.host)

    def _options(self) -> dict[tuple[str, str], str]:
        airflow, secrets = self._settings.airflow, self._credentials
        internal = f"http://{_reachable(airflow.host)}:{airflow.port}"
        bundle = {
            "name": "airberg",
            "classpath": BUNDLE_CLASS,
            "kwargs": {"url": self._settings.api_url, "refresh_interval": REFRESH_S},
        }
        return {
            ("CORE", "EXECUTOR"): "LocalExecutor",
            ("CORE", "PARALLELISM"): str(airflow.parallelism),
            ("CORE", "LOAD_EXAMPLES"): "False",
            ("CORE", "DAGS_FOLDER"): str(self.home / "no-dags"),
            ("CORE", "FERNET_KEY"): secrets.fernet_key,
            ("CORE", "EXECUTION_API_SERVER_URL"): f"{internal}/execution/",
            # With the default of 30 s a flow that is changed twice in a row shows its old tasks.
            ("CORE", "MIN_SERIALIZED_DAG_UPDATE_INTERVAL"): "0",
            ("CORE", "SIMPLE_AUTH_MANAGER_USERS"): ",".join(f"{n}:{r}" for n, r in self._users().items()),
            ("CORE", "SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"): str(self._users_file),
            # The first task after a start keeps a write open while modules are imported: on a loaded machine
            # longer than the 5 s that others wait by default, whereupon they answer 500, or end.
            ("DATABASE", "SQL_ALCHEMY_CONN"): f"sqlite:///{self.home / 'airflow.db'}?timeout={LOCKED_S}",
            ("API", "HOST"): airflow.host,
            ("API", "PORT"): str(airflow.port),
            ("API", "WORKERS"): "1",
            ("API", "BASE_URL"): self._settings.airflow_public_url,
            ("API", "SECRET_KEY"): secrets.api_secret,
            ("API_AUTH", "JWT_SECRET"): secrets.jwt_secret,
            ("DAG_PROCESSOR", "DAG_BUNDLE_CONFIG_LIST"): json.dumps([bundle]),
            ("DAG_PROCESSOR", "DAG_BUNDLE_STORAGE_PATH"): str(self.home / "bundles"),
            ("DAG_PROCESSOR", "PARSING_PROCESSES"): "1",
            ("DAG_PROCESSOR", "REFRESH_INTERVAL"): str(REFRESH_S),
            ("DAG_PROCESSOR", "MIN_FILE_PROCESS_INTERVAL"): str(PARSE_AGAIN_S),
            ("SCHEDULER", "TASK_INSTANCE_HEARTBEAT_TIMEOUT"): str(GIVEN_UP_S),
            ("WORKERS", "EXECUTION_API_RETRIES"): str(ASK_AGAIN),
            ("WORKERS", "EXECUTION_API_RETRY_WAIT_MAX"): str(ASK_AGAIN_S),
            ("LOGGING", "BASE_LOG_FOLDER"): str(self.home / "logs"),
        }

    def _task_environment(self) -> dict[str, str]:
        """What a task's command needs to find its settings. Only the scheduler's tree gets it."""
        command = self._airberg_bin or self._write_command()
        return child_settings(self._settings) | {"AIRBERG_BIN": str(command)}

    def _command(
        self, name: str, *arguments: str, more: dict[str, str] | None = None, first: bool = False
    ) -> Command:
        return Command(
            name=name,
            argv=(str(self._environment.python), "-m", "airflow", *arguments),
            environment=self.environment() | (more or {}),
            cwd=self.home,
            stop_first=first,
        )

    # ---- files -------------------------------------------------------------------------------------------

    @property
    def _users_file(self) -> Path:
        return self._settings.secrets_dir / "airflow-users.json"

    def _users(self) -> dict[str, str]:
        """User → role. `user` is the least role that may register, trigger and delete flows."""
        return {self._settings.airflow.username: "user", ADMIN: "admin"}

    def _write_users(self) -> None:
        """Written before Airflow looks: it would make passwords up and print them into its log."""
        passwords = {
            self._settings.airflow.username: self._credentials.password,
            ADMIN: self._credentials.admin_password,
        }
        content = msgspec.json.encode(passwords)
        if not self._users_file.exists() or self._users_file.read_bytes() != content:
            write_private(self._users_file, content)

    def _install_package(self) -> None:
        """Put `airberg_airflow` where Airflow's interpreter finds it, and nothing else of ours."""
        found = importlib.util.find_spec("airberg_airflow")
        if found is None or not found.submodule_search_locations:
            raise ConfigurationFailed(
                "The package airberg_airflow is missing.",
                guidance="Install Airberg again.",
                code="installation-broken",
            )
        source = Path(next(iter(found.submodule_search_locations)))
        target = self.home / "lib" / "airberg_airflow"
        target.mkdir(parents=True, exist_ok=True)
        wanted = {path.name: path.read_bytes() for path in source.glob("*.py")}
        for name, content in wanted.items():
            path = target / name
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)
        for path in target.glob("*.py"):
            if path.name not in wanted:
                path.unlink()

    def _write_command(self) -> Path:
        """A command for this installation, wherever its scripts are."""
        path = self.home / "lib" / "airberg"
        interpreter = str(sys.executable).replace("'", "'\\''")
        text = f"#!/bin/sh\nexec '{interpreter}' -m airberg.cli \"$@\"\n"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            path.chmod(0o755)
        return path

    def _migrate(self, report: Report) -> None:
        """Bring the database up to date when it is new or Airflow is; the stamp saves seconds otherwise."""
        stamp, database = self.home / "migrated.json", self.home / "airflow.db"
        wanted = self._environment.wanted()
        if database.exists() and stamp.exists() and stamp.read_text() == json.dumps(wanted):
            return
        report("preparing Airflow's database")
        code, lines = self._supervisor.run(self._command("airflow-migrate", "db", "migrate"))
        if code:
            raise TransientFailed(
                f"Airflow's database could not be prepared. Its last lines:\n{lines}",
                guidance=f"See {self._settings.home / 'logs' / 'airflow-migrate.log'}.",
                code="airflow-database-failed",
            )
        stamp.write_text(json.dumps(wanted))


def child_settings(settings: Settings) -> dict[str, str]:
    """`AIRBERG_*` for a process with another working folder."""
    variables = settings_environment(settings) | {
        "AIRBERG_API__HOST": settings.api.host,
        "AIRBERG_API__PORT": str(settings.api.port),
        "AIRBERG_AIRFLOW__HOST": settings.airflow.host,
        "AIRBERG_AIRFLOW__PORT": str(settings.airflow.port),
        "AIRBERG_HOME": str(settings.home),
    }
    if "AIRBERG_ENV_FILE" in variables:
        variables["AIRBERG_ENV_FILE"] = str(Path(variables["AIRBERG_ENV_FILE"]).expanduser().absolute())
    return variables


def _reachable(host: str) -> str:
    """An address to connect to for one to listen on."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - looked up, not bound


def _no_proxy(inherited: dict[str, str], host: str) -> dict[str, str]:
    """Airflow's processes talk to each other over HTTP; that must not go through a proxy."""
    known = inherited.get("no_proxy") or inherited.get("NO_PROXY") or ""
    hosts = ",".join(dict.fromkeys(filter(None, [*known.split(","), "127.0.0.1", "localhost", "::1", host])))
    return {"no_proxy": hosts, "NO_PROXY": hosts}
