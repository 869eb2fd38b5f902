"""Runs flows with Airflow's own `DAG.test`, in an environment that has the provider for Kubernetes.

Standard input: a JSON list of `{"spec": …, "conf": …}`, with `kill` to end the task `sync` while its pod is
there, or `orphan` to leave a pod for it. Standard output, in its last line: what became of each, and the
asset events. Nothing of `airberg` is imported: Airflow has none of it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from airflow.models.asset import AssetEvent
from airflow.utils.session import create_session
from sqlalchemy import select

from airberg_airflow.changed_tables import VARIABLE
from airberg_airflow.dags import build_all
from airberg_airflow.flow_files import shard_files
from airberg_airflow.pod_command import PodCommand
from kubernetes import client, config


def main() -> None:
    """Run what standard input asks for."""
    logging.getLogger("airflow").setLevel(logging.INFO)
    asked = json.load(sys.stdin)
    folder = Path(os.environ["AIRFLOW_HOME"]) / "dags"
    folder.mkdir(exist_ok=True)
    for name, text in shard_files(one["spec"] for one in asked).items():
        (folder / name).write_text(text)
    results = [run(one) for one in asked]
    with create_session() as session:
        events = [
            {"uri": event.asset.uri, "extra": event.extra}
            for event in session.scalars(select(AssetEvent).order_by(AssetEvent.id))
        ]
    print(json.dumps({"results": results, "events": events}))


def run(asked: dict[str, Any]) -> dict[str, Any]:
    """One run of one flow."""
    spec = asked["spec"]
    flow = build_all(json.dumps([spec]))[spec["flow_id"]]
    if asked.get("kill"):
        flow.get_task("sync").on_execute_callback = [kill_when_it_runs]
    if asked.get("orphan"):
        flow.get_task("sync").on_execute_callback = [leave_a_pod]
    ran = flow.test(run_conf=asked.get("conf"))
    return {
        "state": str(ran.state),
        "tasks": sorted(
            [t.task_id, t.map_index, str(t.state), t.try_number] for t in ran.get_task_instances()
        ),
    }


def leave_a_pod(context: Any) -> None:
    """A pod as an earlier attempt of the task leaves it whose worker has died."""
    task = context["task"]
    arguments = ("sync", task.job_id, "of-an-earlier-attempt")
    operator = PodCommand(task.pod, arguments, {}, VARIABLE, reattach=True).operator(task.task_id)
    operator.pod_manager.create_pod(operator.build_pod_request_obj(context))


def kill_when_it_runs(context: Any) -> None:
    """End the task as Airflow does, as soon as its pod runs."""
    threading.Thread(target=_kill, args=(context["task"],), daemon=True).start()


def _kill(task: Any) -> None:
    config.load_kube_config()
    pods = client.CoreV1Api()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = pods.list_namespaced_pod("airberg", label_selector=f"airberg-job={task.job_id}").items
        if found and "waiting" in str(pods.read_namespaced_pod_log(found[0].metadata.name, "airberg")):
            task.on_kill()
            return
        time.sleep(0.1)


if __name__ == "__main__":
    main()
