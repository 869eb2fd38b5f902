"""Pods of Kubernetes that tasks run in, as plain objects of its API. No Airflow and no client in here.

Two ways, of which a deployment chooses one. `executor`: Airflow's KubernetesExecutor starts a pod for each
task, with Airflow and Airberg in it, and we only say what a job needs. `operator`: the task starts a pod of
Airberg's own image for each command, and waits for it on any worker.

Nothing of a configuration is in here, and no secret: pods get the deployment's settings from a Secret and a
ConfigMap, of which the names are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airberg_airflow.job_ids import is_job_id

CONTAINER = "base"
"""Airflow's name for the container that does the work, in both ways."""
USER = 65532
"""The user of the image (`deploy/Dockerfile`)."""
HOME = "/tmp/airberg"  # noqa: S108 - a volume of the pod's own
RESULT_FILE = "/dev/termination-log"
"""What a container writes there becomes its termination message, which stands in the pod's status: so a
result needs neither a second container nor the right to run commands in pods."""
MAX_RESULT = 4096
"""Kubernetes cuts longer termination messages."""
MAX_RESULT_VARIABLE = "AIRBERG_RESULT_MAX_BYTES"
"""Tells the command how long a result may be."""
EXECUTOR, OPERATOR = "executor", "operator"

Manifest = dict[str, Any]


def where_tasks_run(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for all operators of a flow; none, where Kubernetes is not asked for.

    Raises:
        ValueError: The spec is broken, or Airflow lacks the provider for Kubernetes.
    """
    pods = spec.get("pods")
    if pods is None:
        return {}
    match pods["by"]:
        case "executor":
            return {"executor_config": {"pod_override": _model(override(pods, spec.get("job_id")))}}
        case "operator":
            command_pod(pods, ["sync"], {})  # a broken spec is seen now, and not when its time has come
            return {"pod": pods}
        case other:
            raise ValueError(f"{other!r} starts no pods")


def override(pods: Mapping[str, Any], job_id: str | None) -> Manifest:
    """What the pod of a task gets beside the executor's own template."""
    container: dict[str, Any] = {"name": CONTAINER}
    if resources := _resources(pods):
        container["resources"] = resources
    return _pod({"labels": _labels(job_id)}, {"containers": [container]})


def command_pod(pods: Mapping[str, Any], arguments: Sequence[str], variables: Mapping[str, str]) -> Manifest:
    """The pod for one command: what it does, and what the job and the deployment say about it.

    Args:
        pods: How the deployment's pods are, with what the job needs.
        arguments: The command's, `airberg` not among them.
        variables: Its environment variables beside those that Secret and ConfigMap hold.
    """
    job_id = next((a for a in arguments if is_job_id(a)), None)
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": pods["image"],
        "args": list(arguments),
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "envFrom": _environment_sources(pods),
        # Where a command has failed and written no message, the end of its log is the message.
        "terminationMessagePath": RESULT_FILE,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if resources := _resources(pods):
        container["resources"] = resources
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": int(pods["stop_s"]),
        "containers": [container],
    }
    if pods.get("service_account"):
        spec["serviceAccountName"] = pods["service_account"]
    if pods.get("pull_secret"):
        spec["imagePullSecrets"] = [{"name": pods["pull_secret"]}]
    metadata: dict[str, Any] = {
        "name": "-".join(filter(None, ("airberg", arguments[0], (job_id or "")[:8]))),
        "labels": _labels(job_id) | {"airberg-command": arguments[0]},
    }
    if pods.get("namespace"):
        metadata["namespace"] = pods["namespace"]
    return _pod(metadata, spec)


def hardened() -> Manifest:
    """What goes for all pods of commands, unless the deployment's template says something else.

    No privileges, nothing written but to `/tmp` and to memory, no account of Kubernetes. Addresses of
    services are not put into the environment: that of one named `airberg` would look like our settings.
    """
    container = {
        "name": CONTAINER,
        "env": [{"name": "AIRBERG_HOME", "value": HOME}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            {"name": "memory", "mountPath": "/dev/shm"},  # noqa: S108
        ],
    }
    spec = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}}],
    }
    return _pod({"labels": _labels(None)}, spec)


def _pod(metadata: dict[str, Any], spec: dict[str, Any]) -> Manifest:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _labels(job_id: str | None) -> dict[str, str]:
    return {"app.kubernetes.io/name": "airberg"} | ({"airberg-job": job_id} if job_id else {})


def _resources(pods: Mapping[str, Any]) -> dict[str, Any]:
    """Memory has a limit, as whoever takes more is ended either way; processors are shared when they idle."""
    asked = {name: pods[name] for name in ("cpu", "memory") if pods.get(name)}
    if not asked:
        return {}
    limits = {name: value for name, value in asked.items() if name == "memory"}
    return {"requests": asked} | ({"limits": limits} if limits else {})


def _environment_sources(pods: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The Secret last: where both have a variable, it decides."""
    sources = (("config_map", "configMapRef"), ("secret", "secretRef"))
    return [{kind: {"name": pods[key]}} for key, kind in sources if pods.get(key)]


def _model(manifest: Manifest) -> Any:  # noqa: ANN401 - the client's
    """As an object of the client, which is what the executor takes; loaded only where it is needed."""
    try:
        from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
    except ImportError:
        raise ValueError("Airflow has no provider for Kubernetes; install it, or unset pods") from None
    return PodGenerator.deserialize_model_dict(manifest)
