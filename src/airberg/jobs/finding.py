"""What jobs and runs are looked for by, page by page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from airberg.jobs.model import Job, JobStatus, Run


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a list that is sorted by creation, newest first: that of a job, or of a run.

    A page begins after the last place of the one before it, so that what is made or removed meanwhile shifts
    nothing.
    """

    created_at: datetime
    id: UUID

    @classmethod
    def of(cls, item: Job | Run) -> Place:
        """Where a job or a run is."""
        return cls(item.created_at, item.id)

    def before(self, item: Job | Run) -> bool:
        """Whether the item comes later in the list: it is older."""
        return (item.created_at, item.id.hex) < (self.created_at, self.id.hex)


@dataclass(frozen=True, slots=True)
class ListedJob:
    """A job as a list has it.

    Attributes:
        job: The job without its plan, which may be large: in a list it is None.
        tables: Dotted names of the tables that it fills; none before it is planned.
        newest_run: Its newest run, if it has one.
    """

    job: Job
    tables: tuple[str, ...] = ()
    newest_run: Run | None = None


@dataclass(frozen=True, slots=True)
class Viewer:
    """Whose jobs are looked for: those that they made, and those that are shared with a group of theirs."""

    key: str
    groups: frozenset[str]

    def sees(self, job: Job) -> bool:
        """Whether the job is one of them."""
        return job.created_by == self.key or not self.groups.isdisjoint(job.request.share_with)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs are looked for; None asks for all.

    Attributes:
        viewer: Who looks.
        owner_id: Owner of the job.
        status: Its status.
        source: Name of its connector.
        tag: One of its tags.
        include_deleted: Deleted ones too.
    """

    viewer: Viewer | None = None
    owner_id: str | None = None
    status: JobStatus | None = None
    source: str | None = None
    tag: str | None = None
    include_deleted: bool = False

    def takes(self, job: Job) -> bool:
        """Whether the job is one of them."""
        return (
            (self.viewer is None or self.viewer.sees(job))
            and self.owner_id in (None, job.owner_id)
            and self.status in (None, job.status)
            and self.source in (None, job.request.source_name)
            and (self.tag is None or self.tag in job.request.tags)
            and (self.include_deleted or job.deleted_at is None)
        )
