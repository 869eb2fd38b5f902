"""Pods that Airflow's triggerer waits for: a real scheduler with one slot, a real triggerer, real pods."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from airberg.flows.model import FlowSpec
from airberg.plan.flow_request import Notification
from support.cluster_double import ClusterDouble, Pod
from support.conditions import eventually
from support.deferral_stack import STOP_S, DeferralStack, running_deferral_stack
from support.pod_sandbox import image_folders, why_not

CHANGED = json.dumps({"tables": [{"uri": "iceberg://shop.orders", "extra": {"rows_written": 3}}]})
PARTS = json.dumps({"parts": 2, "names": ["orders", "people"]})
SECRET = "s3cret-of-the-store"
LATE = "has not ended in time"
STUBBORN = "trap 'echo \"asked to end\"; exit 143' TERM; echo waits; sleep 300 & wait"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeferralStack]:
    """One for all of these tests."""
    if reason := why_not():
        pytest.skip(f"no pods can run here: {reason}")
    folder = tmp_path_factory.mktemp("deferral")
    images = {"airberg:script": ["/bin/sh", "-c", 'eval "$SCRIPT"', "airberg"]}
    cluster = ClusterDouble(folder, images, image_folders())
    try:
        with running_deferral_stack(folder, cluster) as running:
            yield running
    finally:
        cluster.close()


def said_in(log: str, *lines: str) -> list[int]:
    """How often each line is in a task's log."""
    return [log.count(f'"{line}"') for line in lines]


def asked_to_end(stack: DeferralStack, pod: Pod) -> None:
    """Wait for the end of a pod that was told to: soon, by SIGTERM, with its time."""
    eventually(lambda: pod.name in stack.cluster.said, 20.0)
    assert stack.cluster.said[pod.name][-1] == "asked to end"
    graces = [grace for name, grace in stack.cluster.deleted if name == pod.name]
    assert graces[0] == STOP_S


def log_of(stack: DeferralStack, spec: FlowSpec, run_id: str, attempt: int = 1) -> str:
    """The log of the task `sync`."""
    return stack.task_log(spec, run_id, "sync", attempt)


def test_pods_of_two_jobs_work_where_airflow_has_one_slot(stack: DeferralStack) -> None:
    """Both tasks are suspended; each says what its pod says, once, and which tables have changed."""
    lines = [f"line {number}" for number in range(40)]
    printed = "\n".join(f"echo '{line}'" for line in lines)
    end = f"echo '{CHANGED}' > \"$AIRBERG_CHANGED_TABLES_FILE\"; echo {SECRET} | wc -c; echo 'the end'"
    script = f'echo "$1 begins"; [ "$1" = sync ] || exit 0; wait_for both; {printed}\n{end}'
    specs = [stack.job(script, {"log_s": 2}) for _ in range(2)]
    runs = [stack.begun(spec) for spec in specs]
    pods = [stack.suspended(spec, run_id) for spec, run_id in zip(specs, runs, strict=True)]
    assert not any(pod.ended.is_set() for pod in pods), "both work"
    rows = "\n".join(stack.triggers())
    assert rows.count("airberg_airflow.pod_trigger.PodTrigger") == 2
    for secret in ("a-token", SECRET, "SCRIPT", "kube_config", *stack.secrets()):
        assert secret not in rows
    stack.say("both")
    for spec, run_id in zip(specs, runs, strict=True):
        assert stack.ended(spec, run_id) == "success"
        log = log_of(stack, spec, run_id)
        assert said_in(log, "sync begins", *lines, "the end") == [1] * (len(lines) + 2)
        assert "changed: iceberg://shop.orders" in log
        uris = [e["uri"].rstrip("/") for e in events_of(stack, spec, run_id)]
        assert uris == ["iceberg://shop.orders"]
    assert stack.cluster.unknown == []


def events_of(stack: DeferralStack, spec: FlowSpec, run_id: str) -> list[dict[str, str]]:
    """Asset events of a run."""
    found = stack.get("/assets/events", source_dag_id=spec.flow_id, source_run_id=run_id)
    return list(found["asset_events"])


def test_lines_come_while_the_pod_works(stack: DeferralStack) -> None:
    """In pieces, at an interval; where a piece begins none is lost and none comes twice."""
    script = (
        '[ "$1" = sync ] || exit 0; echo first; wait_for second; echo second; wait_for third'
        '; for n in $(seq 300); do echo "n$n"; done; wait_for last; printf last'
    )
    spec = stack.job(script, {"log_s": 1})
    run_id = stack.begun(spec)
    stack.suspended(spec, run_id)
    for word, before in (("second", "first"), ("third", "second"), ("last", "n300")):
        eventually(lambda before=before: said_in(log_of(stack, spec, run_id), before) == [1], 40.0)
        stack.say(word)
    assert stack.ended(spec, run_id) == "success"
    wanted = ["first", "second", *(f"n{n}" for n in range(1, 301)), "last"]
    assert said_in(log_of(stack, spec, run_id), *wanted) == [1] * len(wanted)


