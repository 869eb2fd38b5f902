"""Airflow's environment with the provider for Kubernetes, and what tests let it do."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from airberg.flows.kubernetes_settings import KubernetesSettings
from airberg.flows.model import FlowSpec, Spec, flow_spec
from airberg.settings import Settings
from support.jobs import a_job

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".build" / "airflow-kubernetes" / "bin" / "python"
NAMESPACE = "airberg"
VERSIONS = ("1.30.0", "1.33.0", "1.37.0")
"""Versions of Kubernetes whose API manifests are held against."""


def kubernetes_spec(job_id: str | None = None, **settings: Any) -> FlowSpec:
    """The flow of a job where these are the settings for Kubernetes; it is not tried again."""
    job = a_job(id=uuid4())
    spec = flow_spec(job, Settings(kubernetes=KubernetesSettings(**settings)))
    job_id = job_id or str(job.id)
    return msgspec.structs.replace(
        spec,
        job_id=job_id,
        flow_id=f"airberg_{job_id}",
        schedule=None,
        created_at=datetime.now(UTC).isoformat(),
        retries=0,
    )


def shapes(
    operator: Sequence[Any] = (),
    executor: Sequence[Any] = (),
    manifests: Sequence[Any] = (),
    result: str = "RESULT",
) -> dict[str, Any]:
    """What `pod_shapes_child` answers; `result` is the variable for the operator's commands."""
    asked = {
        "operator": operator,
        "executor": executor,
        "manifests": manifests,
        "versions": VERSIONS,
        "result": result,
    }
    done = subprocess.run(
        [PYTHON, ROOT / "tests" / "support" / "pod_shapes_child.py"],
        input=json.dumps(asked),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "src"), "AIRFLOW_HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@dataclass(frozen=True)
class TaskRunner:
    """An Airflow with a database of its own, whose tasks reach a cluster."""

    home: Path
    kubeconfig: Path

    def prepare(self) -> None:
        """Make the database."""
        (self.home / "dags").mkdir(parents=True)
        self._run("-m", "airflow", "db", "migrate")

    def run(self, *asked: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Run flows; what became of them, and the log of their tasks."""
        plain = [
            one | {"spec": msgspec.to_builtins(one["spec"]) if isinstance(one["spec"], Spec) else one["spec"]}
            for one in asked
        ]
        child = str(ROOT / "tests" / "support" / "pod_tasks_child.py")
        out = self._run(child, given=json.dumps(plain))
        *log, answer = out.strip().splitlines()
        return json.loads(answer), "\n".join(log)

    def _run(self, *arguments: str, given: str | None = None) -> str:
        connection = {
            "conn_type": "kubernetes",
            "extra": {"kube_config_path": str(self.kubeconfig), "namespace": NAMESPACE},
        }
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "src"),
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__FERNET_KEY": "81HqDtbqAywKSOumSha3BhWNOdQ26slT6K0YaZeZyPs=",
            "AIRFLOW__API_AUTH__JWT_SECRET": "x" * 64,
            "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection),
            "KUBECONFIG": str(self.kubeconfig),
        }
        done = subprocess.run(
            [PYTHON, *arguments],
            input=given,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout
