"""What jobs are found by: tags and groups of their requests, tables of their plans; one row each."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airberg.jobs.encoding import storable_text
from airberg.jobs.model import Job
from airberg.jobs.tables import job_groups, job_tables, job_tags
from airberg.plan.model import JobPlan


def index_request(c: Connection, job: Job) -> None:
    """Note the tags and groups of a job's request anew, in the transaction that stores the request."""
    _replace(c, job_tags, job.id, job.request.tags)
    _replace(c, job_groups, job.id, job.request.share_with)


def index_plan(c: Connection, job_id: UUID, plan: JobPlan | None) -> None:
    """Note the tables of a job's plan anew, in the transaction that stores the plan."""
    _replace(c, job_tables, job_id, () if plan is None else plan.table_names)


def _replace(c: Connection, table: sa.Table, job_id: UUID, texts: Iterable[str]) -> None:
    c.execute(sa.delete(table).where(table.c.job_id == job_id))
    column = next(column.name for column in table.primary_key if column.name != "job_id")
    rows = [{"job_id": job_id, column: text} for text in sorted({storable_text(t) or "" for t in texts})]
    if rows:
        c.execute(table.insert(), rows)
