"""Makes pods as Airflow's provider does, and holds manifests against Kubernetes' API, in its environment.

Standard input: `{"operator": […], "executor": […], "manifests": […], "versions": […]}`. Standard output, in
its last line: the pods, by what they were made of, and for each manifest what is wrong with it, by version.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import kubernetes_validate
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from kubernetes.client import ApiClient

from airberg_airflow.dags import build_all
from airberg_airflow.pod_command import PodCommand


def main() -> None:
    """Answer what standard input asks."""
    asked = json.load(sys.stdin)
    made: dict[str, Any] = {
        "operator": [operators_pod(one, asked["result"]) for one in asked["operator"]],
        "executor": [executors_pods(one) for one in asked["executor"]],
    }
    pods = [*made["operator"], *(pod for of in made["executor"] for pod in of.values())]
    made["problems"] = [
        {version: problem(manifest, version) for version in asked["versions"]}
        for manifest in (*pods, *asked["manifests"])
    ]
    print(json.dumps(made))


def operators_pod(asked: dict[str, Any], result: str) -> Any:
    """The pod of one command."""
    command = PodCommand(asked["pods"], asked["arguments"], asked["variables"], result, reattach=True)
    return plain(command.operator("sync").build_pod_request_obj(dry_run=True))


def executors_pods(asked: dict[str, Any]) -> dict[str, Any]:
    """The pods of a flow's tasks, made of the executor's template as the executor does it."""
    spec = asked["spec"]
    flow = build_all(json.dumps([spec]))[spec["flow_id"]]
    pods = {}
    for task in flow.tasks:
        config = getattr(task, "executor_config", None)
        pod = PodGenerator.construct_pod(
            dag_id=spec["flow_id"],
            task_id=task.task_id,
            pod_id="airberg-task",
            try_number=1,
            kube_image="",
            date=None,
            args=["python", "-m", "airflow.sdk.execution_time.execute_workload", "--json-string", "{}"],
            pod_override_object=PodGenerator.from_obj(config),
            base_worker_pod=PodGenerator.deserialize_model_file(asked["template"]),
            namespace="airflow",
            scheduler_job_id="1",
            run_id="airberg__1",
        )
        pods[task.task_id] = plain(pod)
    return pods


def plain(pod: Any) -> Any:
    """As it goes over the wire."""
    return ApiClient().sanitize_for_serialization(pod)


def problem(manifest: dict[str, Any], version: str) -> str | None:
    """What the schema of the API of this version has against it."""
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as e:
        return f"{'/'.join(map(str, e.absolute_path))}: {e.message[:300]}"
    return None


if __name__ == "__main__":
    main()
