"""Pages of jobs and runs in SQL, which cost what they show and not what is stored.

Jobs of a page are found in indexes alone: a row of a job holds its plan, which may be large, and what stands
after it in the row costs SQLite a walk over all its pages. Who sees jobs for two reasons, having made them
and by a group, has a search for each: databases do not sort an `OR` by an index.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airberg.jobs.encoding import filled_tables, job_of, run_of
from airberg.jobs.finding import JobFilter, ListedJob, Place
from airberg.jobs.model import Run, RunStatus
from airberg.jobs.tables import UtcDateTime, job_groups, job_tags, jobs, runs

JOB_VALUES = [c for c in jobs.c if c.name != "source_config"]
"""Everything of a job but its secrets, which are read only when they are asked for."""


def page_of_jobs(c: Connection, wanted: JobFilter, after: Place | None, limit: int) -> list[ListedJob]:
    """Jobs, newest first."""
    ids = c.execute(_places(wanted, after, limit)).scalars().all()
    if not ids:
        return []
    query = sa.select(*JOB_VALUES).where(jobs.c.id.in_(ids))
    rows = {row["id"]: dict(row) for row in c.execute(query).mappings()}
    newest = _newest_runs(c, ids)
    return [
        ListedJob(job_of(rows[i] | {"plan": None}), filled_tables(rows[i]["plan"]), newest.get(i))
        for i in ids
    ]


def _places(wanted: JobFilter, after: Place | None, limit: int) -> sa.Select[Any]:
    if wanted.viewer is None:
        return _newest(sa.select(jobs.c.id).where(*_conditions(wanted, after)), jobs).limit(limit)
    ways: list[sa.ColumnElement[bool]] = [jobs.c.created_by == wanted.viewer.key]
    if wanted.viewer.groups:
        shared = sa.select(job_groups.c.job_id).where(job_groups.c.group.in_(sorted(wanted.viewer.groups)))
        ways.append(jobs.c.id.in_(shared))
    searches = []
    for way in ways:
        query = sa.select(jobs.c.id, jobs.c.created_at).where(way, *_conditions(wanted, after))
        # in a subquery: SQLite has no limit for one member of a union
        searches.append(sa.select(_newest(query, jobs).limit(limit).subquery()))
    found = sa.union(*searches).subquery()
    return _newest(sa.select(found.c.id), found).limit(limit)


def _conditions(wanted: JobFilter, after: Place | None) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if not wanted.include_deleted:
        found.append(jobs.c.deleted_at.is_(None))
    if wanted.owner_id is not None:
        found.append(jobs.c.owner_id == wanted.owner_id)
    if wanted.status is not None:
        found.append(jobs.c.status == wanted.status.value)
    if wanted.source is not None:
        found.append(jobs.c.source_name == wanted.source)
    if wanted.tag is not None:
        found.append(jobs.c.id.in_(sa.select(job_tags.c.job_id).where(job_tags.c.tag == wanted.tag)))
    if after is not None:
        found.append(older(jobs, after))
    return found


def page_of_runs(
    c: Connection, job_id: UUID, before: Place | None, limit: int, status: RunStatus | None = None
) -> list[Run]:
    """Runs of a job, newest first."""
    query = sa.select(runs).where(runs.c.job_id == job_id)
    if status is not None:
        query = query.where(runs.c.status == status.value)
    if before is not None:
        query = query.where(older(runs, before))
    return [run_of(row) for row in c.execute(_newest(query, runs).limit(limit)).mappings()]


def has_newer_run(c: Connection, run: Run) -> bool:
    """Whether a later run of the job has started."""
    started_later = sa.select(runs.c.id).where(
        runs.c.job_id == run.job_id,
        runs.c.status != RunStatus.QUEUED.value,
        newer(runs, Place.of(run)),
    )
    return c.execute(started_later.limit(1)).first() is not None


def _newest_runs(c: Connection, job_ids: Sequence[UUID]) -> dict[UUID, Run]:
    """The newest run of each of these jobs that has one, by the id of the job."""
    of_job = sa.select(runs.c.id).where(runs.c.job_id == jobs.c.id)
    newest = _newest(of_job, runs).limit(1).correlate(jobs).scalar_subquery()
    # First their ids, so that no database takes it into its head to look for them among all runs.
    ids = c.execute(sa.select(newest).where(jobs.c.id.in_(job_ids))).scalars().all()
    query = sa.select(runs).where(runs.c.id.in_([run_id for run_id in ids if run_id is not None]))
    return {row["job_id"]: run_of(row) for row in c.execute(query).mappings()}


def _newest(query: sa.Select[Any], table: sa.FromClause) -> sa.Select[Any]:
    return query.order_by(table.c.created_at.desc(), table.c.id.desc())


def older(table: sa.Table, place: Place) -> sa.ColumnElement[bool]:
    """Whether a row was made before that place: comes later in a list that begins with the newest."""
    return _row(table) < _literal(place)


def newer(table: sa.Table, place: Place) -> sa.ColumnElement[bool]:
    """Whether a row was made after that place."""
    return _row(table) > _literal(place)


def _row(table: sa.Table) -> sa.Tuple:
    """Rows are compared as such, which both databases look up in an index."""
    return sa.tuple_(table.c.created_at, table.c.id)


def _literal(place: Place) -> sa.Tuple:
    return sa.tuple_(sa.literal(place.created_at, UtcDateTime), sa.literal(place.id, sa.Uuid))
