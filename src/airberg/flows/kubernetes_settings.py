"""Settings for tasks of flows that run in pods of Kubernetes."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_QUANTITY: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
Seconds = Annotated[int, Field(ge=1, le=24 * 3600)]
SecondsOrNever = Annotated[int, Field(ge=0, le=24 * 3600)]


def quantity_problem(value: str) -> str | None:
    """What is wrong with an amount of processors or memory, in the words of Kubernetes; None if nothing."""
    if _QUANTITY.fullmatch(value) and any(c in "123456789" for c in value):
        return None
    return "write an amount as Kubernetes has it, such as 500m, 2 or 1.5Gi"


class KubernetesSettings(BaseModel):
    """Pods that tasks of flows run in; [Run on Kubernetes](../how-to/kubernetes.md) has all of it.

    Flow files hold these names and amounts. What is in the Secret and the ConfigMap, only pods see.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pods: Literal["executor", "operator"] | None = Field(
        None,
        description="Who starts pods: Airflow's KubernetesExecutor, one for each task (`executor`), or each "
        "task, one of Airberg's own image for its command (`operator`). Default: nobody, tasks run where "
        "Airflow's executor runs them.",
    )
    image: str | None = Field(None, min_length=1, max_length=500, description="Airberg's image. `operator`.")
    namespace: str | None = Field(
        None, description="Namespace of the pods; default that of the connection. `operator`."
    )
    secret: str | None = Field(
        None, description="Secret whose keys become variables of the pods. `operator`."
    )
    config_map: str | None = Field(
        None, description="ConfigMap whose keys become variables of the pods. `operator`."
    )
    service_account: str | None = Field(None, description="Service account of the pods. `operator`.")
    pull_secret: str | None = Field(None, description="Secret to fetch the image with. `operator`.")
    connection: str = Field(
        "kubernetes_default", min_length=1, max_length=200, description="Airflow's connection. `operator`."
    )
    template_file: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Template of the pods, on Airflow's workers: volumes, places, other users. `operator`.",
    )
    cpu: str | None = Field(None, description="Processors that a pod asks for: `500m`.")
    memory: str | None = Field(None, description="Memory that a pod asks for, and gets at most: `2Gi`.")
    stop_s: Seconds = Field(
        30, description="What a command gets between the wish that it ends and its end. `operator`."
    )
    start_timeout_s: Seconds = Field(
        600, description="How long a pod may take until it runs: the fetching of its image. `operator`."
    )
    defer: bool | None = Field(
        None,
        description="Whether Airflow's triggerer waits for pods, so that no worker's slot is held meanwhile. "
        "Default: what Airflow says in `[operators] default_deferrable` where the task runs. `operator`.",
    )
    log_s: SecondsOrNever = Field(
        60,
        description="Seconds after which new lines of the log are written into the task's while the "
        "triggerer waits; `0`: at the end of the pod. `operator`.",
    )

    @field_validator("namespace", "secret", "config_map", "service_account", "pull_secret")
    @classmethod
    def _is_name(cls, value: str | None) -> str | None:
        if value is not None and not _NAME.fullmatch(value):
            raise ValueError("this is not the name of an object of Kubernetes")
        return value

    @field_validator("cpu", "memory")
    @classmethod
    def _is_quantity(cls, value: str | None) -> str | None:
        if value is not None and (problem := quantity_problem(value)):
            raise ValueError(problem)
        return value

    @model_validator(mode="after")
    def _has_an_image(self) -> KubernetesSettings:
        if self.pods == "operator" and self.image is None:
            raise ValueError("pods=operator needs image: the one that deploy/Dockerfile makes")
        return self
