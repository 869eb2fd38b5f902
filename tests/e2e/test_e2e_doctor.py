"""`airberg airflow doctor` beside a real service and a real Airflow: all is well, and what it says if not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from airberg import __version__
from airberg.flows.doctor.model import CHECKS
from airberg.flows.model import SENTINEL_ID
from support.airflow_stack import AirflowStack
from support.deployment import write_scenario
from support.live_stack import LiveStack, wait_for

OF_ALL_JOBS = {"flows", "schedules", "pools"}
"""What these find may be about a job that another test has left as it is; never about ours."""
SECRET = "doct0r-s3cret-of-the-source"


def examined(live: LiveStack, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and findings by their checks."""
    ran = live.airberg("airflow", "doctor", "--json", *options)
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    report = json.loads(ran.stdout)
    assert report["version"] == __version__
    assert (report["status"] == "problem") == (ran.returncode == 1)
    return ran.returncode, {f["check"]: f for f in report["findings"]}


@pytest.fixture
def a_job(live: LiveStack, tmp_path: Path) -> Iterator[str]:
    """A job with a schedule, which has run."""
    scenario = write_scenario(tmp_path, {"streams": [{"name": "things", "records": [{"id": 1}]}]})
    job_id = live.submit(
        {
            "name": f"doctor {tmp_path.name}",
            "source_name": "source-scripted",
            "source_config": {"scenario": str(scenario), "password": SECRET},
            "schema_name": "doctored",
            "mode": "append",
            "schedule": "30 2 * * *",
        }
    )
    live.finished_run(job_id)
    yield job_id
    with live.client() as api:
        assert api.delete(f"/api/jobs/{job_id}").status_code in (202, 204)


def test_all_is_well(live: LiveStack, airflow_stack: AirflowStack, a_job: str) -> None:
    """Every check that there is has looked, on a worker too, and nothing secret is told or kept."""
    _, found = examined(live, "--run-task", "--api-url", live.settings.api_url)
    assert list(found) == list(CHECKS)
    ill = {name: f for name, f in found.items() if f["status"] != "ok"}
    assert ill.keys() - OF_ALL_JOBS == {"pages"}, ill  # its address is on loopback, as a user's would not be
    assert ill["pages"]["status"] == "warning"
    assert not [f for name, f in found.items() if name in OF_ALL_JOBS and a_job in f["found"]]
    assert "1 host of Airflow" in found["hosts"]["found"]
    assert f"Airberg {__version__}" in found["worker-command"]["found"]
    assert "configuration of a job in it is decrypted" in found["worker-job"]["found"]
    runs = airflow_stack.get("/dags/airberg_doctor/dagRuns", order_by="-run_after", limit=1)["dag_runs"]
    path = f"/dags/airberg_doctor/dagRuns/{runs[0]['dag_run_id']}/taskInstances/look"
    kept = json.dumps(airflow_stack.get(f"{path}/xcomEntries/return_value"))
    log = json.dumps(airflow_stack.get(f"{path}/logs/1", full_content="true"))
    assert "worker-catalog" in kept
    for secret in (SECRET, *airflow_stack.secrets()):
        assert secret not in kept + log + json.dumps(found)


def viewers_token(airflow_stack: AirflowStack) -> str:
    """A token of the role `viewer`, as Airflow's simple auth manager makes them."""
    now = int(time.time())
    claims = {"sub": "eve", "role": "viewer", "aud": "apache-airflow", "iat": now, "nbf": now}
    secret = airflow_stack.credentials.jwt_secret
    return jwt.encode(claims | {"exp": now + 300}, secret, algorithm="HS512")


def test_a_role_that_may_only_look(
    live: LiveStack, airflow_stack: AirflowStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logging in is fine; what the role may not do is told, and what depends on it fails with its reason."""
    monkeypatch.setenv("AIRBERG_AIRFLOW__TOKEN", viewers_token(airflow_stack))
    code, found = examined(live, "--wait", "3")
    assert code == 1
    assert found["login"]["status"] == "ok"
    assert found["rights"]["status"] == "problem"
    assert "may not pause, start, cancel, delete flows" in found["rights"]["found"]
    assert found["pull"]["status"] == "problem"
    assert "answers 403" in found["pull"]["found"]
    assert found["worker"]["status"] == "skipped"


def test_a_wrong_password_and_a_wrong_machine_token(live: LiveStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are told by the setting's name, without what it is; the rest is not looked at."""
    monkeypatch.setenv("AIRBERG_AIRFLOW__PASSWORD", "wr0ng-password")
    monkeypatch.setenv("AIRBERG_AIRFLOW__BUNDLE_TOKEN", "wr0ng-token")
    code, found = examined(live)
    assert code == 1
    assert "AIRBERG_AIRFLOW__PASSWORD" in found["login"]["advice"]
    assert "AIRBERG_AIRFLOW__BUNDLE_TOKEN" in found["service"]["advice"]
    assert {found[n]["status"] for n in ("rights", "bundle", "pull", "flows")} == {"skipped"}
    assert "wr0ng" not in json.dumps(found)


def test_airflow_does_not_reach_the_api(live: LiveStack, airflow_stack: AirflowStack) -> None:
    """Airflow parses the copy that it has; that it asked nobody is seen, and a refused token told apart."""
    airflow_stack.feed.close()
    try:
        _, found = examined(live, "--wait", "4")
        assert found["bundle"]["status"] == "ok"
        assert found["pull"]["status"] == "problem"
        assert "goes on with an old copy" in found["pull"]["found"]
    finally:
        airflow_stack.feed.open()
    assert wait_for(lambda: airflow_stack.get(f"/dags/{SENTINEL_ID}")["file_token"], 30, "Airflow")
