"""Tasks of flows that start pods: Airflow's own runner, its provider, pods that really run.

All flows run once, as each start of Airflow takes seconds; each test looks at one of them.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import yaml

from airberg.flows.kubernetes_settings import KubernetesSettings
from airberg.flows.model import FlowSpec, upkeep_spec
from airberg.jobs.model import RunStatus
from airberg.settings import KeySettings, Settings
from support.cluster_double import ClusterDouble
from support.deployment import Deployment, write_scenario
from support.kubernetes_airflow import NAMESPACE, TaskRunner, kubernetes_spec

SECRET = "s3cret-of-the-store"
OPERATOR = {"pods": "operator", "namespace": NAMESPACE, "secret": "airberg", "memory": "1Gi", "stop_s": 20}
JOBS = {
    name: str(uuid4()) for name in ("good", "wrong", "held", "broken", "killed", "refused", "orphan", "parts")
}
PARTS = json.dumps({"parts": 2, "names": ["orders", "people"]})
CHANGED = json.dumps({"tables": [{"uri": "iceberg://shop.orders", "extra": {"rows_written": 3}}]})
SCRIPT = f"""
case "$2" in
  {JOBS["good"]}) echo "$1 as $(id -u) in $HOME"; touch /here 2>&1; touch /tmp/here && echo "wrote to /tmp"
    [ "$1" = sync ] && echo '{CHANGED}' > "$AIRBERG_CHANGED_TABLES_FILE"; exit 0;;
  {JOBS["wrong"]}) echo "error: the password is wrong"; exit 2;;
  {JOBS["held"]}) echo "error: another run is alive"; exit 99;;
  {JOBS["broken"]}) echo "error: the source is away"; exit 1;;
  {JOBS["parts"]}) [ "$1" = plan ] && echo '{PARTS}' > "$AIRBERG_PARTS_FILE"; echo "does: $*"; exit 0;;
  {JOBS["orphan"]}) echo "found: $1 $3"; sleep 3; exit 0;;
  {JOBS["killed"]}) trap 'echo "asked to end"; exit 143' TERM; echo waiting; sleep 60 & wait;;
  jobs) echo {JOBS["good"]}; echo {JOBS["held"]};;
  upkeep) echo "looks after $4";;
esac
"""


@dataclass(frozen=True)
class Ran:
    """What became of all flows."""

    states: dict[str, str]
    tasks: dict[str, list[list[Any]]]
    events: list[dict[str, Any]]
    log: str
    cluster: ClusterDouble


@pytest.fixture(scope="module")
def ran(cluster: ClusterDouble, tasks: TaskRunner) -> Ran:
    """Every flow, once."""
    cluster.secrets["airberg"] = {"SCRIPT": SCRIPT, "AIRBERG_STORE_PASSWORD": SECRET}
    cluster.refused["airberg:refused"] = 422
    asked: dict[str, dict[str, Any]] = {
        name: {"spec": kubernetes_spec(job, image="airberg:script", **OPERATOR)} for name, job in JOBS.items()
    }
    asked["wrong"]["spec"] = msgspec.structs.replace(asked["wrong"]["spec"], retries=2)
    asked["parts"]["spec"] = msgspec.structs.replace(asked["parts"]["spec"], parallelism=2)
    asked["killed"]["kill"] = asked["orphan"]["orphan"] = True
    refused = kubernetes_spec(JOBS["refused"], image="airberg:refused", **OPERATOR)
    asked["refused"]["spec"] = msgspec.structs.replace(refused, retries=2)
    upkeep = upkeep_spec(Settings(kubernetes=KubernetesSettings(image="airberg:script", **OPERATOR)))
    assert upkeep is not None
    asked["upkeep"] = {"spec": upkeep}
    answer, log = tasks.run(*asked.values())
    results = dict(zip(asked, answer["results"], strict=True))
    return Ran(
        {name: result["state"] for name, result in results.items()},
        {name: result["tasks"] for name, result in results.items()},
        answer["events"],
        log,
        cluster,
    )


def of_job(ran: Ran, name: str) -> list[dict[str, Any]]:
    """The pods of a job's flow."""
    flow = f"airberg_{JOBS[name]}"
    return [p for p in ran.cluster.created if p["metadata"]["labels"]["dag_id"] == flow]


