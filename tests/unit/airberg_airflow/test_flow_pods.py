"""Pods that tasks run in, as plain objects. `tests/kubernetes` has them checked, and run."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from airberg.flows.kubernetes_settings import KubernetesSettings
from airberg.flows.model import flow_spec, upkeep_spec
from airberg.settings import Settings
from airberg_airflow.pods import EXECUTOR, OPERATOR, command_pod, hardened, override, where_tasks_run
from support.jobs import a_job

JOB_ID = "5d4b32a0-6f0e-4e5b-9a39-2f6f8f6c2d11"


def pods(**settings: Any) -> dict[str, Any]:
    """What arrives in Airflow of these settings."""
    of = Settings(kubernetes=KubernetesSettings(**({"pods": "operator", "image": "airberg:1"} | settings)))
    spec = msgspec.to_builtins(flow_spec(a_job(), of))
    upkeep = upkeep_spec(of)
    assert upkeep is not None
    assert msgspec.to_builtins(upkeep)["pods"] == spec["pods"]
    found: dict[str, Any] = spec["pods"]
    return found


def test_without_the_setting_there_is_no_word_about_pods() -> None:
    """The default: tasks run where Airflow's executor runs them."""
    spec = msgspec.to_builtins(flow_spec(a_job(), Settings()))
    assert spec["pods"] is None
    assert where_tasks_run(spec) == {}
    assert where_tasks_run({}) == {}, "a feed of an older service"


def test_both_sides_know_the_two_ways() -> None:
    """They cannot share a module."""
    assert {pods(pods=way)["by"] for way in (EXECUTOR, OPERATOR)} == {EXECUTOR, OPERATOR}


def test_the_operators_tasks_get_what_a_pod_is_made_of() -> None:
    """As a plain object, so that nothing of Kubernetes is loaded where flows are parsed."""
    made_of = pods(secret="airberg", memory="2Gi")
    assert where_tasks_run({"pods": made_of}) == {"pod": made_of}


def test_a_pod_does_one_command() -> None:
    """Its arguments, its variables, and where the others come from: the Secret decides over the ConfigMap."""
    made_of = pods(
        secret="airberg-secrets",
        config_map="airberg",
        service_account="airberg",
        pull_secret="registry",
        namespace="data",
        cpu="500m",
        memory="2Gi",
        stop_s=45,
    )
    pod = command_pod(
        made_of, ["sync", JOB_ID, "--flow-run-id", "airberg__1"], {"OPENLINEAGE_PARENT_ID": "x"}
    )
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "airberg:1"
    assert container["args"] == ["sync", JOB_ID, "--flow-run-id", "airberg__1"]
    assert container["env"] == [{"name": "OPENLINEAGE_PARENT_ID", "value": "x"}]
    assert container["envFrom"] == [
        {"configMapRef": {"name": "airberg"}},
        {"secretRef": {"name": "airberg-secrets"}},
    ]
    assert container["resources"] == {
        "requests": {"cpu": "500m", "memory": "2Gi"},
        "limits": {"memory": "2Gi"},
    }
    assert pod["metadata"]["namespace"] == "data"
    assert pod["metadata"]["name"] == "airberg-sync-5d4b32a0"
    assert pod["metadata"]["labels"] == {
        "app.kubernetes.io/name": "airberg",
        "airberg-job": JOB_ID,
        "airberg-command": "sync",
    }
    assert pod["spec"]["terminationGracePeriodSeconds"] == 45
    assert pod["spec"]["serviceAccountName"] == "airberg"
    assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]


def test_what_is_not_asked_for_is_left_to_the_cluster() -> None:
    """No empty objects: they would override those of a template."""
    pod = command_pod(pods(), ["tables", "jobs"], {})
    assert "resources" not in pod["spec"]["containers"][0]
    assert pod["spec"]["containers"][0]["envFrom"] == []
    assert not {"serviceAccountName", "imagePullSecrets"} & set(pod["spec"])
    assert "namespace" not in pod["metadata"]
    assert pod["metadata"]["name"] == "airberg-tables"
    assert "airberg-job" not in pod["metadata"]["labels"]


def test_the_executors_pod_gets_what_the_job_needs() -> None:
    """And the job's id; all else is the business of the executor's template."""
    assert override(pods(pods="executor", image="ignored:1", cpu="2"), JOB_ID) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"labels": {"app.kubernetes.io/name": "airberg", "airberg-job": JOB_ID}},
        "spec": {"containers": [{"name": "base", "resources": {"requests": {"cpu": "2"}}}]},
    }
    assert set(pods(pods="executor", secret="s")) == {"by"}, "what only the operator needs is not told"


def test_pods_have_no_privileges() -> None:
    """Not root, nothing to write to but two volumes, no account of Kubernetes."""
    pod = hardened()["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is pod["enableServiceLinks"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {m["mountPath"] for m in container["volumeMounts"]} == {"/tmp", "/dev/shm"}
    assert {v["name"] for v in pod["volumes"]} == {m["name"] for m in container["volumeMounts"]}


@pytest.mark.parametrize(
    "broken", [{"by": "magic"}, {}, {"by": "operator"}, {"by": "operator", "image": "i"}]
)
def test_broken_specs_are_seen_when_flows_are_built(broken: dict[str, Any]) -> None:
    """So that the flow is shown as broken, and does not fail at night."""
    with pytest.raises((ValueError, KeyError)):
        where_tasks_run({"pods": broken})


def test_an_airflow_without_the_provider_says_so() -> None:
    """This environment has no Airflow at all."""
    with pytest.raises(ValueError, match="no provider for Kubernetes"):
        where_tasks_run({"pods": pods(pods="executor")})
