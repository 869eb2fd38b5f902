"""How jobs and runs change state: pure rules that every job store follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID, uuid4

import msgspec

from airberg.errors import Conflict, LeaseHeld, NotFound
from airberg.jobs.encoding import storable_text
from airberg.jobs.model import Job, JobStatus, Run, RunReport, RunRequest, RunStatus
from airberg.plan.model import JobPlan
from airberg.quoted import quoted
from airberg.sources.entry import ConnectorEntry

JOBS_PER_SHARD = 20
"""Flows in one flow file: few enough to parse in no time, enough to keep the number of files small."""


def free_shard(living: Mapping[int, int]) -> int:
    """The lowest shard with room, given how many living jobs each shard has."""
    shard = 0
    while living.get(shard, 0) >= JOBS_PER_SHARD:
        shard += 1
    return shard


def with_schedule(job: Job, schedule: str | None, timezone: str) -> Job:
    """The job with another schedule."""
    request = msgspec.structs.replace(job.request, schedule=schedule, timezone=timezone)
    return replace(job, request=request, version=job.version + 1)


def with_connector(job: Job, connector: ConnectorEntry, plan: JobPlan | None) -> Job:
    """The job with another connector. Without a new plan the old one stays, as one that is not fresh."""
    if plan is None and job.plan is not None:
        plan = msgspec.structs.replace(job.plan, discovered_at=0.0)
    return replace(job, request=job.request.pinned(connector), plan=plan, version=job.version + 1)


def new_run(job_id: UUID, flow_run_id: str, at: datetime, asked: RunRequest | None = None) -> Run:
    """A run that the orchestrator started by itself (by schedule, or for a person on its page)."""
    return Run(id=uuid4(), job_id=job_id, flow_run_id=flow_run_id, created_at=at, asked=asked or RunRequest())


def started(job: Job, run: Run, attempt: int, at: datetime) -> tuple[Job, Run]:
    """Job and run once an attempt has begun. The run keeps the start of its first attempt.

    Raises:
        NotFound: The job was deleted meanwhile.
    """
    require_living(job)
    run = replace(
        run,
        status=RunStatus.RUNNING,
        attempt=attempt,
        started_at=run.started_at or at,
        ended_at=None,
        error=None,
        error_code=None,
    )
    return replace(job, status=JobStatus.RUNNING, status_message=None, last_started_at=at), run


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a run ended."""

    status: RunStatus
    at: datetime
    error: str | None = None
    error_code: str | None = None
    report: RunReport | None = None

    def __post_init__(self) -> None:
        if not self.status.ended:
            raise ValueError(f"a run cannot end as {self.status.value}")


def ended(job: Job, run: Run, ending: Ending, *, newest: bool) -> tuple[Job, Run]:
    """Job and run once the run has ended.

    Telling the same end twice (the run itself, then whoever watches the orchestrator) changes nothing but
    what the second one adds. A job shows its newest run, so the late end of an older one moves the job's
    times but not its status.

    Args:
        newest: No later run of the job has started.
    """
    again = run.status is ending.status
    error, code = storable_text(ending.error), ending.error_code
    if again:
        error, code = error or run.error, code or run.error_code
    at = run.ended_at if again and run.ended_at is not None else ending.at
    run = replace(
        run,
        status=ending.status,
        ended_at=at,
        error=error,
        error_code=code,
        report=ending.report or run.report,
    )
    completed = ending.status is RunStatus.COMPLETED
    if completed:
        job = replace(job, last_completed_at=_later(job.last_completed_at, at))
    else:
        job = replace(job, last_failed_at=_later(job.last_failed_at, at))
    if newest:
        message = error or ("The run was cancelled." if ending.status is RunStatus.CANCELLED else None)
        status = JobStatus.COMPLETED if completed else JobStatus.FAILED
        job = replace(job, status=status, status_message=None if completed else message)
    return job, run


def is_newer(other: Run, than: Run) -> bool:
    """Whether `other` is a later run than `than` and has started."""
    return other.status is not RunStatus.QUEUED and (other.created_at, other.id.hex) > (
        than.created_at,
        than.id.hex,
    )


def _later(known: datetime | None, at: datetime) -> datetime:
    return at if known is None else max(known, at)


# ---- errors ----------------------------------------------------------------------------------------------


def no_job(job_id: UUID) -> NotFound:
    """There is no such job."""
    return NotFound(f"There is no job {job_id}.", guidance="Check the id.")


def no_run(run_id: UUID) -> NotFound:
    """There is no such run."""
    return NotFound(f"There is no run {run_id}.", guidance="Check the id.")


def require_living(job: Job) -> Job:
    """The job itself. Raises NotFound when it is deleted: a deleted job does not change."""
    if job.deleted_at is not None:
        raise NotFound(f"The job {job.id} was deleted.", guidance="Create a new job.")
    return job


def name_taken(name: str, job_id: UUID) -> Conflict:
    """The owner has a job of that name."""
    return Conflict(
        f"You have a job named {quoted(name)} already: {job_id}.",
        guidance="Use another name, or delete that job.",
        code="name-taken",
    )


def answered_already() -> Conflict:
    """A request of that caller under that `Idempotency-Key` was answered."""
    return Conflict(
        "A request with this Idempotency-Key was answered already.",
        guidance="Send it again to get that answer.",
        code="answered-already",
    )


def lease_held(job_id: UUID) -> LeaseHeld:
    """Somebody else holds the lease."""
    return LeaseHeld(
        f"Another run of the job {job_id} is alive.",
        guidance="Nothing needs to be done: one run of a job works at a time.",
    )


def lease_lost(job_id: UUID) -> LeaseHeld:
    """The lease was taken over or given back."""
    return LeaseHeld(
        f"This run lost the lease of the job {job_id}.",
        guidance="Another run of the job took over; nothing needs to be done.",
    )
