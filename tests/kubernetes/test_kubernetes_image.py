"""The image of `deploy/Dockerfile`: built by its own commands, and run as in a pod.

Read-only root, no home, not root, no privileges: the manifests are those of tasks and of `deploy/kubernetes`.
"""

from __future__ import annotations

import base64
import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import yaml

from airberg.jobs.model import RunStatus
from airberg.settings import KeySettings
from support.cluster_double import ClusterDouble, Pod
from support.conditions import eventually
from support.deployment import Deployment, write_scenario
from support.free_ports import free_ports
from support.image_build import Image, build_image
from support.kubernetes_airflow import NAMESPACE, kubernetes_spec, shapes
from support.pod_sandbox import ROOT, image_folders, why_not

IMAGE = "registry.example.com/airberg:0.1.0"
WORKER_IMAGE = "registry.example.com/airberg-airflow-worker:0.1.0"
OPERATOR = {"pods": "operator", "namespace": NAMESPACE, "secret": "airberg", "config_map": "airberg"}
NATIVE = "import airberg.columns._records, airberg.columns._casts, airberg.lake._keys, airberg.keys._cipher"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image of workers, which begins with Airberg's own."""
    if reason := why_not():
        pytest.skip(f"no image can be built here: {reason}")
    return build_image(tmp_path_factory.mktemp("image"), "airflow-worker")


@pytest.fixture
def cluster(image: Image, tmp_path: Path) -> Iterator[ClusterDouble]:
    """A cluster that has both images, and the tests' own connector."""
    double = ClusterDouble(tmp_path, {}, [ROOT / "tests", *image_folders()[:1]])
    double.add_image(WORKER_IMAGE, image)
    airberg = {k: v for k, v in image.environment.items() if not k.startswith(("AIRFLOW", "AIRBERG_BIN"))}
    airberg["PATH"] = airberg["PATH"].replace("/opt/airflow/bin:", "")
    double.add_image(IMAGE, Image(image.layer, ["airberg"], airberg, image.user, image.python))
    yield double
    double.close()


def ended(cluster: ClusterDouble, manifest: dict[str, Any]) -> tuple[int, str, str]:
    """Run a pod; its exit code, log and termination message."""
    pod = started(cluster, manifest)
    assert pod.ended.wait(120), pod.lines
    state = pod.status["containerStatuses"][0]["state"]["terminated"]
    return state["exitCode"], "\n".join(line for _, line in pod.lines), state["message"]


def started(cluster: ClusterDouble, manifest: dict[str, Any]) -> Pod:
    """Ask for a pod as a client does."""
    answer = httpx.post(f"{cluster.url}/api/v1/namespaces/{NAMESPACE}/pods", json=manifest, trust_env=False)
    assert answer.status_code == 201, answer.text
    return cluster.pods[manifest["metadata"]["name"]]


def worker_pod(*command: str) -> dict[str, Any]:
    """The template of the executor's pods, with a command."""
    pod: dict[str, Any] = yaml.safe_load((ROOT / "deploy/kubernetes/airflow-worker.yaml").read_text())
    pod["spec"]["containers"][0]["args"] = list(command)
    return pod


def service_pod(container: dict[str, Any], pod: dict[str, Any]) -> dict[str, Any]:
    """A pod of the service's deployment, with one of its containers."""
    spec = copy.deepcopy(pod["spec"]) | {"containers": [container], "terminationGracePeriodSeconds": 30}
    spec.pop("initContainers")
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": container["name"]}, "spec": spec}


def test_the_image_of_workers_has_airflow_and_airberg_apart(cluster: ClusterDouble) -> None:
    """Each in an environment of its own; `AIRBERG_BIN` leads from one to the other; all is compiled."""
    cluster.secrets |= {"airflow": {}, "airberg": {}}
    cluster.config_maps["airberg"] = {}
    script = (
        "id -u; echo home=$HOME; airflow version; $AIRBERG_BIN --version"
        "; python -c 'import airberg_airflow.bundle, airberg_airflow.pod_command' && echo both"
        f"; /opt/airberg/bin/python -c '{NATIVE}' && echo native; touch /opt/airberg/x"
    )
    code, log, _ = ended(cluster, worker_pod("/bin/sh", "-c", script))
    assert code != 0
    for line in ("65532", "home=/", "3.3.", "0.1.0", "both", "native", "Read-only file system"):
        assert line in log, log


def test_a_job_runs_in_the_image(cluster: ClusterDouble, tmp_path: Path, pyairbyte_dir: Path) -> None:
    """The pod of the task `sync`, as the provider makes it: rows, state and the list of changed tables."""
    data, connectors = tmp_path / "data", tmp_path / "connectors"
    stored, key = deployment(data, connectors, pyairbyte_dir)
    users = {"name": "users", "records": [{"id": i} for i in range(9)]}
    job = stored.job(write_scenario(data, {"streams": [users]}))
    give(data)
    cluster.secrets["airberg"] = {"AIRBERG_KEYS__MASTER_KEY": key}
    cluster.config_maps["airberg"] = variables(stored, data, connectors)
    pod = command_pod("sync", str(job.id), "--flow-run-id", "a__1", folders=(data, connectors))
    code, log, message = ended(cluster, pod)
    assert code == 0, log
    assert stored.rows("users", "id") == [(i,) for i in range(9)]
    assert json.loads(message)["tables"][0]["uri"] == "iceberg://shop.users"


