"""Options of flows in a real Airflow: pools, queues, weights, retries, deadlines, who is told of failures."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import msgspec
import pytest

from airberg.flows.airflow import AirflowOrchestrator
from airberg.flows.model import FlowSpec
from airberg.plan.flow_request import Notification
from airberg.stack.airflow import EmbeddedAirflow
from airberg.stack.supervisor import Supervisor
from airberg_airflow.flow_files import shard_files
from support.airflow_stack import AirflowStack
from support.conditions import eventually
from support.webhook_listener import Webhook, listening

pytestmark = [pytest.mark.airflow, pytest.mark.xdist_group("airflow")]

RUN = "airberg__1"
SECRET = "hunter22hunter22"
WAIT_FOR_GO = 'touch "$OUT/started"; while [ ! -e "$OUT/go" ]; do sleep 0.1; done'


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    """A webhook."""
    with listening() as hook:
        yield hook


def told(stack: AirflowStack, hook: Webhook) -> Notification:
    """A notification by a new connection to the webhook."""
    connection = f"pager_{uuid4().hex}"
    body = {
        "connection_id": connection,
        "conn_type": "http",
        "host": f"http://127.0.0.1:{hook.port}/of-airberg",
        "login": "airberg",
        "password": SECRET,
        "extra": json.dumps({"X-Routing-Key": f"{SECRET}-too"}),
    }
    assert stack.admin("POST", "/connections", json=body).status_code == 201
    return Notification(type="webhook", connection=connection)


def instances(stack: AirflowStack, spec: FlowSpec) -> dict[str, dict[str, Any]]:
    """The tasks of the run."""
    found = stack.get(f"/dags/{spec.flow_id}/dagRuns/{RUN}/taskInstances")["task_instances"]
    return {t["task_id"]: t for t in found}


def python_of(stack: AirflowStack) -> Path:
    """Airflow's interpreter."""
    return stack.settings.home / "airflow" / "venv" / "bin" / "python"


def environment(stack: AirflowStack) -> dict[str, str]:
    """The variables of Airflow's processes."""
    supervisor = Supervisor(stack.settings.home / "logs")
    return EmbeddedAirflow(stack.settings, stack.credentials, supervisor).environment()