def test_a_task_runs_its_command_in_a_pod(ran: Ran) -> None:
    """Both tasks do; what the command prints is in the task's log, and the pods are gone."""
    assert ran.states["good"] == "success"
    assert ran.tasks["good"] == [["register", -1, "success", 1], ["sync", -1, "success", 1]]
    sync, register = of_job(ran, "good")
    assert sync["spec"]["containers"][0]["args"][:2] == ["sync", JOBS["good"]]
    assert register["spec"]["containers"][0]["args"][:2] == ["register", JOBS["good"]]
    for line in ("sync as 65532 in /", "register as 65532 in /", "wrote to /tmp", "Read-only file system"):
        assert line in ran.log, line
    assert ran.cluster.pods == {}


def test_changed_tables_come_through_the_termination_message(ran: Ran) -> None:
    """As events of their assets."""
    (event,) = ran.events
    assert event["uri"].rstrip("/") == "iceberg://shop.orders"
    assert event["extra"]["rows_written"] == 3


def test_nothing_of_the_secret_is_in_manifests_or_logs(ran: Ran) -> None:
    """Pods name it, and Kubernetes puts it in."""
    assert SECRET not in json.dumps(ran.cluster.created)
    assert SECRET not in ran.log


def test_a_wrong_configuration_is_not_tried_again(ran: Ran) -> None:
    """Exit code 2, of a flow with two retries."""
    assert ran.tasks["wrong"][-1] == ["sync", -1, "failed", 1]
    assert len(of_job(ran, "wrong")) == 1
    assert "AirflowFailException: the password is wrong" in ran.log


def test_a_held_lease_skips_the_task(ran: Ran) -> None:
    """Exit code 99."""
    assert [(task, state) for task, _, state, _ in ran.tasks["held"]] == [
        ("register", "skipped"),
        ("sync", "skipped"),
    ]
    assert "another run is alive" in ran.log


def test_another_failure_says_why(ran: Ran) -> None:
    """What the command said last, and not what the provider makes of it."""
    assert ran.tasks["broken"][-1] == ["sync", -1, "failed", 1]
    assert "AirflowException: the source is away" in ran.log


def test_a_task_that_is_ended_ends_its_pod(ran: Ran) -> None:
    """The container's first process gets SIGTERM, and has the deployment's time to end."""
    assert ran.tasks["killed"][-1][2] == "failed"
    (pod,) = of_job(ran, "killed")
    graces = [grace for name, grace in ran.cluster.deleted if name == pod["metadata"]["name"]]
    assert graces[0] == 20
    assert ran.cluster.said[pod["metadata"]["name"]][-1] == "asked to end"


def test_a_pod_that_outlived_its_worker_is_waited_for(ran: Ran) -> None:
    """By the next attempt, which starts none."""
    assert ran.states["orphan"] == "success"
    assert [p["spec"]["containers"][0]["args"][0] for p in of_job(ran, "orphan")] == ["sync", "register"]
    assert "found: sync of-an-earlier-attempt" in ran.log


def test_a_pod_that_cannot_be_is_not_tried_again(ran: Ran) -> None:
    """Kubernetes answers 422; the flow has two retries."""
    assert ran.tasks["refused"][-1] == ["sync", -1, "failed", 1]
    assert "Kubernetes does not accept the pod" in ran.log


def test_mapped_tasks_run_in_pods_too(ran: Ran) -> None:
    """The flow of upkeep: one pod asks for the jobs, whose ids come through the log; one for each job."""
    assert ran.states["upkeep"] == "success"
    assert ran.tasks["upkeep"] == [
        ["jobs", -1, "success", 1],
        ["upkeep", 0, "success", 1],
        ["upkeep", 1, "success", 1],
    ]
    for name in ("good", "held"):
        assert f"looks after {JOBS[name]}" in ran.log