def test_sigterm_ends_a_command_that_is_the_first_process(
    cluster: ClusterDouble, tmp_path: Path, pyairbyte_dir: Path
) -> None:
    """A deleted pod ends its connector and says so, long before it would be killed; nothing is half done."""
    data, connectors = tmp_path / "data", tmp_path / "connectors"
    stored, key = deployment(data, connectors, pyairbyte_dir)
    flag = data / "reading"
    steps = [{"touch": str(flag)}, {"sleep": 600}]
    users = {"name": "users", "records": [{"id": 1}], "at": [{"after": 1, "steps": steps}]}
    job = stored.job(write_scenario(data, {"streams": [users]}))
    give(data)
    cluster.secrets["airberg"] = {"AIRBERG_KEYS__MASTER_KEY": key}
    cluster.config_maps["airberg"] = variables(stored, data, connectors)
    pod = started(
        cluster, command_pod("sync", str(job.id), "--flow-run-id", "a__1", folders=(data, connectors))
    )
    assert eventually(flag.exists, 60.0), pod.lines
    pod.delete(60)
    state = pod.status["containerStatuses"][0]["state"]["terminated"]
    assert state["exitCode"] not in (0, 137, -9), "it ended by itself"
    (run,) = stored.store.runs(job.id)
    assert run.status in (RunStatus.CANCELLED, RunStatus.FAILED)


def test_the_service_runs_in_the_image(cluster: ClusterDouble, tmp_path: Path) -> None:
    """The containers of the deployment, one after the other: the job store is made, the service answers."""
    found = yaml.safe_load_all((ROOT / "deploy/kubernetes/airberg.yaml").read_text())
    template = next(m for m in found if m["kind"] == "Deployment")["spec"]["template"]
    (schema,), (service,) = template["spec"]["initContainers"], template["spec"]["containers"]
    (port,) = free_ports(1)
    data = tmp_path / "data"
    data.mkdir()
    give(data)
    key = base64.b64encode(os.urandom(32)).decode()
    cluster.secrets["airberg"] = {
        "AIRBERG_KEYS__MASTER_KEY": key,
        "AIRBERG_STORE_URL": f"sqlite:///{data}/airberg.db",
        "AIRBERG_AIRFLOW__PASSWORD": "secret",
        "AIRBERG_AIRFLOW__BUNDLE_TOKEN": "b" * 40,
    }
    cluster.config_maps["airberg"] = {
        "AIRBERG_API__PORT": str(port),
        "AIRBERG_AIRFLOW__EMBEDDED": "false",
        "AIRBERG_AIRFLOW__URL": "http://127.0.0.1:9",
    }
    volume = {"name": "data", "hostPath": {"path": str(data)}}
    for container in (schema, service):
        container["volumeMounts"] = [*container["volumeMounts"], {"name": "data", "mountPath": str(data)}]
    template["spec"]["volumes"].append(volume)
    code, log, _ = ended(cluster, service_pod(schema, template))
    assert code == 0, log
    pod = started(cluster, service_pod(service, template))
    live = f"http://127.0.0.1:{port}{service['livenessProbe']['httpGet']['path']}"

    def answers() -> bool:
        try:
            return httpx.get(live, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    assert eventually(answers, 60.0), pod.lines
    pod.delete(30)
    assert pod.status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0


# ---- the pods' deployment --------------------------------------------------------------------------------


def deployment(data: Path, connectors: Path, pyairbyte_dir: Path) -> tuple[Deployment, str]:
    """Store, catalog and connector; and the master key."""
    key = base64.b64encode(os.urandom(32)).decode()
    return Deployment(data, pyairbyte_dir, connectors, key_settings=KeySettings(master_key=key)), key


def give(folder: Path) -> None:
    """Let the image's user have a folder."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 65532, 65532)


def variables(stored: Deployment, data: Path, connectors: Path) -> dict[str, str]:
    """What the ConfigMap says."""
    return {
        "AIRBERG_STORE_URL": stored.settings.database_url,
        "AIRBERG_CATALOG__PROPERTIES": json.dumps(stored.settings.catalog_properties),
        "AIRBERG_SOURCES__CONNECTORS_FILE": str(data / "connectors.toml"),
        "AIRBERG_SOURCES__CONNECTORS_DIR": str(connectors),
    }


def command_pod(*arguments: str, folders: tuple[Path, Path]) -> dict[str, Any]:
    """The pod that the provider would ask for, with folders that stand for servers at their own places."""
    spec = msgspec.to_builtins(kubernetes_spec(image=IMAGE, **OPERATOR))
    asked = {"pods": spec["pods"], "arguments": arguments, "variables": {}}
    (pod,) = shapes(operator=[asked], result="AIRBERG_CHANGED_TABLES_FILE")["operator"]
    for number, folder in enumerate(folders):
        pod["spec"]["volumes"].append({"name": f"folder-{number}", "hostPath": {"path": str(folder)}})
        mount = {"name": f"folder-{number}", "mountPath": str(folder), "readOnly": number > 0}
        pod["spec"]["containers"][0]["volumeMounts"].append(mount)
    return dict(pod)
