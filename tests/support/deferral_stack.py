"""Airflow with a triggerer, one slot for tasks, and a cluster whose pods do what a test says."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import yaml

from airberg.flows.model import FlowSpec
from airberg.stack.airflow import EmbeddedAirflow
from airberg.stack.environments import Environment
from airberg.stack.keeper import descendants, send
from airberg.stack.supervisor import Command, Kept, Supervisor
from support.airflow_stack import AirflowStack
from support.cluster_double import ClusterDouble, Pod
from support.conditions import eventually
from support.kubernetes_airflow import NAMESPACE, ROOT, kubernetes_spec

STOP_S = 20
PODS = {"pods": "operator", "namespace": NAMESPACE, "secret": "airberg", "stop_s": STOP_S, "defer": True}
SHARED = "/shared"
WAIT = f'wait_for() {{ while [ ! -e "{SHARED}/$1" ]; do sleep 0.1; done; }}'
TRIGGERER = {
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
}
"""In seconds: nobody waits half a minute for a triggerer that is known to be dead."""


class MadeEnvironment(Environment):
    """The one that `make test-kubernetes` has made."""

    def complete(self) -> bool:
        """It is not looked after here."""
        return (self.folder / ".made").exists()


class AirflowWithCluster(EmbeddedAirflow):
    """Its processes reach the cluster."""

    kubeconfig: Path

    def environment(self) -> dict[str, str]:
        """With Airflow's connection."""
        extra = {"kube_config_path": str(self.kubeconfig), "namespace": NAMESPACE}
        connection = {"conn_type": "kubernetes", "extra": extra}
        return super().environment() | TRIGGERER | {"AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection)}

    def triggerer(self, **more: str) -> Command:
        """The process that waits."""
        return self._command("airflow-triggerer", "triggerer", "--skip-serve-logs", more=more)


@dataclass
class TaskSeen:
    """A task of a run, as Airflow's API shows it."""

    state: str
    attempt: int


class DeferralStack(AirflowStack):
    """The deployment.

    Args:
        folder: All that it has, and what pods see as `/shared`, for words between them and tests.
        cluster: Where pods run.
    """

    def __init__(self, folder: Path, cluster: ClusterDouble) -> None:
        home = folder / "home"
        super().__init__(home, parallelism=1)
        self.cluster, self.shared = cluster, folder / "shared"
        self.shared.mkdir(mode=0o777)
        self.environment = MadeEnvironment(
            "Airflow with Kubernetes",
            ROOT / ".build" / "airflow-kubernetes",
            ROOT / "requirements" / "airflow-kubernetes.txt",
        )
        self._scripts: dict[str, str] = {}
        self._template = home / "template.yaml"
        self._triggerers = Supervisor(home / "triggerer-logs")
        self.triggerer: Kept | None = None
        self.airflow: AirflowWithCluster | None = None

    def _embedded(self, supervisor: Supervisor) -> EmbeddedAirflow:
        self.airflow = AirflowWithCluster(
            self.settings,
            self.credentials,
            supervisor,
            airberg_bin=self._write_command(),
            environment=self.environment,
        )
        self.airflow.kubeconfig = self.cluster.kubeconfig()
        volume = {"name": "shared", "hostPath": {"path": str(self.shared)}}
        container = {"name": "base", "volumeMounts": [{"name": "shared", "mountPath": SHARED}]}
        spec = {"containers": [container], "volumes": [volume]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": spec}
        self._template.write_text(yaml.safe_dump(pod))
        return self.airflow

    def start(self) -> None:
        """Start all of it."""
        super().start()
        self.start_triggerer()

    def start_triggerer(self, **more: str) -> None:
        """Start the process that waits, and let it be known to work.

        Args:
            **more: Variables that only this one has.
        """
        assert self.airflow is not None
        self.triggerer = self._triggerers.start(self.airflow.triggerer(**more))
        eventually(self.triggerer_is_healthy, 60.0, every_s=0.3)

    def kill_triggerer(self) -> None:
        """Let it be gone without a word: all of its processes."""
        assert self.triggerer is not None
        send({self.triggerer.pid, *descendants(self.triggerer.pid)}, signal.SIGKILL)
        assert self.triggerer.wait(10.0) is not None

    def triggerer_is_healthy(self) -> bool:
        """As Airflow says it."""
        said = self.admin("GET", "/monitor/health").json().get("triggerer") or {}
        return said.get("status") == "healthy"

    def stop(self) -> None:
        """End it with all its processes."""
        self._triggerers.stop()
        super().stop()

    # ---- jobs --------------------------------------------------------------------------------------------

    def job(self, script: str, pods: dict[str, Any] | None = None, **changes: Any) -> FlowSpec:
        """The flow of a job whose pods run a shell script, which Airflow has.

        Args:
            script: It has the command's arguments, and `wait_for NAME`: until a test has said that.
            pods: Settings beside those of the deployment.
            **changes: Of the spec.
        """
        settings = {"image": "airberg:script", "template_file": str(self._template)} | PODS | (pods or {})
        spec = kubernetes_spec(None, **settings)
        spec = msgspec.structs.replace(spec, **({"retry_delay_s": 0, "timeout_s": 300} | changes))
        self._scripts[spec.job_id] = script
        cases = "\n".join(f"{job}) {text} ;;" for job, text in self._scripts.items())
        self.cluster.secrets["airberg"] = {"SCRIPT": f'{WAIT}\ncase "$2" in\n{cases}\nesac'}
        return self.registered(spec)

    def begun(self, spec: FlowSpec) -> str:
        """Start a run; its id."""
        run_id = f"test__{uuid4()}"
        self.orchestrator.trigger(spec.flow_id, run_id)
        return run_id

    def say(self, name: str) -> None:
        """Say what pods wait for."""
        (self.shared / name).touch()

    def pods_of(self, spec: FlowSpec, verb: str = "sync") -> list[Pod]:
        """Those that are there and have not been told to end."""
        return [
            pod
            for pod in list(self.cluster.pods.values())
            if pod.manifest["metadata"]["labels"].get("airberg-job") == spec.job_id
            and pod.manifest["metadata"]["labels"]["airberg-command"] == verb
        ]

    def task(self, spec: FlowSpec, run_id: str, task: str = "sync") -> TaskSeen:
        """One of its tasks."""
        state, attempt = self.tasks(spec, run_id)[task]
        return TaskSeen(state, attempt)

    def suspended(self, spec: FlowSpec, run_id: str, task: str = "sync") -> Pod:
        """The pod of a task that was suspended while it works."""

        def seen() -> Pod | None:
            pods = [p for p in self.pods_of(spec, task) if p.lines]
            return pods[0] if pods and self.task(spec, run_id, task).state == "deferred" else None

        pod = eventually(seen, 60.0, every_s=0.2)
        assert pod is not None
        return pod

    def waited_for(self, spec: FlowSpec, run_id: str) -> Pod:
        """The pod of the task `sync`, once the triggerer has it: only then can it be told of an end."""
        pod = self.suspended(spec, run_id)
        assert self.airflow is not None
        logs = self.airflow.home / "logs" / f"dag_id={spec.flow_id}"
        eventually(lambda: any(logs.rglob("*.trigger.*.log")), 30.0)
        return pod

    def set_task(self, spec: FlowSpec, run_id: str, state: str) -> None:
        """Mark the task `sync`."""
        path = f"/dags/{spec.flow_id}/dagRuns/{run_id}/taskInstances/sync"
        self.admin("PATCH", path, json={"new_state": state}).raise_for_status()

    def clear(self, spec: FlowSpec, run_id: str) -> None:
        """Clear the task `sync`."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": ["sync"], "only_failed": False}
        answer = self.admin("POST", f"/dags/{spec.flow_id}/clearTaskInstances", json=body)
        answer.raise_for_status()

    def triggers(self) -> list[str]:
        """What Airflow's database has of triggers and of tasks that wait for them, in clear text."""
        assert self.airflow is not None
        with contextlib.closing(sqlite3.connect(self.airflow.home / "airflow.db", timeout=30)) as database:
            rows = database.execute("SELECT classpath, kwargs FROM trigger").fetchall()
            rows += database.execute("SELECT next_method, next_kwargs FROM task_instance").fetchall()
        return [f"{name} {kwargs}" for name, kwargs in rows if name]
