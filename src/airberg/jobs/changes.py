"""What somebody changes of a job, and what becomes of the job: pure rules that every store follows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from uuid import UUID

from airberg.errors import PreconditionFailed
from airberg.jobs.encoding import decode_free, encode_free
from airberg.jobs.lifecycle import require_living
from airberg.jobs.model import Job
from airberg.plan.model import IngestRequest, JobPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class NewConfig:
    """A source configuration in place of the stored one.

    Attributes:
        config: With its secrets.
        public: With its secrets masked.
        instead_of: The stored one that it was made from. A run may have stored another meanwhile, with a
            token that the source renewed: then the change is not made.
    """

    config: dict[str, object] = field(repr=False)
    public: dict[str, object]
    instead_of: dict[str, object] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobChange:
    """What is changed; None leaves it as it is.

    Attributes:
        version: The version of the job that the change was made from.
        request: All of the request; its name and its owner become the job's.
        plan: The plan that was made for it.
        config: The source configuration.
        paused: Whether the schedule rests.
    """

    version: int
    request: IngestRequest | None = None
    plan: JobPlan | None = None
    config: NewConfig | None = None
    paused: bool | None = None


def changed(job: Job, change: JobChange) -> Job:
    """The job with the change.

    Raises:
        NotFound: The job is deleted.
        PreconditionFailed: It has another version than the one that the change was made from.
    """
    require_version(require_living(job), change.version)
    request = change.request or job.request
    return replace(
        job,
        request=request,
        owner_id=job.owner_id if change.request is None else request.owner_id,
        plan=change.plan or job.plan,
        public_config=decode_free(encode_free(change.config.public)) if change.config else job.public_config,
        paused=job.paused if change.paused is None else change.paused,
        version=job.version + 1,
    )


def require_version(job: Job, version: int | None) -> Job:
    """The job itself, if it has that version; None is any.

    Raises:
        PreconditionFailed: It has another one.
    """
    if version is not None and job.version != version:
        raise changed_meanwhile(job.id)
    return job


def changed_meanwhile(job_id: UUID) -> PreconditionFailed:
    """The job is not what the change was made from any more."""
    return PreconditionFailed(
        f"The job {job_id} was changed meanwhile.",
        guidance="Look at it again, and send the change with its new ETag.",
        code="job-changed",
    )
