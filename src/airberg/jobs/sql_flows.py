"""Which flows have changed: a version of all of them, and a row for each that is to be followed."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from airberg.jobs.encoding import flow_job_of
from airberg.jobs.model import DueFlow, FlowJob
from airberg.jobs.tables import flows_due, flows_state, jobs

FLOW_VALUES = [
    jobs.c[name] for name in ("id", "request", "created_at", "paused", "shard", "flow_hash", "deleted_at")
]
"""What the flow of a job is made of. Not its plan: decoding ten thousand plans takes seconds."""


def take_turn(c: Connection) -> None:
    """Take the turn of those who change flows, and give the flows a new version."""
    c.execute(flows_state.update().values(version=uuid4().hex))


def note_due(c: Connection, job_id: UUID) -> None:
    """Note that the flow of a job has changed, after the job itself was written."""
    mark = uuid4().hex
    insert = postgresql.insert if c.dialect.name == "postgresql" else sqlite.insert
    row = insert(flows_due).values(job_id=job_id, mark=mark)
    c.execute(row.on_conflict_do_update(index_elements=[flows_due.c.job_id], set_={"mark": mark}))


def all_jobs(c: Connection, to_withdraw: bool) -> Sequence[FlowJob]:
    """See `JobStore.flow_jobs`."""
    wanted: sa.ColumnElement[bool] = jobs.c.deleted_at.is_(None)
    if to_withdraw:
        wanted |= jobs.c.flow_hash.is_not(None)
    query = sa.select(*FLOW_VALUES).where(wanted).order_by(jobs.c.created_at, jobs.c.id)
    return [flow_job_of(row) for row in c.execute(query).mappings()]


def beside(c: Connection, job_id: UUID) -> UUID | None:
    """See `JobStore.flow_beside`."""
    shard = sa.select(jobs.c.shard).where(jobs.c.id == job_id).scalar_subquery()
    query = sa.select(jobs.c.id).where(
        jobs.c.shard == shard, jobs.c.deleted_at.is_(None), jobs.c.flow_hash.is_not(None), jobs.c.id != job_id
    )
    return c.execute(query.limit(1)).scalar()


def due(c: Connection) -> Sequence[DueFlow]:
    """See `JobStore.flows_due`."""
    query = sa.select(flows_due.c.mark, *FLOW_VALUES).join(flows_due, flows_due.c.job_id == jobs.c.id)
    found = c.execute(query.order_by(jobs.c.created_at, jobs.c.id)).mappings()
    return [DueFlow(job=flow_job_of(row), mark=row["mark"]) for row in found]


def followed(c: Connection, one: DueFlow) -> None:
    """See `JobStore.flow_followed`."""
    c.execute(sa.delete(flows_due).where(flows_due.c.job_id == one.job.id, flows_due.c.mark == one.mark))
