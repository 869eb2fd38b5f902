"""Pods that Airflow's triggerer waits for: a real scheduler with one slot, a real triggerer, real pods."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from airberg.flows.model import FlowSpec
from airberg.plan.flow_request import Notification
from support.cluster_double import ClusterDouble, Pod
from support.conditions import eventually
from support.deferral_stack import STOP_S, DeferralStack

CHANGED = json.dumps({"tables": [{"uri": "iceberg://shop.orders", "extra": {"rows_written": 3}}]})
PARTS = json.dumps({"parts": 2, "names": ["orders", "people"]})
SECRET = "s3cret-of-the-store"
LATE = "has not ended in time"

STUBBORN = "trap 'sleep 1; echo \"asked to end\"; exit 143' TERM; echo waits; sleep 300 & wait"
STUBBORN_ONCE = f'[ "$1" = sync ] || exit 0; [ -e /shared/$2 ] && echo again && exit 0; {STUBBORN}'


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, cluster: ClusterDouble) -> Iterator[DeferralStack]:
    """One for all of these tests."""
    with DeferralStack(tmp_path_factory.mktemp("deferral"), cluster).running() as running:
        yield running


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


def test_lines_and_the_notice_of_a_late_run_come_while_pods_work(stack: DeferralStack) -> None:
    """Lines in pieces: where one begins, none is lost and none comes twice. The notice once."""
    told = (Notification(type="webhook", connection="nobody"),)
    late = stack.job(
        '[ "$1" = sync ] || exit 0; echo begins; wait_for late; echo ends',
        {"log_s": 0},
        deadline_s=8,
        on_failure=told,
        flow_url="http://airflow/x",
    )
    script = (
        '[ "$1" = sync ] || exit 0; echo first; wait_for second; echo second; wait_for third'
        '; for n in $(seq 300); do echo "n$n"; done; wait_for last; printf last'
    )
    spec = stack.job(script, {"log_s": 1})
    late_run, run_id = stack.begun(late), stack.begun(spec)
    stack.suspended(spec, run_id)
    for word, before in (("second", "first"), ("third", "second"), ("last", "n300")):
        eventually(lambda before=before: said_in(log_of(stack, spec, run_id), before) == [1], 40.0)
        stack.say(word)
    eventually(lambda: LATE in log_of(stack, late, late_run), 60.0, every_s=0.5)
    assert stack.pods_of(late), "it works on"
    stack.say("late")
    assert stack.ended(spec, run_id) == "success"
    wanted = ["first", "second", *(f"n{n}" for n in range(1, 301)), "last"]
    assert said_in(log_of(stack, spec, run_id), *wanted) == [1] * len(wanted)
    assert stack.ended(late, late_run) == "success"
    log = log_of(stack, late, late_run)
    assert log.count(LATE) == 1
    assert said_in(log, "begins", "ends") == [1, 1]


def test_exit_codes_mean_the_same(stack: DeferralStack) -> None:
    """2 is final, 99 skips, 1 is tried again in another pod. Why, an earlier piece of the log may say."""
    script = (
        '[ "$1" = sync ] || exit 0; [ -e /shared/$2 ] && echo again && exit 0'
        "; echo 'error: the reason {0}'; wait_for codes; exit {0}"
    )
    specs = {code: stack.job(script.format(code), {"log_s": 2}, retries=2) for code in (2, 99, 1)}
    runs = {code: stack.begun(spec) for code, spec in specs.items()}
    for code, spec in specs.items():
        stack.suspended(spec, runs[code])
        eventually(lambda c=code, s=spec: f"the reason {c}" in log_of(stack, s, runs[c]), 40.0)
    stack.say(specs[1].job_id)
    stack.say("codes")
    states = {code: stack.ended(spec, runs[code]) for code, spec in specs.items()}
    assert states == {2: "failed", 99: "success", 1: "success"}
    seen = {code: stack.task(spec, runs[code]) for code, spec in specs.items()}
    assert {c: (one.state, one.attempt) for c, one in seen.items()} == {
        2: ("failed", 1),
        99: ("skipped", 1),
        1: ("success", 2),
    }
    log = log_of(stack, specs[2], runs[2])
    assert "AirflowFailException" in log
    assert '"exc_value": "the reason 2"' in log
    assert '"exc_value": "the reason 1"' in log_of(stack, specs[1], runs[1])
    assert said_in(log_of(stack, specs[1], runs[1], 2), "again") == [1]


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


def test_a_task_that_is_ended_ends_its_pod(stack: DeferralStack) -> None:
    """By SIGTERM: marked, cancelled, cleared, and when its time is over.

    The attempt that follows waits for the end of the pod before, and takes a new one.
    """
    limited = stack.job(STUBBORN, {"log_s": 2}, timeout_s=15)
    marked, cancelled, cleared = (stack.job(STUBBORN_ONCE) for _ in range(3))
    ended = [(spec, stack.begun(spec)) for spec in (limited, marked, cancelled)]
    pods = [stack.suspended(*ended[0]), stack.waited_for(*ended[1]), stack.waited_for(*ended[2])]
    again = (cleared, stack.begun(cleared))
    pods.append(stack.waited_for(*again))
    stack.say(cleared.job_id)
    stack.clear(*again)
    stack.set_task(*ended[1], "failed")
    stack.orchestrator.cancel(cancelled.flow_id, ended[2][1])
    for pod in pods:
        asked_to_end(stack, pod)
    for spec, run_id in ended:
        stack.ended(spec, run_id)
        # Not the run's state: Airflow's scheduler may find a success where it has just cancelled one.
        assert stack.task(spec, run_id).state == "failed"
    assert "AirflowTaskTimeout" in log_of(stack, *ended[0])
    assert stack.ended(*again) == "success"
    assert said_in(log_of(stack, *again, stack.task(*again).attempt), "again") == [1]


def test_a_task_that_is_ended_on_its_way_back_ends_its_pod(stack: DeferralStack) -> None:
    """Its trigger has told it to write its log, and no slot is free: neither has the task in its hands."""
    spec = stack.job(STUBBORN, {"log_s": 5})
    other = stack.job('[ "$1" = sync ] || exit 0; echo begins; wait_for slot', {"defer": False})
    run_id = stack.begun(spec)
    pod = stack.waited_for(spec, run_id)
    other_run = stack.begun(other)
    eventually(lambda: stack.task(other, other_run).state == "running", 60.0)
    try:
        # Not `scheduled`: on SQLite the scheduler may overwrite a mark while it queues the task.
        eventually(lambda: stack.task(spec, run_id).state == "queued", 60.0)
        stack.set_task(spec, run_id, "failed")
        asked_to_end(stack, pod)
    finally:
        stack.say("slot")
    assert stack.ended(other, other_run) == "success"
    assert stack.ended(spec, run_id) == "failed"


def test_a_triggerer_that_is_lost_loses_no_pod(stack: DeferralStack) -> None:
    """The next one goes on. What ended meanwhile, it did not hear of: the next run ends that pod."""
    script = '[ "$1" = sync ] || exit 0; echo begins; wait_for restarted; echo ends'
    spec, left = stack.job(script), stack.job(STUBBORN_ONCE, timeout_s=200)
    run_id, left_run = stack.begun(spec), stack.begun(left)
    pod, left_pod = stack.waited_for(spec, run_id), stack.waited_for(left, left_run)
    stack.kill_triggerer()
    stack.orchestrator.cancel(left.flow_id, left_run)
    stack.start_triggerer()
    stack.say("restarted")
    stack.say(left.job_id)
    assert stack.ended(left, left_run) == "failed"
    assert not left_pod.ended.is_set()
    assert 200 < left_pod.manifest["spec"]["activeDeadlineSeconds"] <= 320
    next_run = stack.begun(left)
    asked_to_end(stack, left_pod)
    assert stack.ended(spec, run_id) == "success"
    assert said_in(log_of(stack, spec, run_id), "begins", "ends") == [1, 1]
    assert [name for name, _ in stack.cluster.deleted].count(pod.name) == 1, "when it had ended"
    assert stack.ended(left, next_run) == "success"


def test_a_triggerer_without_our_package_makes_tasks_wait(stack: DeferralStack) -> None:
    """It cannot load the trigger; the pod is at work."""
    spec = stack.job('[ "$1" = sync ] || exit 0; echo begins; wait_for without; echo ends')
    run_id = stack.begun(spec)
    stack.suspended(spec, run_id)
    stack.kill_triggerer()
    stack.start_triggerer(PYTHONPATH="")
    eventually(lambda: stack.task(spec, run_id).state == "running", 60.0, every_s=0.3)
    stack.kill_triggerer()
    stack.start_triggerer()
    stack.say("without")
    assert stack.ended(spec, run_id) == "success"
    assert said_in(log_of(stack, spec, run_id), "begins", "ends") == [1, 1]
    assert len([p for p in stack.cluster.created if p["metadata"]["labels"]["dag_id"] == spec.flow_id]) == 2
