"""Which jobs have tables to look after."""

from __future__ import annotations

from uuid import UUID

from airberg.jobs.port import JobStore


def jobs_to_look_after(store: JobStore) -> list[UUID]:
    """Jobs that have run, oldest first: paused ones too, deleted ones not.

    A run that failed may have committed something, so all that were started count. A deleted job's tables
    are their owner's alone again.
    """
    return [job.id for job in reversed(store.jobs()) if job.last_started_at is not None]