@pytest.mark.parametrize(
    ("code", "state", "why"),
    [
        pytest.param(2, "failed", "AirflowFailException", id="configuration"),
        pytest.param(99, "skipped", "another run is alive", id="lease"),
    ],
)
def test_exit_codes_mean_the_same(stack: DeferralStack, code: int, state: str, why: str) -> None:
    """What is said in an earlier piece of the log is known at the end."""
    name = f"code{code}"
    script = f"echo 'error: another run is alive'; wait_for {name}; exit {code}"
    spec = stack.job(script, {"log_s": 1}, retries=2)
    run_id = stack.begun(spec)
    stack.suspended(spec, run_id)
    eventually(lambda: "another run is alive" in log_of(stack, spec, run_id), 40.0)
    stack.say(name)
    stack.ended(spec, run_id)
    seen = stack.task(spec, run_id)
    assert (seen.state, seen.attempt) == (state, 1)
    assert why in log_of(stack, spec, run_id)


def test_another_failure_is_tried_again(stack: DeferralStack) -> None:
    """In a pod of its own."""
    script = (
        '[ "$1" = sync ] || exit 0; [ -e /shared/$2 ] && echo again && exit 0'
        "; echo 'error: the source is away'; wait_for away; exit 1"
    )
    spec = stack.job(script, retries=1)
    run_id = stack.begun(spec)
    stack.suspended(spec, run_id)
    stack.say(spec.job_id)
    stack.say("away")
    assert stack.ended(spec, run_id) == "success"
    assert stack.task(spec, run_id).attempt == 2
    assert '"exc_value": "the source is away"' in log_of(stack, spec, run_id)
    assert said_in(log_of(stack, spec, run_id, 2), "again") == [1]


def test_parts_are_waited_for(stack: DeferralStack) -> None:
    """What `plan` says comes through; two parts work at once, where there is one slot."""
    script = (
        f'[ "$1" = plan ] && echo \'{PARTS}\' > "$AIRBERG_PARTS_FILE"; echo "$1"'
        '; [ "$1" = sync ] && wait_for parts; exit 0'
    )
    spec = stack.job(script, parallelism=2)
    run_id = stack.begun(spec)

    def both() -> bool:
        states = [state for state, _ in stack.mapped(spec, run_id, "sync").values()]
        return states == ["deferred"] * 2 and len(stack.pods_of(spec)) == 2

    eventually(both, 60.0, every_s=0.3)
    stack.say("parts")
    assert stack.ended(spec, run_id) == "success"
    assert set(stack.mapped(spec, run_id, "sync")) == {"orders", "people"}


@pytest.mark.parametrize("how", ["marked", "cancelled"])
def test_a_task_that_is_ended_ends_its_pod(stack: DeferralStack, how: str) -> None:
    """By SIGTERM, from the triggerer."""
    spec = stack.job(STUBBORN)
    run_id = stack.begun(spec)
    pod = stack.waited_for(spec, run_id)
    if how == "marked":
        stack.set_task(spec, run_id, "failed")
    else:
        stack.orchestrator.cancel(spec.flow_id, run_id)
    asked_at = time.monotonic()
    asked_to_end(stack, pod)
    print(f"the pod was gone {time.monotonic() - asked_at:.1f} s after its task was {how}")
    assert stack.ended(spec, run_id) == "failed"


def test_a_task_that_is_ended_on_its_way_back_ends_its_pod(stack: DeferralStack) -> None:
    """Its trigger has told it to write its log, and no slot is free: neither has the task in its hands."""
    spec = stack.job(STUBBORN, {"log_s": 5})
    other = stack.job('[ "$1" = sync ] || exit 0; echo begins; wait_for slot', {"defer": False})
    run_id = stack.begun(spec)
    pod = stack.waited_for(spec, run_id)
    other_run = stack.begun(other)
    eventually(lambda: stack.task(other, other_run).state == "running", 60.0)
    eventually(lambda: stack.task(spec, run_id).state in ("scheduled", "queued"), 60.0)
    stack.set_task(spec, run_id, "failed")
    asked_to_end(stack, pod)
    stack.say("slot")
    assert stack.ended(other, other_run) == "success"
    assert stack.ended(spec, run_id) == "failed"


