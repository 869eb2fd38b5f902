"""A job's life: failure and retry, schedule, pause, delete."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

from airberg.lake.catalog import open_catalog
from airberg.lake.tables import find_table
from support.deployment import write_scenario
from support.live_stack import LiveStack, wait_for

SECRET = 'pl4nted-s3cret/val"ue'


def orders(count: int, **members: Any) -> dict[str, Any]:
    """A stream with a cursor."""
    fields = {"id": "$i", "item": "item $i"}
    base = {"name": "orders", "cursor": "id", "primary_key": [["id"]], "state_every": 10}
    return base | {"generate": {"count": count, "from": 1, "fields": fields}} | members


def job(scenario: Path, schema: str, **changes: Any) -> dict[str, Any]:
    """A job that plays a scenario."""
    return {
        "name": f"life {uuid4()}",
        "source_name": "source-scripted",
        "source_config": {"scenario": str(scenario), "password": SECRET},
        "schema_name": schema,
        "mode": "append",
    } | changes


def ids(live: LiveStack, schema: str) -> list[int]:
    """The ids in the orders table of a schema."""
    table = find_table(open_catalog(live.settings), (schema,), "orders")
    assert table is not None
    return sorted(table.scan().to_arrow()["id"].to_pylist())


def flow_state(live: LiveStack, job_id: str, flow_run_id: str) -> str:
    """How Airflow says that a run ended."""
    with live.airflow() as airflow:

        def ended() -> str | None:
            url = f"/api/v2/dags/airberg_{job_id}/dagRuns/{flow_run_id}"
            state = airflow.get(url).json().get("state")
            return state if state in ("success", "failed") else None

        return wait_for(ended, 60, "the end of the flow run")


def test_failure_is_seen_everywhere_and_a_retry_completes(live: LiveStack, tmp_path: Path) -> None:
    """The flow fails, the job shows the connector's words, covered rows stay; a cleared task completes."""
    error = {"message": "The API key was revoked", "failure_type": "transient_error"}
    fails = {"after": 25, "once": str(tmp_path / "flag"), "steps": [{"trace_error": error}, {"exit": 1}]}
    scenario = write_scenario(tmp_path, {"streams": [orders(40, at=[fails])]})
    job_id = live.submit(job(scenario, "life_fail"))
    run = live.finished_run(job_id)
    assert run["status"] == "failed"
    assert "The API key was revoked" in run["error"]
    assert flow_state(live, job_id, run["flow_run_id"]) == "failed"
    with live.client() as api:
        shown = api.get(f"/api/jobs/{job_id}").json()
    assert (shown["status"], "The API key was revoked" in shown["status_message"]) == ("failed", True)
    assert ids(live, "life_fail") == list(range(1, 21))
    with live.airflow() as airflow:
        url = f"/api/v2/dags/airberg_{job_id}/dagRuns/{run['flow_run_id']}/clear"
        assert airflow.post(url, json={"dry_run": False}).status_code == 200
    again = live.finished_run(job_id, attempt=2)
    assert (again["status"], again["id"]) == ("completed", run["id"])
    assert ids(live, "life_fail") == list(range(1, 41))
    assert flow_state(live, job_id, run["flow_run_id"]) == "success"


def test_configuration_errors_are_not_retried(live: LiveStack, tmp_path: Path) -> None:
    """`failure_type: config_error` ends the flow at the first attempt, whatever its retries."""
    error = {"message": "The table list is empty", "failure_type": "config_error"}
    scenario = write_scenario(
        tmp_path, {"streams": [orders(5)], "read": {"steps": [{"trace_error": error}, {"exit": 1}]}}
    )
    job_id = live.submit(job(scenario, "life_config"))
    run = live.finished_run(job_id)
    assert (run["status"], run["error_code"]) == ("failed", "connector-configuration")
    with live.airflow() as airflow:
        url = f"/api/v2/dags/airberg_{job_id}/dagRuns/{run['flow_run_id']}/taskInstances"
        tasks = {t["task_id"]: t for t in airflow.get(url).json()["task_instances"]}
    assert tasks["sync"]["try_number"] == 1
    assert tasks["register"]["state"] in ("upstream_failed", None)


def test_schedule_pause_and_delete_reach_airflow(live: LiveStack, tmp_path: Path) -> None:
    """The flow follows each change; after the delete it is gone, and the table stays.

    Its table is looked after although it is paused.
    """
    scenario = write_scenario(tmp_path, {"streams": [orders(5)]})
    job_id = live.submit(job(scenario, "life_edit", schedule="0 6 * * *", timezone="Europe/Berlin"))
    assert live.finished_run(job_id)["status"] == "completed"
    url = f"/api/v2/dags/airberg_{job_id}"
    with live.client() as api, live.airflow() as airflow:
        assert airflow.get(url).json()["timetable_summary"] == "0 6 * * *"
        changed = api.patch(f"/api/jobs/{job_id}", json={"schedule": "30 4 * * 1", "timezone": "UTC"})
        assert changed.status_code == 200, changed.text
        wait_for(
            lambda: airflow.get(url).json()["timetable_summary"] == "30 4 * * 1" or None,
            30,
            "the new schedule",
        )
        assert api.post(f"/api/jobs/{job_id}/pause").json()["paused"] is True
        wait_for(lambda: airflow.get(url).json()["is_paused"] or None, 30, "the pause")
        upkeep = live.start_upkeep(job_id)
        wrong = api.patch(f"/api/jobs/{job_id}", json={"schedule": "nope"})
        assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/schedule")
        state, log = live.upkeep_ended(upkeep)
        assert (state, "life_edit.orders" in log) == ("success", True), log
        assert api.post(f"/api/jobs/{job_id}/resume").json()["paused"] is False
        wait_for(lambda: not airflow.get(url).json()["is_paused"] or None, 30, "the end of the pause")
        assert api.delete(f"/api/jobs/{job_id}").status_code == 204
        wait_for(lambda: airflow.get(url).status_code == 404 or None, 30, "the flow's end")
        gone = api.get(f"/api/jobs/{job_id}").json()
        assert gone["is_deleted"] is True
        assert api.post(f"/api/jobs/{job_id}/trigger").status_code == 409
    assert ids(live, "life_edit") == [1, 2, 3, 4, 5]


def test_flow_files_hold_ids_names_and_schedules_only(live: LiveStack) -> None:
    """What crosses the border to Airflow names no configuration and no table."""
    folder = live.settings.home / "airflow"
    files = [f for f in folder.rglob("*.py") if "dags" in f.parts and "venv" not in f.parts]
    text = "\n".join(f.read_text() for f in files)
    assert "airberg_" in text
    for forbidden in ("source_config", "scenario", "password", "schema_name", "token"):
        assert forbidden not in text
