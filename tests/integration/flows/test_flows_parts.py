"""Flows whose streams are synced side by side, and parameters of runs, in a real Airflow."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from airberg.jobs.model import RunRequest
from support.airflow_stack import AirflowStack

pytestmark = [pytest.mark.airflow, pytest.mark.xdist_group("airflow")]

RUN = "airberg__1"
TELL = 'echo "$*" >> "$OUT/calls"; '
PLAN = 'plan) printf \'{"parts": 3, "names": ["users", "orders", "items"]}\' > "$AIRBERG_PARTS_FILE";; '


def calls(out: Path, verb: str) -> list[str]:
    """The arguments that a command was called with."""
    lines = (out / "calls").read_text().splitlines()
    return sorted(line.removeprefix(f"{verb} ") for line in lines if line.startswith(f"{verb} "))


def test_each_part_is_a_task(airflow_stack: AirflowStack) -> None:
    """At most so many at once as the job asks for; one that fails is tried again alone.

    Parameters of the run go to the plan, not to the parts, which have numbers. Registration comes last.
    """
    spec = airflow_stack.registered(airflow_stack.spec(parallelism=1 + 1))
    out = airflow_stack.behave(
        spec,
        TELL + f'case "$1" in {PLAN}'
        'sync) mkdir "$OUT/at-work-$$"; n=$(ls -d "$OUT"/at-work-* | wc -l); echo "$n" >> "$OUT/at-once"; '
        'rmdir "$OUT/at-work-$$"; '
        'case "$*" in *"--part 1 "*) mkdir "$OUT/tried" && exit 1;; esac;; '
        'register) ls "$OUT" > "$OUT/registered";; esac; exit 0',
    )
    airflow_stack.orchestrator.trigger(
        spec.flow_id, RUN, RunRequest(streams=("--part", "ü x"), full_refresh=True)
    )
    assert airflow_stack.ended(spec, RUN) == "success"
    assert airflow_stack.mapped(spec, RUN, "sync") == {
        "users": ("success", 1),
        "orders": ("success", 2),
        "items": ("success", 1),
    }
    head = f"{spec.job_id} --flow-run-id {RUN}"
    assert calls(out, "plan") == [f"{head} --attempt 1 --stream=--part --stream=ü x --full-refresh"]
    assert calls(out, "sync") == [
        f"{head} --part 0 --attempt 1",
        f"{head} --part 1 --attempt 1",
        f"{head} --part 1 --attempt 2",
        f"{head} --part 2 --attempt 1",
    ]
    assert calls(out, "register") == [head]
    assert {int(n) for n in (out / "at-once").read_text().split()} <= {1, 2}


def test_a_plan_that_says_nothing_fails_the_run(airflow_stack: AirflowStack) -> None:
    """No part is begun, and nothing is registered."""
    spec = airflow_stack.registered(airflow_stack.spec(parallelism=4, retries=0))
    out = airflow_stack.behave(spec, TELL + "exit 0")
    airflow_stack.orchestrator.trigger(spec.flow_id, RUN)
    assert airflow_stack.ended(spec, RUN) == "failed"
    assert {line.split()[0] for line in (out / "calls").read_text().splitlines()} == {"plan"}
    assert "did not say which parts the run has" in airflow_stack.task_log(spec, RUN, "plan")


def test_a_run_can_be_asked_for_something_on_airflows_page(airflow_stack: AirflowStack) -> None:
    """The page shows what can be asked for, refuses what is no name of a stream, and passes the rest on."""
    spec = airflow_stack.registered(airflow_stack.spec())
    out = airflow_stack.behave(spec, TELL + "exit 0")
    params = airflow_stack.get(f"/dags/{spec.flow_id}/details")["params"]
    assert {name: shown["value"] for name, shown in params.items()} == {"streams": [], "full_refresh": False}
    path = f"/dags/{spec.flow_id}/dagRuns"
    for conf in ({"streams": "users"}, {"streams": [""]}, {"full_refresh": "yes"}):
        body = {"logical_date": None, "dag_run_id": quote(RUN), "conf": conf}
        assert airflow_stack.admin("POST", path, json=body).status_code == 400
    body = {"logical_date": None, "dag_run_id": RUN, "conf": {"streams": ["users"]}}
    assert airflow_stack.admin("POST", path, json=body).status_code == 200
    assert airflow_stack.ended(spec, RUN) == "success"
    assert calls(out, "sync") == [f"{spec.job_id} --flow-run-id {RUN} --stream=users --attempt 1"]