def test_parts_of_a_run_have_pods_of_their_own(ran: Ran) -> None:
    """What `plan` says comes through its pod's termination message; each part is a pod."""
    assert ran.tasks["parts"] == [
        ["plan", -1, "success", 1],
        ["register", -1, "success", 1],
        ["sync", 0, "success", 1],
        ["sync", 1, "success", 1],
    ]
    arguments = [pod["spec"]["containers"][0]["args"] for pod in of_job(ran, "parts")]
    assert [one[0] for one in arguments] == ["plan", "sync", "sync", "register"]
    assert sorted(one[one.index("--part") + 1] for one in arguments if one[0] == "sync") == ["0", "1"]


def test_the_cluster_knew_all_that_it_was_asked(ran: Ran) -> None:
    """The provider asks nothing that the stand-in has no answer to."""
    assert ran.cluster.unknown == []


# ---- the real command ------------------------------------------------------------------------------------


def spec_of_installed(job_id: str, template: Path) -> FlowSpec:
    """The flow of a job that runs this installation."""
    return kubernetes_spec(
        job_id, image="airberg:installed", config_map="airberg", template_file=str(template), **OPERATOR
    )


@pytest.mark.skipif(
    Path(sys.prefix).is_relative_to("/tmp"),
    reason="a pod has a /tmp of its own, and the environment is there",
)
def test_airberg_runs_in_a_pod(
    cluster: ClusterDouble, tasks: TaskRunner, tmp_path: Path, pyairbyte_dir: Path
) -> None:
    """`airberg sync` and `airberg register` of a real job: read-only root, no home, not root, no privileges.

    The store, the catalog and the warehouse are elsewhere: in a volume that stands for a server. The
    connector is part of the image, read-only as all of it.
    """
    data, connectors = tmp_path / "data", tmp_path / "connectors"
    master_key = base64.b64encode(os.urandom(32)).decode()
    stored = Deployment(data, pyairbyte_dir, connectors, key_settings=KeySettings(master_key=master_key))
    scenario = write_scenario(
        data, {"streams": [{"name": "users", "records": [{"id": i} for i in range(9)]}]}
    )
    job = stored.job(scenario)
    for path in (data, *data.rglob("*")):
        os.chown(path, 65532, 65532)
    cluster.secrets["airberg"] = {"AIRBERG_KEYS__MASTER_KEY": master_key}
    cluster.config_maps["airberg"] = {
        "AIRBERG_STORE_URL": stored.settings.database_url,
        "AIRBERG_CATALOG__PROPERTIES": json.dumps(stored.settings.catalog_properties),
        "AIRBERG_SOURCES__CONNECTORS_FILE": str(data / "connectors.toml"),
        "AIRBERG_SOURCES__CONNECTORS_DIR": str(connectors),
        "AIRBERG_SOURCES__PYAIRBYTE_DIR": str(pyairbyte_dir),
    }
    template = tmp_path / "template.yaml"
    template.write_text(yaml.safe_dump(with_volumes(data, connectors)))
    answer, log = tasks.run({"spec": spec_of_installed(str(job.id), template)})
    assert answer["results"][0]["state"] == "success", log[-8000:]
    (run,) = stored.store.runs(job.id, limit=10)
    assert run.status is RunStatus.COMPLETED
    assert stored.rows("users", "id") == [(i,) for i in range(9)]
    assert "iceberg://shop.users" in {e["uri"].rstrip("/") for e in answer["events"]}
    assert "metadata: " in log


def with_volumes(data: Path, connectors: Path) -> dict[str, Any]:
    """A template with the folder that stands for servers, and one with a connector, at their own places."""
    volumes = [
        {"name": "data", "hostPath": {"path": str(data)}},
        {"name": "connectors", "hostPath": {"path": str(connectors)}},
    ]
    mounts = [
        {"name": "data", "mountPath": str(data)},
        {"name": "connectors", "mountPath": str(connectors), "readOnly": True},
    ]
    container = {"name": "base", "volumeMounts": mounts}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {},
        "spec": {"containers": [container], "volumes": volumes},
    }
