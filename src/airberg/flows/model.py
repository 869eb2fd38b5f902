"""What the orchestrator is told about flows: ids, names, schedules. Never a configuration."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Literal

import msgspec

from airberg.flows.airflow_settings import DEFAULT_PRIORITY
from airberg.jobs.model import FlowJob, Job
from airberg.plan.flow_request import FlowRequest, Notification
from airberg.plan.model import IngestRequest
from airberg.settings import Settings

SENTINEL_ID = "airberg_sentinel"
"""The flow whose file is asked to be parsed again whenever flows have changed."""
DOCTOR_ID = "airberg_doctor"
"""The flow whose task says what a worker has, for `airberg airflow doctor`."""
DOCTOR_TIMEOUT_S = 300
UPKEEP_ID = "airberg_upkeep"
"""The flow that looks after the tables of all jobs. No job's: their ids end with a UUID."""
HASH_MARK = "airberg-spec: "
"""Stands before the hash in a flow's documentation (`airberg_airflow.dags` writes it)."""
FORM = 5
"""Number of the form of jobs' flows. Since 2 the task `sync` has an alias of assets as its outlet, since 3 a
flow has options, since 4 runs have parameters, and flows that ask for it a task `plan`; since 5 a
flow has no start."""
_OF_FLOWS = {
    *("retries", "retry_delay_s", "max_retry_delay_s", "task_timeout_s", "pool", "source_pools", "queue"),
    *("source_queues", "priority", "deadline_s", "deadline_by", "on_failure"),
}
"""Settings that flows are made of."""
_HASH = re.compile(re.escape(HASH_MARK) + r"([0-9a-f]{32})\b")


class PodSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The pods that a flow's tasks run in: names and amounts, of the settings and of the job.

    `airberg_airflow.pods` makes them. The members are those of `KubernetesSettings`.
    """

    by: Literal["executor", "operator"]
    image: str | None = None
    namespace: str | None = None
    secret: str | None = None
    config_map: str | None = None
    service_account: str | None = None
    pull_secret: str | None = None
    connection: str | None = None
    template_file: str | None = None
    cpu: str | None = None
    memory: str | None = None
    stop_s: int | None = None
    start_timeout_s: int | None = None
    defer: bool | None = None
    log_s: int | None = None


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What every flow has. The JSON form of a spec is what crosses the border to Airflow.

    Attributes:
        flow_id: The orchestrator's id of the flow.
        schedule: Five-field cron expression or preset; None = runs only when triggered.
        timeout_s: Limit of one attempt of the task that does the work.
        pods: What the tasks' pods are like; None: no word about pods.
    """

    flow_id: str
    name: str
    schedule: str | None
    timezone: str
    paused: bool = False
    retries: int
    retry_delay_s: int
    timeout_s: int
    tags: tuple[str, ...] = ()
    pods: PodSpec | None = None

    def spec_hash(self) -> str:
        """Hash over the JSON form; Airflow's side computes it from what arrived there."""
        return _short_hash(msgspec.to_builtins(self))


class FlowSpec(Spec, frozen=True, kw_only=True):
    """The flow of a job.

    Attributes:
        created_at: When the job was made; ISO 8601 with offset. For packages in Airflow that make flows of an
            older form.
        shard: Number of the flow file that holds it.
        parallelism: Groups of streams that are synced at once.
        pool: Airflow's pool of its tasks; None: the default one.
        queue: Queue of its tasks; None: the executor's own.
        priority: Weight of its tasks where slots are scarce.
        max_retry_delay_s: Longest wait before a retry.
        deadline_s: Seconds after which a run that has not ended is told of; None: never.
        deadline_by: What tells of it in Airflow.
        flow_url: Page of the flow, for notices; None where nobody is told.
        on_failure: Who is told of a run that failed: ids of connections, never what is in them.
        version: Number of the form of flows; a new one makes all flows be registered again.
    """

    job_id: str
    created_at: str
    shard: int
    parallelism: int = 1
    pool: str | None = None
    queue: str | None = None
    priority: int = DEFAULT_PRIORITY
    max_retry_delay_s: int = 3600
    deadline_s: int | None = None
    deadline_by: Literal["task", "triggerer"] = "task"
    on_failure: tuple[Notification, ...] = ()
    flow_url: str | None = None
    version: int = FORM


class UpkeepSpec(Spec, frozen=True, kw_only=True):
    """The flow that looks after the tables of all jobs. Which jobs, it asks when it runs.

    Attributes:
        kind: Tells it from the flow of a job.
        parallelism: Jobs whose tables are looked after at once.
        version: Number of the form of this flow.
    """

    kind: Literal["upkeep"] = "upkeep"
    parallelism: int
    version: int = 1


class DoctorSpec(Spec, frozen=True, kw_only=True):
    """The flow whose task says what a worker has; it runs when `airberg airflow doctor` asks for it.

    Attributes:
        kind: Tells it from the flow of a job.
        version: Number of the form of this flow.
    """

    kind: Literal["doctor"] = "doctor"
    version: int = 1


class FlowOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a flow as they are decided; members as in `airberg.plan.flow_request.FlowRequest`."""

    parallelism: int
    pool: str | None
    queue: str | None
    priority: int
    retries: int
    retry_delay_s: int
    timeout_s: int
    deadline_s: int | None
    on_failure: tuple[Notification, ...]
    cpu: str | None
    memory: str | None


def flow_options(request: IngestRequest, settings: Settings) -> FlowOptions:
    """What the job asks for, else what its source has, else the deployment."""
    airflow, source = settings.airflow, request.source_name
    asked = request.flow or FlowRequest()
    told, pods = asked.on_failure, _pods(settings, asked)
    if told is None:
        told = tuple(n.as_notification() for n in airflow.on_failure)
    return FlowOptions(
        parallelism=_first(asked.parallelism, 1),
        pool=asked.pool or airflow.source_pools.get(source) or airflow.pool,
        queue=asked.queue or airflow.source_queues.get(source) or airflow.queue,
        priority=_first(asked.priority, airflow.priority),
        retries=_first(asked.retries, airflow.retries),
        retry_delay_s=_first(asked.retry_delay_s, airflow.retry_delay_s),
        timeout_s=_first(asked.timeout_s, airflow.task_timeout_s),
        deadline_s=airflow.deadline_s if asked.deadline_s is None else asked.deadline_s,
        on_failure=told,
        cpu=pods.cpu if pods else None,
        memory=pods.memory if pods else None,
    )


def flow_spec(job: Job | FlowJob, settings: Settings) -> FlowSpec:
    """The flow that a job should have."""
    request = job.request
    options = flow_options(request, settings)
    return FlowSpec(
        job_id=str(job.id),
        flow_id=job.flow_id,
        name=request.name,
        schedule=request.schedule,
        timezone=request.timezone,
        created_at=job.created_at.isoformat(),
        paused=job.paused,
        shard=job.shard,
        retries=options.retries,
        retry_delay_s=options.retry_delay_s,
        max_retry_delay_s=settings.airflow.max_retry_delay_s,
        timeout_s=options.timeout_s,
        parallelism=options.parallelism,
        pool=options.pool,
        queue=options.queue,
        priority=options.priority,
        deadline_s=options.deadline_s,
        deadline_by=settings.airflow.deadline_by,
        on_failure=options.on_failure,
        flow_url=flow_url(settings, job.flow_id) if options.on_failure else None,
        tags=("airberg", request.source_name, *request.tags),
        pods=_pods(settings, request.flow),
    )


def flow_url(settings: Settings, flow_id: str) -> str:
    """Where a person sees the flow."""
    return f"{settings.airflow_public_url}/dags/{flow_id}"


def upkeep_spec(settings: Settings) -> UpkeepSpec | None:
    """The flow of upkeep, where the deployment has one."""
    upkeep = settings.upkeep
    if not upkeep.enabled:
        return None
    return UpkeepSpec(
        flow_id=UPKEEP_ID,
        name="Airberg: table upkeep",
        schedule=upkeep.schedule,
        timezone=upkeep.timezone,
        retries=settings.airflow.retries,
        retry_delay_s=settings.airflow.retry_delay_s,
        timeout_s=settings.airflow.task_timeout_s,
        parallelism=upkeep.parallelism,
        tags=("airberg",),
        pods=_pods(settings),
    )


def doctor_spec(settings: Settings) -> DoctorSpec:
    """The flow that asks a worker. Its task runs where those of jobs do, and once."""
    return DoctorSpec(
        flow_id=DOCTOR_ID,
        name="Airberg: doctor",
        schedule=None,
        timezone="UTC",
        retries=0,
        retry_delay_s=0,
        timeout_s=DOCTOR_TIMEOUT_S,
        tags=("airberg",),
        pods=_pods(settings),
    )


def settings_version(settings: Settings) -> str:
    """Changes with all that specs are made of and that is not in the store's version of flows."""
    upkeep, airflow = upkeep_spec(settings), settings.airflow
    return _short_hash(
        [
            None if upkeep is None else upkeep.spec_hash(),
            doctor_spec(settings).spec_hash(),
            airflow.model_dump(mode="json", include=_OF_FLOWS) | {"url": settings.airflow_public_url},
            msgspec.to_builtins(_pods(settings)),
            FORM,
        ]
    )


def _pods(settings: Settings, asked: FlowRequest | None = None) -> PodSpec | None:
    """What a deployment says about pods, and a job about what it needs.

    What only the operator needs is no business of the executor's.
    """
    kubernetes = settings.kubernetes
    if kubernetes.pods is None:
        return None
    names = {"cpu", "memory"} if kubernetes.pods == "executor" else set(PodSpec.__struct_fields__) - {"by"}
    pods = PodSpec(by=kubernetes.pods, **kubernetes.model_dump(include=names))
    if asked is None:
        return pods
    return msgspec.structs.replace(pods, cpu=asked.cpu or pods.cpu, memory=asked.memory or pods.memory)


def hash_in(documentation: str | None) -> str | None:
    """The hash that a flow's documentation carries."""
    found = _HASH.search(documentation or "")
    return found.group(1) if found else None


def _first(asked: int | None, default: int) -> int:
    return default if asked is None else asked


def _short_hash(value: object) -> str:
    canonical = json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]