@contextlib.contextmanager
def component(stack: AirflowStack, name: str) -> Iterator[None]:
    """One more process of Airflow while the block lasts."""
    log = stack.settings.home / "logs" / f"airflow-{name}.log"
    argv = [python_of(stack), "-m", "airflow", name, "--skip-serve-logs"]
    with log.open("wb") as output:
        process = subprocess.Popen(argv, env=environment(stack), stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


@contextlib.contextmanager
def administrator(stack: AirflowStack) -> Iterator[AirflowOrchestrator]:
    """A client that may make pools."""
    client = stack.administrator()
    try:
        yield client
    finally:
        client.close()


def test_tasks_have_what_the_job_asks_for(airflow_stack: AirflowStack) -> None:
    """Both tasks: pool, queue, weight, retries with waits that grow up to a limit."""
    with administrator(airflow_stack) as admin:
        admin.set_pool("some pool", 3)
    spec = airflow_stack.registered(
        airflow_stack.spec(
            pool="some pool",
            queue="big",
            priority=77,
            retries=4,
            retry_delay_s=30,
            max_retry_delay_s=120,
            timeout_s=42,
            deadline_s=3600,
        )
    )
    tasks = {t["task_id"]: t for t in airflow_stack.get(f"/dags/{spec.flow_id}/tasks")["tasks"]}
    assert set(tasks) == {"sync", "register"}
    for task in tasks.values():
        assert (task["pool"], task["queue"], task["priority_weight"]) == ("some pool", "big", 77)
        assert task["weight_rule"] == "absolute"
        assert (task["retries"], task["retry_delay"]["seconds"]) == (4, 30)
        assert task["retry_exponential_backoff"] == 2.0
    assert tasks["sync"]["execution_timeout"]["seconds"] == 42
    assert airflow_stack.get("/importErrors")["import_errors"] == []


def test_pools_of_the_settings_are_made_by_the_embedded_airflows_administrator(
    airflow_stack: AirflowStack,
) -> None:
    """At the start of the stack: the service's own role may not."""
    name = f"pool {uuid4()}"
    airflow = airflow_stack.settings.airflow.model_copy(update={"pool_slots": {name: 7}})
    settings = airflow_stack.settings.model_copy(update={"airflow": airflow})
    supervisor = Supervisor(settings.home / "logs")
    EmbeddedAirflow(settings, airflow_stack.credentials, supervisor).make_pools(60.0)
    assert airflow_stack.orchestrator.pools()[name] == 7


def test_a_flow_without_its_notifier_says_so(airflow_stack: AirflowStack) -> None:
    """This Airflow has no provider for Slack. The flow is as any other, and its page has a remark."""
    slack = Notification(type="slack", connection="s", channel="#c")
    spec = airflow_stack.registered(airflow_stack.spec(on_failure=(slack,)))
    page = airflow_stack.get(f"/dags/{spec.flow_id}/details")["doc_md"]
    assert "lacks apache-airflow-providers-slack" in page
    assert "airberg-broken" not in str(airflow_stack.get(f"/dags/{spec.flow_id}")["tags"])


def test_a_pool_of_one_slot_keeps_two_jobs_apart(airflow_stack: AirflowStack) -> None:
    """The second waits although a worker is free, and starts when the first has ended."""
    pool = f"pool {uuid4()}"
    with administrator(airflow_stack) as admin:
        admin.set_pool(pool, 1)
    first, second = (airflow_stack.spec(pool=pool, retries=0) for _ in range(2))
    outs = [airflow_stack.behave(spec, WAIT_FOR_GO) for spec in (first, second)]
    for spec in (first, second):
        airflow_stack.registered(spec)
    airflow_stack.orchestrator.trigger(first.flow_id, RUN)
    assert eventually((outs[0] / "started").exists, 60)
    airflow_stack.orchestrator.trigger(second.flow_id, RUN)
    waiting = lambda: instances(airflow_stack, second)["sync"]["state"] == "scheduled"  # noqa: E731
    assert eventually(waiting, 60)
    (outs[1] / "go").touch()
    (outs[0] / "go").touch()
    assert [airflow_stack.ended(spec, RUN) for spec in (first, second)] == ["success", "success"]
    ended = datetime.fromisoformat(instances(airflow_stack, first)["sync"]["end_date"])
    started = datetime.fromisoformat(instances(airflow_stack, second)["sync"]["start_date"])
    assert started >= ended


def test_a_failed_run_is_told_once_and_is_not_tried_again_in_vain(
    airflow_stack: AirflowStack, webhook: Webhook
) -> None:
    """A wrong configuration (exit code 2): one attempt, one POST with ids and addresses, no secret."""
    spec = airflow_stack.spec(
        name="{{ 7*7 }} of ann",
        retries=3,
        retry_delay_s=60,
        on_failure=(told(airflow_stack, webhook),),
        flow_url="http://airflow.example/dags/x",
    )
    airflow_stack.behave(spec, 'echo "error: the password is wrong"; exit 2')
    airflow_stack.registered(spec)
    airflow_stack.orchestrator.trigger(spec.flow_id, RUN)
    assert airflow_stack.ended(spec, RUN) == "failed"
    assert airflow_stack.tasks(spec, RUN)["sync"] == ("failed", 1)
    assert eventually(lambda: webhook.posts, 60)
    [(path, headers, body)] = webhook.posts
    assert path == "/of-airberg"
    assert headers["X-Routing-Key"] == f"{SECRET}-too"
    assert headers["Authorization"].startswith("Basic ")
    assert body == {
        "event": "failed",
        "job_id": spec.job_id,
        "job_name": "{{ 7*7 }} of ann",
        "flow_id": spec.flow_id,
        "flow_url": "http://airflow.example/dags/x",
        "run_id": RUN,
        "run_url": f"http://airflow.example/dags/x/runs/{quote(RUN)}",
        "state": "failed",
    }
    logs = [
        p for p in (airflow_stack.settings.home).rglob("*.log") if SECRET in p.read_text(errors="replace")
    ]
    assert logs == []


def test_a_run_that_somebody_cancels_is_not_told(airflow_stack: AirflowStack, webhook: Webhook) -> None:
    """Who did it knows. The next one, which fails by itself, is."""
    spec = airflow_stack.spec(retries=0, on_failure=(told(airflow_stack, webhook),))
    out = airflow_stack.behave(spec, WAIT_FOR_GO)
    airflow_stack.registered(spec)
    airflow_stack.orchestrator.trigger(spec.flow_id, RUN)
    assert eventually((out / "started").exists, 60)
    airflow_stack.orchestrator.cancel(spec.flow_id, RUN)
    assert airflow_stack.ended(spec, RUN) == "failed"
    airflow_stack.behave(spec, "exit 1")
    airflow_stack.orchestrator.trigger(spec.flow_id, "airberg__2")
    assert eventually(lambda: webhook.posts, 60)
    assert [body["run_id"] for body in webhook.bodies()] == ["airberg__2"]


def test_a_change_that_airflow_missed_is_seen_at_the_next_request(airflow_stack: AirflowStack) -> None:
    """A file that was written while Airflow parsed it: its time is before the parse's end.

    Callbacks make that likelier, as Airflow parses a file again after each of them.
    """
    there = airflow_stack.registered(airflow_stack.spec(shard=37))
    missed = airflow_stack.spec(shard=37)
    airflow_stack.feed.offer(missed)
    folder = airflow_stack.settings.home / "airflow" / "bundles" / "airberg" / "dags"
    file, written = folder / "airberg_00037.py", time.time() - 5
    text = shard_files([msgspec.to_builtins(spec) for spec in (there, missed)])
    part = file.with_suffix(".part")
    part.write_text(text[file.name])
    os.utime(part, (written, written))
    part.replace(file)
    airflow_stack.registered(missed)


def test_a_run_that_is_late_is_told_while_it_goes_on(airflow_stack: AirflowStack, webhook: Webhook) -> None:
    """By the task that is at work: it needs no triggerer. A run that ends in time is not told of."""
    told_of = (told(airflow_stack, webhook),)
    spec = airflow_stack.spec(deadline_s=1, on_failure=told_of)
    in_time = airflow_stack.spec(deadline_s=300, on_failure=told_of)
    out = airflow_stack.behave(spec, WAIT_FOR_GO)
    airflow_stack.behave(in_time, "exit 0")
    for one in (spec, in_time):
        airflow_stack.registered(one)
        airflow_stack.orchestrator.trigger(one.flow_id, RUN)
    assert eventually(lambda: webhook.posts, 60)
    assert airflow_stack.orchestrator.run_state(spec.flow_id, RUN) == "running"
    (out / "go").touch()
    assert [airflow_stack.ended(one, RUN) for one in (spec, in_time)] == ["success", "success"]
    [late] = webhook.bodies()
    assert (late["event"], late["job_id"], late["run_id"]) == ("late", spec.job_id, RUN)
    assert late["state"] == "running"


def test_a_deadline_is_told_by_airflows_triggerer(airflow_stack: AirflowStack, webhook: Webhook) -> None:
    """Where there is one: also of a run that waits, here for a slot of its pool."""
    pool = f"pool {uuid4()}"
    with administrator(airflow_stack) as admin:
        admin.set_pool(pool, 0)
    spec = airflow_stack.spec(
        pool=pool, deadline_s=1, deadline_by="triggerer", on_failure=(told(airflow_stack, webhook),)
    )
    airflow_stack.behave(spec, "exit 0")
    airflow_stack.registered(spec)
    with component(airflow_stack, "triggerer"):
        airflow_stack.orchestrator.trigger(spec.flow_id, RUN)
        assert eventually(lambda: webhook.posts, 60)
        with administrator(airflow_stack) as admin:
            admin.set_pool(pool, 1)
        assert airflow_stack.ended(spec, RUN) == "success"
    [late] = webhook.bodies()
    assert (late["event"], late["run_id"], late["state"]) == ("late", RUN, "running")


RETRY_DATES = """
import json, sys
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
with create_session() as session:
    ti = session.query(TaskInstance).filter_by(dag_id=sys.argv[1], task_id="sync").one()
    ti.task = SerializedDagModel.get_dag(sys.argv[1], session=session).get_task("sync")
    delays = []
    for ti.try_number in range(1, 7):
        delays.append((ti.next_retry_datetime() - ti.end_date).total_seconds())
    print(json.dumps([ti.state, delays]))
    session.rollback()
"""


def test_a_transient_failure_is_tried_again_later_and_later(airflow_stack: AirflowStack) -> None:
    """By Airflow's own reckoning of the next attempts: from 100 s, doubled each time, up to 1000 s."""
    spec = airflow_stack.spec(retries=6, retry_delay_s=100, max_retry_delay_s=1000)
    airflow_stack.behave(spec, "exit 1")
    airflow_stack.registered(spec)
    airflow_stack.orchestrator.trigger(spec.flow_id, RUN)
    waits = lambda: airflow_stack.tasks(spec, RUN)["sync"] == ("up_for_retry", 1)  # noqa: E731
    assert eventually(waits, 60)
    ran = subprocess.run(
        [python_of(airflow_stack), "-c", RETRY_DATES, spec.flow_id],
        env=environment(airflow_stack),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    state, delays = json.loads(ran.stdout.splitlines()[-1])
    assert state == "up_for_retry"
    for number, delay in enumerate(delays):
        least = min(100 * 2**number, 1000)
        assert least <= delay <= min(2 * least, 1000), delays
    airflow_stack.orchestrator.cancel(spec.flow_id, RUN)
