"""Settings of the Airflow that runs the flows, and of what all flows have in common."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from airberg.api.flow_body import (
    MAX_DELAY_S,
    MAX_DURATION_S,
    MAX_PRIORITY,
    MAX_RETRIES,
    Name,
    NotificationBody,
)

Positive = Annotated[int, Field(gt=0)]
Slots = Annotated[int, Field(ge=1, le=1_000_000)]
DEFAULT_PRIORITY: Final = 10
"""Of jobs; upkeep has 1."""


class AirflowSettings(BaseModel):
    """The Airflow that runs the flows. `embedded` means the one that `airberg up` starts.

    What a job says about its flow in `flow` goes before what is set here for its source, and that before what
    is set for all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedded: bool = Field(True, description="`false`: an Airflow of your own, at `url`.")
    host: str = Field("127.0.0.1", description="Address that the embedded Airflow listens on.")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(
        8080, description="Port that the embedded Airflow listens on."
    )
    url: str | None = Field(None, description="API address; default that of the embedded one.")
    public_url: str | None = Field(None, description="Address for flow_url; default `url`.")
    username: str = Field("airberg", description="Airflow's user for the service.")
    password: SecretStr | None = Field(
        None, description="Its password; the embedded Airflow gets one that is made."
    )
    token: SecretStr | None = Field(None, description="A static bearer token instead of a password.")
    retries: Annotated[int, Field(ge=0, le=MAX_RETRIES)] = Field(
        2, description="How often a failed task is tried again, unless that is of no use."
    )
    retry_delay_s: Annotated[int, Field(ge=0, le=MAX_DELAY_S)] = Field(
        60, description="Seconds before it is tried again; each next time twice as many."
    )
    max_retry_delay_s: Annotated[int, Field(ge=1, le=MAX_DELAY_S)] = Field(
        3600, description="The longest of these waits."
    )
    task_timeout_s: Annotated[int, Field(ge=1, le=MAX_DURATION_S)] = Field(
        6 * 3600, description="Seconds that one attempt to sync may take."
    )
    parallelism: Positive = Field(4, description="Tasks at once in the embedded Airflow.")
    bundle_token: SecretStr | None = Field(None, description="Machine token of the DAG bundle.")
    pool: Name | None = Field(None, description="Pool of all tasks; default Airflow's `default_pool`.")
    source_pools: dict[str, Name] = Field(
        default_factory=dict,
        description="By source, the pool of its jobs: its slots are how many tasks may ask that source at "
        'once. `{"source-github": "github"}`.',
    )
    pool_slots: dict[Name, Slots] = Field(
        default_factory=dict,
        description='Pools that are made in Airflow, with so many slots. `{"github": 2}`.',
    )
    queue: Name | None = Field(None, description="Queue of all tasks; default Airflow's own.")
    source_queues: dict[str, Name] = Field(
        default_factory=dict, description="By source, the queue of its jobs."
    )
    priority: Annotated[int, Field(ge=1, le=MAX_PRIORITY)] = Field(
        DEFAULT_PRIORITY, description="Of jobs that ask for none; table upkeep has 1."
    )
    deadline_s: Annotated[int, Field(ge=1, le=MAX_DURATION_S)] | None = Field(
        None, description="A run that has not ended so many seconds after it was due is told of."
    )
    deadline_by: Literal["task", "triggerer"] = Field(
        "task",
        description="What tells of it: the task that is at work then, or Airflow's own deadline alert, which "
        "needs its triggerer and also tells of runs that no task is at work for.",
    )
    on_failure: tuple[NotificationBody, ...] = Field(
        (),
        max_length=20,
        description="Who is told of runs that failed, in the words of the member `flow.on_failure`.",
    )
    connections: tuple[str, ...] = Field(
        ("*",),
        description='Connections that jobs may name in `flow.on_failure`; `*` is any part: `["notify_*"]`.',
    )
