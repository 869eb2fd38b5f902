"""Pods and manifests against the API of several versions of Kubernetes, as the provider makes them.

The schemas are those of Kubernetes' own OpenAPI documents, strict: what they do not know is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from airberg.settings import load_settings
from support.kubernetes_airflow import ROOT, VERSIONS, kubernetes_spec, shapes

FOLDER = ROOT / "deploy" / "kubernetes"
WORKER = FOLDER / "airflow-worker.yaml"
CLEAN = dict.fromkeys(VERSIONS)
OPERATOR = {
    "pods": "operator",
    "image": "registry.example.com/airberg:0.1.0",
    "namespace": "airberg",
    "secret": "airberg",
    "config_map": "airberg",
    "service_account": "airberg",
    "pull_secret": "registry",
    "cpu": "500m",
    "memory": "2Gi",
    "stop_s": 45,
}
TEMPLATE = """\
apiVersion: v1
kind: Pod
metadata:
  labels: {team: data}
spec:
  nodeSelector: {disk: fast}
  tolerations: [{key: batch, operator: Exists}]
  securityContext: {runAsUser: 1234}
  containers:
    - name: base
      volumeMounts: [{name: lake, mountPath: /lake}]
  volumes: [{name: lake, persistentVolumeClaim: {claimName: lake}}]
"""


def documents(path: Path) -> list[dict[str, Any]]:
    """The manifests of a file."""
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def plain(**settings: Any) -> Any:
    """A spec as it arrives in Airflow."""
    return msgspec.to_builtins(kubernetes_spec(**settings))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All at once, as each start of Airflow takes seconds."""
    template = tmp_path_factory.mktemp("template") / "pod.yaml"
    template.write_text(TEMPLATE)
    job = plain(**OPERATOR)
    command = {"arguments": ["sync", job["job_id"], "--flow-run-id", "a__1"], "variables": {"A": "b"}}
    wrong = documents(WORKER)[0]
    wrong["spec"]["containers"][0]["securityContext"]["readOnlyRootFileSystem"] = True
    missing = documents(WORKER)[0]
    del missing["spec"]["containers"][0]["name"]
    answer = shapes(
        operator=[
            {"pods": job["pods"]} | command,
            {"pods": plain(**OPERATOR, template_file=str(template))["pods"]} | command,
        ],
        executor=[{"spec": plain(pods="executor", cpu="2", memory="3Gi"), "template": str(WORKER)}],
        manifests=[m for path in sorted(FOLDER.glob("*.yaml")) for m in documents(path)] + [wrong, missing],
    )
    answer["job"] = job
    return answer


def test_everything_that_we_make_or_ship_is_accepted(made: dict[str, Any]) -> None:
    """By each of the versions."""
    *ours, _wrong, _missing = made["problems"]
    assert len(ours) == 2 + 2 + 9
    assert ours == [CLEAN] * len(ours)


def test_the_schemas_refuse_what_is_wrong(made: dict[str, Any]) -> None:
    """A letter in the wrong case; a name that is missing. Else the test above would say nothing."""
    *_ours, wrong, missing = made["problems"]
    for version in VERSIONS:
        assert "readOnlyRootFileSystem" in wrong[version]
        assert "'name' is a required property" in missing[version]


def test_the_operators_pod(made: dict[str, Any]) -> None:
    """What settings, job and hardening say is in what the provider would send."""
    pod, spec = made["operator"][0], made["operator"][0]["spec"]
    (container,) = spec["containers"]
    assert container["args"] == ["sync", made["job"]["job_id"], "--flow-run-id", "a__1"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    names = {variable["name"] for variable in container["env"]}
    assert names == {"AIRBERG_HOME", "A", "RESULT", "AIRBERG_RESULT_MAX_BYTES"}
    assert container["resources"]["limits"] == {"memory": "2Gi"}
    assert spec["terminationGracePeriodSeconds"] == 45
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    assert pod["metadata"]["labels"]["airberg-job"] == made["job"]["job_id"]
    assert pod["metadata"]["name"].startswith("airberg-sync-")


def test_a_template_goes_before_what_all_pods_have_and_adds_to_it(made: dict[str, Any]) -> None:
    """Places, volumes, another user; the command stays."""
    pod, spec = made["operator"][1], made["operator"][1]["spec"]
    (container,) = spec["containers"]
    assert pod["metadata"]["labels"]["team"] == "data"
    assert spec["nodeSelector"] == {"disk": "fast"}
    assert spec["tolerations"] == [{"key": "batch", "operator": "Exists"}]
    assert spec["securityContext"]["runAsUser"] == 1234
    assert {v["name"] for v in spec["volumes"]} == {"lake", "tmp", "memory"}
    assert {m["mountPath"] for m in container["volumeMounts"]} == {"/lake", "/tmp", "/dev/shm"}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["args"][0] == "sync"


def test_the_executors_pods(made: dict[str, Any]) -> None:
    """Of its template, with what the job needs, for both tasks of the flow."""
    pods = made["executor"][0]
    assert set(pods) == {"sync", "register"}
    for pod in pods.values():
        (container,) = pod["spec"]["containers"]
        assert container["image"] == "registry.example.com/airberg-airflow-worker:0.1.0"
        assert container["resources"] == {
            "requests": {"cpu": "2", "memory": "3Gi"},
            "limits": {"memory": "3Gi"},
        }
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert "airberg-job" in pod["metadata"]["labels"]


def test_the_manifests_settings_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """ConfigMap and Secret together start the service, but for the key that is to be filled in."""
    found = [m for path in FOLDER.glob("*.yaml") for m in documents(path)]
    values: dict[str, str] = {}
    for manifest in found:
        if manifest["kind"] in ("ConfigMap", "Secret"):
            values |= manifest.get("data", {}) | manifest.get("stringData", {})
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    shown = load_settings().model_dump(mode="json")
    for name in values:
        value: Any = shown
        for part in name.removeprefix("AIRBERG_").lower().split("__"):
            value = value[part]
        assert value is not None, name
