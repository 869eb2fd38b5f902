"""What the orchestrator is told about a job: ids, name, schedule. Never a configuration."""

from __future__ import annotations

import hashlib
import json
import re

import msgspec

from airberg.jobs.model import Job
from airberg.settings import Settings

SENTINEL_ID = "airberg_sentinel"
"""The flow whose file is asked to be parsed again whenever flows have changed."""
HASH_MARK = "airberg-spec: "
"""Stands before the hash in a flow's documentation (`airberg_airflow.dags` writes it)."""
_HASH = re.compile(re.escape(HASH_MARK) + r"([0-9a-f]{32})\b")


class FlowSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One flow. Its JSON form is what crosses the border to Airflow.

    Attributes:
        flow_id: The orchestrator's id of the flow.
        schedule: Five-field cron expression or preset; None = runs only when triggered.
        created_at: ISO 8601 with offset; the flow's start, so that nothing earlier is caught up.
        shard: Number of the flow file that holds it.
        timeout_s: Limit of one attempt of the task `sync`.
        version: Number of the form of flows; a new one makes all flows be registered again.
    """

    job_id: str
    flow_id: str
    name: str
    schedule: str | None
    timezone: str
    created_at: str
    paused: bool
    shard: int
    retries: int
    retry_delay_s: int
    timeout_s: int
    tags: tuple[str, ...] = ()
    version: int = 1

    def spec_hash(self) -> str:
        """Hash over the JSON form; Airflow's side computes it from what arrived there."""
        canonical = json.dumps(
            msgspec.to_builtins(self), ensure_ascii=True, sort_keys=True, separators=(",", ":")
        )
        return hashlib.sha256(canonical.encode()).hexdigest()[:32]


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


def hash_in(documentation: str | None) -> str | None:
    """The hash that a flow's documentation carries."""
    found = _HASH.search(documentation or "")
    return found.group(1) if found else None
