"""Jobs on the CeleryExecutor: two workers that have no folder in common, and one of them is lost."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from pyiceberg.table import Table

from airberg.lake.tables import find_table
from support.celery_stack import CONCURRENCY, ENVIRONMENT, NEAR, PAGE, CeleryStack, settings_of_page
from support.conditions import eventually
from support.deployment import write_scenario
from support.duckdb_reader import duckdb_rows
from support.pages import Page

ROWS = 300
HELD_AFTER = 200
STATE_EVERY = 50
PASSWORD = "hunter2-hunter2"
STREAMS = 12


def described(name: str, **changes: Any) -> dict[str, Any]:
    """A stream of the scripted source."""
    fields = {"id": "$i", "name": f"{name} $i"}
    return {
        "name": name,
        "cursor": "id",
        "state_every": STATE_EVERY,
        "generate": {"count": ROWS, "from": 1, "fields": fields},
    } | changes


def body(name: str, scenario: Path, **changes: Any) -> dict[str, Any]:
    """A job that appends the streams of a scenario."""
    return {
        "name": name,
        "source_name": "source-scripted",
        "source_config": {"scenario": str(scenario), "password": PASSWORD},
        "schema_name": "shop",
        "mode": "append",
    } | changes


def table(stack: CeleryStack, name: str) -> Table | None:
    """A table, in the catalog that all machines share."""
    return find_table(stack.catalog, ("shop",), name)


def rows_in(stack: CeleryStack, name: str) -> int:
    """How many rows a table has, as its snapshot says."""
    found = table(stack, name)
    snapshot = found.current_snapshot() if found is not None else None
    return int(snapshot.summary["total-records"] or 0) if snapshot and snapshot.summary else 0


def assert_loaded_once(stack: CeleryStack, name: str) -> None:
    """The table holds what the source has, by another engine; and no row was ever written twice."""
    found = table(stack, name)
    assert found is not None
    rows = duckdb_rows(found)
    assert sorted((r["id"], r["name"]) for r in rows) == [(i, f"{name} {i}") for i in range(1, ROWS + 1)]
    assert len({r["_airbyte_raw_id"] for r in rows}) == ROWS
    summaries = [s.summary for s in found.snapshots() if s.summary is not None]
    assert sum(int(s["added-records"] or 0) for s in summaries) == ROWS
    assert sum(int(s["deleted-records"] or 0) for s in summaries) == 0


def test_airflow_knows_the_options_of_the_page(tmp_path: Path) -> None:
    """With Celery's provider beside it."""
    named = {k for b in Page(PAGE).blocks for k in settings_of_page(b.heading) if k.startswith("AIRFLOW__")}
    code = (
        "import json, sys\n"
        "from airflow.providers_manager import ProvidersManager\n"
        "from airflow.configuration import conf\n"
        "ProvidersManager().initialize_providers_configuration()\n"
        "known = conf.configuration_description\n"
        "parts = [name.lower().split('__')[1:] for name in json.load(sys.stdin)]\n"
        "print(json.dumps([p for p in parts if p[1] not in known[p[0]]['options']]))\n"
    )
    done = subprocess.run(
        [ENVIRONMENT / "bin" / "python", "-W", "ignore", "-c", code],
        input=json.dumps(sorted(named)),
        env={"PATH": "/usr/bin:/bin", "AIRFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(named) > 10
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_twelve_streams_on_two_workers_of_which_one_is_lost(celery_stack: CeleryStack) -> None:
    """Four streams are in the middle, on both workers, when one is lost; the other one finishes the job."""
    stack, gate = celery_stack, celery_stack.folder / "gate"
    names = [f"stream_{i}" for i in range(STREAMS)]
    held = [{"after": HELD_AFTER, "steps": [{"wait_for": str(gate)}]}]
    scenario = {"streams": [described(name, at=held) for name in names]}
    path = write_scenario(stack.folder, scenario, "twelve.json")
    at_once = 2 * CONCURRENCY
    job_id = stack.live.submit(body("twelve streams", path, flow={"parallelism": at_once}))

    def in_the_middle() -> list[dict[str, Any]] | None:
        """Syncs that run, once all that may run at once have committed the rows before the gate."""
        syncs = stack.tasks(job_id, "running")
        return syncs if [rows_in(stack, name) for name in names].count(HELD_AFTER) == at_once else None

    running = eventually(in_the_middle, 120.0, every_s=0.5)
    assert Counter(t["hostname"] for t in running) == {w.address: CONCURRENCY for w in stack.workers}
    in_redis = stack.all_in_redis()
    assert job_id.encode() in in_redis
    assert PASSWORD.encode() not in in_redis

    stack.b.kill()
    gate.touch()
    run = stack.live.finished_run(job_id)
    assert run["status"] == "completed", run
    for name in names:
        assert_loaded_once(stack, name)
    syncs = [task for task in stack.tasks(job_id) if task["task_id"] == "sync"]
    lost = {t["map_index"] for t in running if t["hostname"] == stack.b.address}
    assert {t["map_index"]: t["try_number"] for t in syncs} == {i: 1 + (i in lost) for i in range(STREAMS)}
    assert {(t["state"], t["hostname"]) for t in syncs} == {("success", stack.a.address)}
    assert "completed: " in stack.task_log(syncs[0])  # from the disk of the worker


def test_a_job_has_the_workers_of_its_queue(celery_stack: CeleryStack) -> None:
    """A worker takes them from it that knew nothing of the job, and installs the connector."""
    stack = celery_stack
    stack.start_if_lost(stack.b)
    scenario = write_scenario(stack.folder, {"streams": [described("people")]}, "people.json")
    job_id = stack.live.submit(body("people", scenario, flow={"queue": NEAR}))
    run = stack.live.finished_run(job_id)
    assert (run["status"], run["attempt"]) == ("completed", 1), run
    assert_loaded_once(stack, "people")
    tasks = stack.tasks(job_id)
    assert {(t["task_id"], t["queue"], t["hostname"]) for t in tasks} == {
        (task, NEAR, stack.b.address) for task in ("sync", "register")
    }
    home = stack.b.folder / "airberg"
    assert [*home.glob("connectors/source-scripted/*/launch.json")]
    assert not (home / "connectors.toml").exists()  # what to install is with the job
