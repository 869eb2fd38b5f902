"""What the orchestrator is told about flows: ids, names, schedules. Never a configuration."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Literal

import msgspec

from airberg.jobs.model import Job
from airberg.settings import Settings

SENTINEL_ID = "airberg_sentinel"
"""The flow whose file is asked to be parsed again whenever flows have changed."""
UPKEEP_ID = "airberg_upkeep"
"""The flow that looks after the tables of all jobs. No job's: their ids end with a UUID."""
HASH_MARK = "airberg-spec: "
"""Stands before the hash in a flow's documentation (`airberg_airflow.dags` writes it)."""
FORM = 2
"""Number of the form of jobs' flows. Since 2 the task `sync` has an alias of assets as its outlet."""
_HASH = re.compile(re.escape(HASH_MARK) + r"([0-9a-f]{32})\b")


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What every flow has. The JSON form of a spec is what crosses the border to Airflow.

    Attributes:
        flow_id: The orchestrator's id of the flow.
        schedule: Five-field cron expression or preset; None = runs only when triggered.
        timeout_s: Limit of one attempt of the task that does the work.
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

    def spec_hash(self) -> str:
        """Hash over the JSON form; Airflow's side computes it from what arrived there."""
        return _short_hash(msgspec.to_builtins(self))


class FlowSpec(Spec, frozen=True, kw_only=True):
    """The flow of a job.

    Attributes:
        created_at: ISO 8601 with offset; the flow's start, so that nothing earlier is caught up.
        shard: Number of the flow file that holds it.
        version: Number of the form of flows; a new one makes all flows be registered again.
    """

    job_id: str
    created_at: str
    shard: int
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


def flow_spec(job: Job, settings: Settings) -> FlowSpec:
    """The flow that a job should have."""
    request = job.request
    return FlowSpec(
        job_id=str(job.id),
        flow_id=job.flow_id,
        name=request.name,
        schedule=request.schedule,
        timezone=request.timezone,
        created_at=job.created_at.isoformat(),
        paused=job.paused,
        shard=job.shard,
        retries=settings.airflow.retries,
        retry_delay_s=settings.airflow.retry_delay_s,
        timeout_s=settings.airflow.task_timeout_s,
        tags=("airberg", request.source_name, *request.tags),
    )


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
    )


def settings_version(settings: Settings) -> str:
    """Changes with all that specs are made of and that is not in the store's version of flows."""
    upkeep, airflow = upkeep_spec(settings), settings.airflow
    return _short_hash(
        [
            None if upkeep is None else upkeep.spec_hash(),
            [airflow.retries, airflow.retry_delay_s, airflow.task_timeout_s],
            FORM,
        ]
    )


def hash_in(documentation: str | None) -> str | None:
    """The hash that a flow's documentation carries."""
    found = _HASH.search(documentation or "")
    return found.group(1) if found else None


def _short_hash(value: object) -> str:
    canonical = json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]
