"""Secrets and plaintext of protected columns are nowhere in the whole stack: no file, database or answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest

from airberg.flows.credentials import load_credentials
from support.canaries import Canaries, Hit
from support.canary_source import MERGED, RULES, accounts, noise, people, quoting
from support.deployment import write_scenario
from support.live_stack import LiveStack, sqlite_text, wait_for

BIG = ("venv", "pyairbyte", "site-packages", "behaviours")
"""Environments, which were made before anything was planted; scripts of other tests."""
LOGGED = re.compile(r"\S+ \S+ ([A-Z]+) +(airberg\.\S+): (.*)")
"""A line of our log in that of a task."""


class Stage:
    """The live stack with canaries in what jobs read, and all that can be seen of them."""

    def __init__(self, live: LiveStack, folder: Path) -> None:
        self.live = live
        self.folder = folder
        self.canaries = Canaries()
        self.others = Canaries()
        self.jobs: list[str] = []
        self.answers: list[httpx.Response] = []

    def body(self, name: str, scenario: dict[str, Any], mode: str, **members: Any) -> dict[str, Any]:
        """A job with secrets in its configuration."""
        path = write_scenario(self.folder, scenario, f"{name}.json")
        secret = self.canaries.text("secret", rest=f'/"{name}')
        return {
            "name": f"canary {uuid4()}",
            "source_name": "source-scripted",
            "source_config": {"scenario": str(path), "password": secret},
            "schema_name": f"canary_{name}",
            "mode": mode,
            "archive_staging": True,
        } | members

    def secret_in_file(self, name: str, version: str) -> str:
        """Put a secret where references find it, in place of an older one."""
        file = self.live.settings.secrets.files_dir / "e2e" / name
        file.parent.mkdir(exist_ok=True)
        secret = self.canaries.text("secret in a file", rest=f'/"{version}')
        file.write_text(f"{secret}\n")
        return secret

    def connection(self) -> str:
        """A connection of Airflow with a secret, over which nobody can be told; returns its id."""
        name = f"canary_{uuid4().hex}"
        secret = self.canaries.text("secret of a connection")
        body = {"connection_id": name, "conn_type": "http", "host": "127.0.0.1", "port": 1, "login": "hook"}
        with self.live.airflow() as airflow:
            answer = airflow.post("/api/v2/connections", json=body | {"password": secret})
            assert answer.status_code == 201, answer.text
            self.answers.append(answer)
        return name

    def submit(
        self,
        name: str,
        scenario: dict[str, Any],
        mode: str,
        rules: list[dict[str, str]],
        password: str | None = None,
        **members: Any,
    ) -> str:
        """Try it as a dry run, then create it; `password` in the place of a secret."""
        body = self.body(name, scenario, mode, column_transformations=rules, **members)
        if password is not None:
            body["source_config"]["password"] = password
        tried = self.live.post(body, dry_run="true")
        assert tried.status_code == 200, tried.text
        self.answers.append(tried)
        self.jobs.append(self.live.submit(body))
        return self.jobs[-1]

    def ask(self, client: httpx.Client, path: str, **params: str) -> httpx.Response:
        """An answer that has to be there, kept."""
        answer = client.get(path, params=params)
        assert answer.status_code == 200, (path, answer.text)
        self.answers.append(answer)
        return answer

    def look_everywhere(self) -> None:
        """Ask the service and Airflow all that can be asked about the jobs."""
        with self.live.client(scope="ingest:read keys:admin") as api, self.live.airflow() as airflow:
            for path in ("/api/jobs", "/api/keys", "/api/keys/default"):
                self.ask(api, path)
            for path in ("importErrors", "dagWarnings", "eventLogs", "connections"):
                self.ask(airflow, f"/api/v2/{path}", limit="1000")
            for job in self.jobs:
                self.ask(api, f"/api/jobs/{job}")
                for run in self.ask(api, f"/api/jobs/{job}/runs").json():
                    self.ask(api, f"/api/runs/{run['id']}")
                    self.ask(api, f"/api/runs/{run['id']}/logs")
                self._look_at_flow(airflow, f"/api/v2/dags/airberg_{job}")

    def _look_at_flow(self, airflow: httpx.Client, dag: str) -> None:
        for path in (dag, f"{dag}/details"):
            self.ask(airflow, path)
        for run in self.ask(airflow, f"{dag}/dagRuns").json()["dag_runs"]:
            tasks = f"{dag}/dagRuns/{run['dag_run_id']}/taskInstances"
            for task in self.ask(airflow, tasks).json()["task_instances"]:
                one = f"{tasks}/{task['task_id']}"
                assert "rendered_fields" in self.ask(airflow, one).json()
                self.ask(airflow, f"{one}/tries")
                for entry in self.ask(airflow, f"{one}/xcomEntries").json()["xcom_entries"]:
                    self.ask(airflow, f"{one}/xcomEntries/{entry['key']}")
                for attempt in range(1, task["try_number"] + 1):
                    log = self.ask(airflow, f"{one}/logs/{attempt}", full_content="true")
                    assert "airberg" in log.text

    def look_at_processes(self, job_id: str) -> None:
        """The connector of a job at work, and what is between it and the task, hold nothing of Airflow's."""
        [sync] = [
            p for p in psutil.process_iter(["cmdline"]) if {"sync", job_id} <= {*(p.info["cmdline"] or ())}
        ]
        below = sync.children(recursive=True)
        assert len(below) >= 2
        for process in (sync, *below):
            environment = process.environ()
            assert not [n for n in environment if n.startswith(("AIRFLOW__", "_AIRFLOW")) or "TOKEN" in n]
            if process is not sync:
                assert [n for n in environment if "AIRBERG" in n or "AIRFLOW" in n] == ["AIRBERG_CONNECTOR"]
            seen = "\n".join([*process.cmdline(), *(f"{k}={v}" for k, v in environment.items())])
            assert self.canaries.in_text(seen, f"process {process.pid}") == []
            assert not [s for s in load_credentials(self.live.settings).secrets() if s in seen]

    def check_logs(self, job_id: str) -> None:
        """What the log of a completed run has is in that of its task, and nothing beside it."""
        with self.live.client() as api, self.live.airflow() as airflow:
            for run in api.get(f"/api/jobs/{job_id}/runs").json():
                kept = api.get(f"/api/runs/{run['id']}/logs").json()
                lines = [(k["level"], k["logger"], k["message"].split("\n")[0]) for k in kept]
                task = f"/api/v2/dags/airberg_{job_id}/dagRuns/{run['flow_run_id']}/taskInstances/sync"
                log = airflow.get(f"{task}/logs/{run['attempt']}", params={"full_content": "true"}).json()
                shown = [m.groups() for e in log["content"] if (m := LOGGED.fullmatch(e.get("event", "")))]
                assert [line for line in shown if line in lines] == lines
                first, last = shown.index(lines[0]), shown.index(lines[-1])
                assert shown[first : last + 1] == lines
                assert any(logger.startswith("airberg.connector") for _, logger, _ in lines), lines

    def found(self) -> list[str]:
        """Where canaries are, one line a hit."""
        home = self.live.settings.home
        hits: list[Hit] = self.canaries.in_folders(home, skip=BIG)
        for database in (home / "airberg.db", home / "airflow" / "airflow.db"):
            hits += self.canaries.in_text(sqlite_text(database), f"rows of {database.name}")
        for answer in self.answers:
            hits += self.canaries.in_bytes(answer.content, f"answer of {answer.request.url}")
            hits += self.canaries.in_text(str(answer.headers), f"headers of {answer.request.url}")
        return [str(hit) for hit in hits]


