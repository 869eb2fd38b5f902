"""Airflow, our API or a part of either is away for a while: all of it heals without a hand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from airberg.flows.model import SENTINEL_ID
from airberg.lake.catalog import open_catalog
from airberg.lake.tables import find_table
from support.airflow_stack import AirflowStack
from support.conditions import eventually
from support.deployment import write_scenario
from support.held_flow import HeldFlow, Processes
from support.live_stack import LiveStack

HEALED_WITHIN_S = 240.0


def job(scenario: Path, **members: Any) -> dict[str, Any]:
    """A job that plays a scenario."""
    return {
        "name": f"away {uuid4()}",
        "source_name": "source-scripted",
        "source_config": {"scenario": str(scenario), "password": "hunter2-hunter2"},
        "schema_name": f"away_{uuid4().hex}",
        "mode": "append",
    } | members


def orders(count: int, **members: Any) -> dict[str, Any]:
    """A scenario of one stream with a cursor."""
    fields = {"id": "$i", "item": "item $i"}
    stream = {"name": "orders", "cursor": "id", "primary_key": [["id"]], "state_every": 10}
    return {"streams": [stream | {"generate": {"count": count, "from": 1, "fields": fields}} | members]}


# ---- Airflow, or a part of it, ends ------------------------------------------------------------------------


def stop_airflow(airflow: AirflowStack, _: Processes) -> None:
    """All of Airflow is asked to end, as at the end of `airberg up`."""
    threading.Thread(target=airflow.stop).start()


def kill_scheduler(airflow: AirflowStack, processes: Processes) -> None:
    """The scheduler is killed, the parent of all workers."""
    scheduler = processes.worker.parent()
    assert scheduler is not None
    assert "scheduler" in " ".join(scheduler.cmdline())
    scheduler.kill()
    eventually(airflow.failure, 30.0)


def kill_worker(_: AirflowStack, processes: Processes) -> None:
    """One worker is killed; Airflow has to find out that nobody supervises its task."""
    processes.worker.kill()


@pytest.mark.chaos
@pytest.mark.parametrize("end", [stop_airflow, kill_scheduler, kill_worker])
def test_a_run_goes_on_when_airflow_is_back(
    live: LiveStack, airflow_stack: AirflowStack, tmp_path: Path, end: Callable[..., None]
) -> None:
    """Its connector, which ignores SIGTERM, ends in time; the run completes, and nobody had to start it."""
    held = HeldFlow(live, tmp_path, flow={"retries": 1, "retry_delay_s": 0})
    processes = held.start()
    end(airflow_stack, processes)
    processes.wait_gone()
    held.check_kept()
    if end is not kill_worker:
        airflow_stack.stop()
        airflow_stack.start()
    assert held.completed(same_run=True, within_s=HEALED_WITHIN_S)["attempt"] == 2
    held.check_resumed()


@pytest.mark.chaos
def test_changes_while_airflow_is_away(live: LiveStack, airflow_stack: AirflowStack, tmp_path: Path) -> None:
    """A job that is made, ones that are changed, paused or deleted: the flows follow when Airflow is back."""
    scenario = write_scenario(tmp_path, orders(5))
    waiting = {"schedule": "0 6 * * *", "run_now": False}
    bodies = [job(scenario, **waiting) for _ in range(3)]
    changed, paused, deleted = (live.post(body, preflight="skip").json()["job_id"] for body in bodies)
    airflow_stack.stop()
    with live.client() as api:
        made = api.post("/api/airbyte/ingest", params={"preflight": "skip"}, json=job(scenario))
        assert made.status_code == 201, made.text
        assert "as soon as Airflow answers" in made.json()["error"]
        new = {"schedule": "15 4 * * 1", "timezone": "Europe/Berlin", "name": f"renamed {uuid4()}"}
        answer = api.patch(f"/api/jobs/{changed}", json=new)
        assert (answer.status_code, answer.json()["flow_registered"]) == (200, False), answer.text
        assert api.post(f"/api/jobs/{paused}/pause").json()["paused"] is True
        assert api.delete(f"/api/jobs/{deleted}").status_code == 204
    airflow_stack.start()
    assert live.finished_run(made.json()["job_id"])["status"] == "completed"
    with live.airflow() as airflow:

        def flow(job_id: str) -> dict[str, Any]:
            answer = airflow.get(f"/api/v2/dags/airberg_{job_id}")
            return answer.json() if answer.status_code == 200 else {"status": answer.status_code}

        eventually(lambda: flow(changed).get("dag_display_name") == new["name"])
        assert flow(changed)["timetable_summary"] == new["schedule"]
        eventually(lambda: flow(paused).get("is_paused"))
        eventually(lambda: flow(deleted) == {"status": 404})


# ---- our API is away ---------------------------------------------------------------------------------------


@pytest.mark.chaos
def test_the_api_is_away(live: LiveStack, airflow_stack: AirflowStack, tmp_path: Path) -> None:
    """A run that is at work goes through, flows stay, and one starts: none of it needs the API."""
    here, go = tmp_path / "here", tmp_path / "go"
    waits = {
        "after": 25,
        "once": str(tmp_path / "waited"),
        "steps": [{"touch": str(here)}, {"wait_for": str(go)}],
    }
    body = job(write_scenario(tmp_path, orders(40, at=[waits])))
    job_id = live.submit(body)
    eventually(here.exists)
    runs = f"/dags/airberg_{job_id}/dagRuns"

    def states() -> dict[str, str]:
        return {r["dag_run_id"]: r["state"] for r in airflow_stack.get(runs)["dag_runs"]}

    with live.api_away(airflow_stack):
        parsed = airflow_stack.get(f"/dags/{SENTINEL_ID}")
        airflow_stack.admin("PUT", f"/parseDagFile/{parsed['file_token']}").raise_for_status()
        eventually(
            lambda: (
                airflow_stack.get(f"/dags/{SENTINEL_ID}")["last_parsed_time"] != parsed["last_parsed_time"]
            )
        )
        assert airflow_stack.get(f"/dags/airberg_{job_id}")["is_stale"] is False
        go.touch()
        eventually(lambda: list(states().values()) == ["success"], 90.0)
        write_scenario(tmp_path, orders(50))
        started = airflow_stack.admin("POST", runs, json={"logical_date": None, "dag_run_id": "by_hand"})
        started.raise_for_status()
        eventually(lambda: states()["by_hand"] == "success", 90.0)
    table = find_table(open_catalog(live.settings), (body["schema_name"],), "orders")
    assert table is not None
    assert sorted(table.scan().to_arrow()["id"].to_pylist()) == list(range(1, 51))
    with live.client() as api:
        shown = api.get(f"/api/jobs/{job_id}/runs").json()
        assert [(run["status"], bool(run["metadata"])) for run in shown] == [("completed", True)] * 2
        assert shown[0]["flow_run_id"] == "by_hand"
        for run in shown:
            assert "completed: " in api.get(f"/api/runs/{run['id']}/logs").text
        assert api.patch(f"/api/jobs/{job_id}", json={"schedule": "@daily"}).status_code == 200
        eventually(lambda: airflow_stack.get(f"/dags/airberg_{job_id}")["timetable_summary"] is not None)
