"""What later runs tell of, so that a run that is registered late takes nothing back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from airberg.jobs.model import RunStatus

if TYPE_CHECKING:
    from airberg.jobs.model import Job, Run
    from airberg.jobs.port import JobStore

LOOKED_AT = 50
"""Newest completed runs of a job that are looked at."""


@dataclass(frozen=True, slots=True)
class LaterRuns:
    """What of a run is not to be told as what is now.

    Attributes:
        tables: Tables that were loaded since: dotted, in one case, as `JobPlan.table_names`.
        flow: The job has run since, or is deleted.
    """

    tables: frozenset[str] = frozenset()
    flow: bool = False

    def has(self, namespace: Iterable[str], table: str) -> bool:
        """Whether the table was loaded since."""
        return ".".join((*namespace, table)).casefold() in self.tables


NO_LATER_RUNS = LaterRuns()


def later_runs(store: JobStore, job: Job, run: Run) -> LaterRuns:
    """Completed runs since this one, of its job and of other jobs that fill its tables."""
    if job.plan is None:
        return LaterRuns(flow=job.deleted_at is not None)
    tables: set[str] = set()
    flow = job.deleted_at is not None
    own = frozenset(job.plan.table_names)
    others = [other for other in store.jobs_filling(own) if other.id != job.id]
    for filler in (job, *others):
        if filler.plan is None:
            continue
        for other in store.runs(filler.id, limit=LOOKED_AT, status=RunStatus.COMPLETED):
            if _place(other) <= _place(run):
                continue
            flow = flow or filler.id == job.id
            reports = other.report.streams
            tables.update(".".join((*filler.plan.namespace, r.table)).casefold() for r in reports)
    return LaterRuns(frozenset(tables & own), flow)


def _place(run: Run) -> tuple[datetime, UUID]:
    return run.ended_at or run.created_at, run.id