@pytest.fixture
def stage(live: LiveStack, tmp_path: Path) -> Stage:
    """Nothing planted yet."""
    return Stage(live, tmp_path)


def misplaced(canaries: Canaries, body: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Bodies with a secret in the wrong place, and what their answer points at."""

    def secret(where: str) -> str:
        return canaries.text(f"misplaced in {where}")

    config = body["source_config"]
    for field in ("mode", "schedule", "timezone", "schema_name", "source_config", "merge"):
        yield body | {field: secret(field)}, f"/{field}"
    for field in ("password", "api_key"):
        yield body | {field: secret(field)}, f"/{field}"
    yield body | {"source_config": config | {"password": [secret("list")]}}, "/source_config/password"
    yield body | {"source_config": {"password": {"a": secret("object")}}}, "/source_config"
    yield body | {"streams": {"a": secret("streams")}}, "/streams"
    yield body | {"column_transformations": [{"column": 5, "a": secret("rule")}]}, "/column_transformations/0"
    yield body | {"tags": [{"a": secret("tags")}]}, "/tags"


def test_canaries_are_nowhere(stage: Stage) -> None:
    """Jobs that fail, are cancelled and complete, whose connector quotes what it must not.

    One appends and shouts until it fails, of which a connection of Airflow is to tell; one merges by an
    encrypted key, with a password that it only refers to; one is cancelled in the middle.
    """
    live, canaries = stage.live, stage.canaries
    error = {"message": quoting(canaries, "error"), "failure_type": "config_error"}
    fails = [*noise(canaries), {"leak": "trace"}, {"trace_error": error}, {"exit": 1}]
    shouting = people(canaries, stage.others, 6, at=[{"after": 7, "steps": fails}])
    here = stage.folder / "here"
    waits = [{"temporary": quoting(canaries, "temporary")}, {"touch": str(here)}, {"sleep": 300}]
    waiting = people(canaries, stage.others, 6, at=[{"after": 7, "steps": waits}])
    told = {"retries": 0, "on_failure": [{"type": "webhook", "connection": stage.connection()}]}
    failing = stage.submit("append", {"streams": [shouting]}, "append", RULES, flow=told)
    first = accounts(canaries, dict.fromkeys(range(9), 1))
    report = stage.folder / "merge-report.json"
    reports = {"read": {"steps": [{"report": str(report)}, {"leak": "stdout"}, {"leak": "stderr"}]}}
    reference = f"secret://file/e2e/{stage.folder.name}"
    secret = stage.secret_in_file(stage.folder.name, "old")
    merging = stage.submit("merge", {"streams": [first]} | reports, "merge", MERGED, reference)
    cancelled = stage.submit("cancel", {"streams": [waiting]}, "append", RULES)

    failed = live.finished_run(failing)
    assert (failed["status"], failed["error_code"]) == ("failed", "connector-configuration")
    assert "[sealed: see the run's log]" in failed["error"]
    assert live.finished_run(merging)["status"] == "completed"
    assert json.loads(report.read_text())["config"]["password"] == secret
    renewed = stage.secret_in_file(stage.folder.name, "new")
    changed = accounts(canaries, dict.fromkeys(range(5, 12), 2), frozenset({6}))
    write_scenario(stage.folder, {"streams": [changed]} | reports, "merge.json")
    wait_for(lambda: here.exists() or None, 60, "the connector to wait")
    stage.look_at_processes(cancelled)
    run = live.newest_run(cancelled)
    assert run is not None
    with live.client() as api:
        assert api.post(f"/api/runs/{run['id']}/cancel").status_code == 202
    assert live.finished_run(cancelled)["status"] in ("cancelled", "failed")
    assert live.trigger(merging)["status"] == "completed"
    assert json.loads(report.read_text())["config"]["password"] == renewed
    with live.client() as api:
        shown = json.loads(api.get(f"/api/jobs/{merging}").json()["properties_json"])
    assert shown["source_config"]["password"] == reference

    stage.check_logs(merging)
    stage.look_everywhere()
    assert any("airberg-sealed:" in answer.text for answer in stage.answers)
    assert stage.found() == []
    assert stage.others.in_folders(live.settings.home, skip=BIG)


def test_misplaced_secrets_are_not_repeated(stage: Stage) -> None:
    """A secret in the wrong field of a body is neither answered nor logged."""
    body = stage.body("misplaced", {"streams": []}, "append")
    with stage.live.client() as api:
        for wrong, pointer in misplaced(stage.canaries, body):
            answer = api.post("/api/airbyte/ingest", json=wrong)
            assert answer.status_code == 422, answer.text
            assert any(e["pointer"].startswith(pointer) for e in answer.json()["errors"]), answer.text
            stage.answers.append(answer)
        text = json.dumps(body)[:-40]
        stage.answers.append(api.post("/api/airbyte/ingest", content=text.encode()))
        assert stage.answers[-1].status_code == 422
    assert stage.found() == []
