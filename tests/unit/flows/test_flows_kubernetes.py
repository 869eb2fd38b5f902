"""Settings for pods."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from airberg.flows.kubernetes_settings import KubernetesSettings, quantity_problem
from airberg.flows.model import PodSpec, flow_spec, settings_version
from airberg.plan.flow_request import FlowRequest
from airberg.settings import Settings
from support.jobs import a_job, a_request


@pytest.mark.parametrize("value", ["1", "500m", "0.5", "1.5Gi", "2Gi", "100M", "1k"])
def test_amounts_of_kubernetes(value: str) -> None:
    """As its API takes them."""
    assert quantity_problem(value) is None


@pytest.mark.parametrize(
    "value", ["", "0", "0.0", "-1", "1 Gi", "1gi", "1e3x", "Gi", ".5", "1GB", "1\n", "9" * 20]
)
def test_what_is_no_amount(value: str) -> None:
    """Nor is nothing at all: a pod that asks for no memory is one without the setting."""
    assert quantity_problem(value) is not None


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"pods": "cronjob"}, "pods"),
        ({"pods": "operator"}, "image"),
        ({"secret": "Air_berg"}, "secret"),
        ({"config_map": "-x"}, "config_map"),
        ({"namespace": "a/b"}, "namespace"),
        ({"memory": "2GB"}, "memory"),
        ({"stop_s": 0}, "stop_s"),
        ({"log_s": -1}, "log_s"),
        ({"secrets": "typing error"}, "secrets"),
    ],
    ids=str,
)
def test_wrong_settings_name_the_field(settings: dict[str, Any], field: str) -> None:
    """Kubernetes would refuse each pod, when its time has come."""
    with pytest.raises(ValidationError, match=field):
        KubernetesSettings(**settings)


def test_what_a_job_needs_goes_before_what_the_deployment_says() -> None:
    """Where tasks run in pods; else it is no word."""
    job = a_job(request=a_request(flow=FlowRequest(memory="8Gi")))
    kubernetes = KubernetesSettings(pods="executor", cpu="1", memory="2Gi")
    assert flow_spec(job, Settings(kubernetes=kubernetes)).pods == PodSpec(
        by="executor", cpu="1", memory="8Gi"
    )
    assert flow_spec(a_job(), Settings(kubernetes=kubernetes)).pods == PodSpec(
        by="executor", cpu="1", memory="2Gi"
    )
    assert flow_spec(job, Settings()).pods is None


def test_a_change_of_the_settings_is_a_change_of_all_flows() -> None:
    """They are registered again."""
    versions = {
        settings_version(Settings(kubernetes=kubernetes))
        for kubernetes in (
            KubernetesSettings(),
            KubernetesSettings(pods="executor"),
            KubernetesSettings(pods="executor", memory="1Gi"),
            KubernetesSettings(pods="operator", image="a"),
            KubernetesSettings(pods="operator", image="b"),
        )
    }
    assert len(versions) == 5