def test_what_is_left_of_an_earlier_run_is_ended(stack: DeferralStack) -> None:
    """It was ended while there was no triggerer to hear of it. Its pod has a deadline, too."""
    script = (
        '[ "$1" = sync ] || exit 0; [ -e /shared/$2 ] && echo again && exit 0'
        "; trap 'echo \"asked to end\"; exit 143' TERM; echo waits; sleep 300 & wait"
    )
    spec = stack.job(script, timeout_s=200)
    run_id = stack.begun(spec)
    pod = stack.waited_for(spec, run_id)
    assert 200 < pod.manifest["spec"]["activeDeadlineSeconds"] <= 320
    stack.kill_triggerer()
    stack.orchestrator.cancel(spec.flow_id, run_id)
    stack.start_triggerer()
    stack.say(spec.job_id)
    assert stack.ended(spec, run_id) == "failed"
    assert not pod.ended.is_set()
    next_run = stack.begun(spec)
    asked_to_end(stack, pod)
    assert stack.ended(spec, next_run) == "success"


def test_a_task_that_is_cleared_gets_another_pod(stack: DeferralStack) -> None:
    """The next attempt waits for the end of the pod before, and takes a new one."""
    script = (
        '[ "$1" = sync ] || exit 0; [ -e /shared/$2 ] && echo again && exit 0'
        "; trap 'sleep 2; echo \"asked to end\"; exit 143' TERM; echo waits; sleep 300 & wait"
    )
    spec = stack.job(script)
    run_id = stack.begun(spec)
    pod = stack.waited_for(spec, run_id)
    stack.say(spec.job_id)
    stack.clear(spec, run_id)
    asked_to_end(stack, pod)
    assert stack.ended(spec, run_id) == "success"
    assert said_in(log_of(stack, spec, run_id, stack.task(spec, run_id).attempt), "again") == [1]


def test_time_that_is_over_ends_the_pod(stack: DeferralStack) -> None:
    """Counted from the beginning of the attempt, however often it was suspended."""
    spec = stack.job(STUBBORN, {"log_s": 2}, timeout_s=12)
    run_id = stack.begun(spec)
    pod = stack.suspended(spec, run_id)
    asked_to_end(stack, pod)
    assert stack.ended(spec, run_id) == "failed"
    assert "AirflowTaskTimeout" in log_of(stack, spec, run_id)


def test_a_late_run_is_told_of_while_its_pod_works(stack: DeferralStack) -> None:
    """Once, and the pod works on."""
    script = '[ "$1" = sync ] || exit 0; echo begins; wait_for late; echo ends'
    told = (Notification(type="webhook", connection="nobody"),)
    spec = stack.job(script, {"log_s": 3}, deadline_s=8, on_failure=told, flow_url="http://airflow/x")
    run_id = stack.begun(spec)
    stack.suspended(spec, run_id)
    eventually(lambda: LATE in log_of(stack, spec, run_id), 60.0, every_s=0.5)
    assert stack.pods_of(spec), "it works on"
    stack.say("late")
    assert stack.ended(spec, run_id) == "success"
    log = log_of(stack, spec, run_id)
    assert log.count(LATE) == 1
    assert said_in(log, "begins", "ends") == [1, 1]


def test_a_triggerer_that_is_lost_loses_no_pod(stack: DeferralStack) -> None:
    """Its next one goes on. One that does not have our package makes the task wait itself."""
    script = '[ "$1" = sync ] || exit 0; echo begins; wait_for {}; echo ends'
    spec, other = stack.job(script.format("restarted")), stack.job(script.format("without"))
    run_id = stack.begun(spec)
    pod = stack.waited_for(spec, run_id)
    stack.kill_triggerer()
    assert not pod.ended.is_set()
    stack.start_triggerer()
    stack.say("restarted")
    assert stack.ended(spec, run_id) == "success"
    assert said_in(log_of(stack, spec, run_id), "begins", "ends") == [1, 1]
    assert [name for name, _ in stack.cluster.deleted].count(pod.name) == 1, "when it had ended"

    run_id = stack.begun(other)
    stack.suspended(other, run_id)
    stack.kill_triggerer()
    stack.start_triggerer(PYTHONPATH="")
    eventually(lambda: stack.task(other, run_id).state == "running", 60.0, every_s=0.3)
    stack.kill_triggerer()
    stack.start_triggerer()
    stack.say("without")
    assert stack.ended(other, run_id) == "success"
    assert said_in(log_of(stack, other, run_id), "ends") == [1]
