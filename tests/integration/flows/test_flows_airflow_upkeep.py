"""The flow that looks after tables, in a real Airflow; its commands do what the test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from airberg.flows.model import UpkeepSpec
from airberg.flows.schedule import next_times
from support.airflow_stack import AirflowStack
from support.conditions import eventually

pytestmark = [pytest.mark.airflow, pytest.mark.xdist_group("airflow")]

RUN = "airberg__1"


@pytest.fixture
def triggered_upkeep(airflow_stack: AirflowStack) -> Iterator[Callable[[UpkeepSpec, dict[str, object]], int]]:
    """Starts a run with parameters and returns what Airflow answers; the flows go in the end.

    500 is asked again: with SQLite underneath, the database may be locked while a first task starts.
    """
    seen: set[str] = set()

    def trigger(spec: UpkeepSpec, parameters: dict[str, object]) -> int:
        airflow_stack.registered(spec)
        seen.add(spec.flow_id)
        body = {"logical_date": None, "dag_run_id": RUN, "conf": parameters}
        path = f"/dags/{spec.flow_id}/dagRuns"

        def answered() -> int | None:
            status = airflow_stack.admin("POST", path, json=body).status_code
            return status if status != 500 else None

        status = eventually(answered)
        assert status is not None
        return status

    yield trigger
    airflow_stack.feed.remove(*seen)


def test_upkeep_has_a_task_for_each_job(
    airflow_stack: AirflowStack, triggered_upkeep: Callable[[UpkeepSpec, dict[str, object]], int]
) -> None:
    """Jobs are asked for in the run; they have their turn one after the other, and each fails for itself.

    A run for a job that is not among them fails, and one whose parameter is no id is not even started. What
    was due before there was a flow is not made up for.
    """
    an_hour_ago = datetime.now(ZoneInfo("Europe/Berlin")) - timedelta(hours=1)
    schedule = f"{an_hour_ago:%M %H} * * *"
    everything, deleted = (
        airflow_stack.upkeep_spec(schedule=schedule, timezone="Europe/Berlin", parallelism=1),
        airflow_stack.upkeep_spec(),
    )
    broken, flaky, sound = (str(uuid4()) for _ in range(3))
    jobs = f'env > "$OUT/env"; echo "not an id"; printf "%s\\n" {broken} {flaky} {sound}'
    looks_after = (
        'mkdir "$OUT/busy" || echo overlap >> "$OUT/calls"; echo "$*" >> "$OUT/calls"; sleep 0.2; '
        f'rmdir "$OUT/busy"; case "$4" in {broken}) echo "error: The table is broken."; exit 2;; '
        f'{flaky}) mkdir "$OUT/tried" && exit 1;; esac; exit 0'
    )
    with airflow_stack.tables_behave(jobs=jobs, upkeep=looks_after) as out:
        assert triggered_upkeep(everything, {"dry_run": True}) == 200
        assert triggered_upkeep(deleted, {"job": str(uuid4())}) == 200
        assert triggered_upkeep(deleted, {"job": "--dry-run"}) == 400
        assert airflow_stack.ended(deleted, RUN) == "failed"
        assert airflow_stack.ended(everything, RUN) == "failed"
    assert airflow_stack.tasks(deleted, RUN)["jobs"] == ("failed", 1)
    assert airflow_stack.mapped(everything, RUN, "upkeep") == {
        broken: ("failed", 1),
        flaky: ("success", 2),
        sound: ("success", 1),
    }
    calls = sorted((out / "calls").read_text().splitlines())
    assert calls == sorted(f"tables upkeep --job {j} --dry-run" for j in (broken, flaky, flaky, sound))
    assert not [s for s in airflow_stack.secrets() if s in (out / "env").read_text()]
    assert "not an id" in airflow_stack.task_log(everything, RUN, "jobs")

    flow = airflow_stack.get(f"/dags/{everything.flow_id}/details")
    assert flow["dag_display_name"] == "Airberg: table upkeep"
    assert (flow["max_active_runs"], flow["catchup"], flow["is_paused"]) == (1, False, False)
    runs = airflow_stack.get(f"/dags/{everything.flow_id}/dagRuns")["dag_runs"]
    assert [run["dag_run_id"] for run in runs] == [RUN]  # not the one that was due before there was a flow
    due = next_times(schedule, "Europe/Berlin", datetime.now(UTC), 1)
    assert [datetime.fromisoformat(next_run(airflow_stack, everything))] == due


def next_run(stack: AirflowStack, spec: UpkeepSpec) -> str:
    """When Airflow runs a flow next, with no run at work.

    3.1 forgets it where it parses the file during a run, until it parses it again without one.
    """

    def known() -> str | None:
        flow = stack.get(f"/dags/{spec.flow_id}")
        if flow["next_dagrun_run_after"] is None:
            stack.admin("PUT", f"/parseDagFile/{flow['file_token']}")
        return flow["next_dagrun_run_after"]

    found = eventually(known, 30.0, every_s=1.0)
    assert found is not None
    return found
