"""Runs that are ended from Airflow, or die with it: the connector goes too, and the next run goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.conditions import eventually
from support.held_flow import GONE_WITHIN_S, HeldFlow, Processes, has_ended
from support.live_stack import LiveStack


def clear(flow: HeldFlow, _: Processes) -> None:
    """The task is cleared: Airflow ends it, and starts it again."""
    tasks = {"task_ids": ["sync"], "dag_run_id": flow.flow_run_id, "only_failed": False, "dry_run": False}
    flow.ask_airflow("POST", "clearTaskInstances", tasks)


def cancel(flow: HeldFlow, _: Processes) -> None:
    """The run is cancelled: our API marks it as failed in Airflow."""
    with flow.live.client() as api:
        assert api.post(f"/api/runs/{flow.run_id}/cancel").status_code == 202


def mark_failed(flow: HeldFlow, _: Processes) -> None:
    """The task is marked as failed on Airflow's page."""
    path = f"dagRuns/{flow.flow_run_id}/taskInstances/sync"
    flow.ask_airflow("PATCH", path, {"new_state": "failed"})


def kill_task(_: HeldFlow, processes: Processes) -> None:
    """The process of the task is killed, as for want of memory."""
    processes.task.kill()


def kill_worker(_: HeldFlow, processes: Processes) -> None:
    """Airflow's worker is killed: nobody supervises the task any more."""
    processes.worker.kill()


@pytest.mark.parametrize("end", [clear, cancel, mark_failed, kill_task, kill_worker])
def test_connector_ends_and_the_next_run_goes_on(
    live: LiveStack, tmp_path: Path, end: Callable[[HeldFlow, Processes], None]
) -> None:
    """The connector ignores SIGTERM, and yet it ends in time; what was committed stays."""
    flow = HeldFlow(live, tmp_path)
    processes = flow.start()
    end(flow, processes)
    processes.wait_gone()
    eventually(lambda: flow.status() != "running", GONE_WITHIN_S)
    if end is clear:
        assert flow.completed(same_run=True)["attempt"] == 2
    else:
        flow.check_kept()
        if end is kill_worker:
            eventually(lambda: has_ended(processes.task), GONE_WITHIN_S)
            # Airflow gives a task up when it has not heard of it for minutes; here somebody is faster.
            flow.ask_airflow("PATCH", f"dagRuns/{flow.flow_run_id}", {"state": "failed"})
        assert flow.flow_state() == "failed"
        assert live.trigger(flow.job_id)["status"] == "completed"
    flow.check_resumed()
