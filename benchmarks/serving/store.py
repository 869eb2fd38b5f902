"""A job store with many jobs and runs, written as rows: the service would take an hour for as many."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from airberg.flows.model import flow_spec
from airberg.identity.development import DevelopmentIssuer
from airberg.jobs.encoding import job_columns, run_columns
from airberg.jobs.engine import engine_of
from airberg.jobs.model import Job, JobStatus, Run, RunReport, RunStatus, StreamReport
from airberg.jobs.sql_flows import take_turn
from airberg.jobs.sql_index import index_request
from airberg.jobs.tables import jobs, runs
from airberg.plan.model import IngestRequest
from airberg.settings import Settings

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
OWNERS = 50
SOURCES = ("source-faker", "source-github", "source-s3", "source-file", "source-stripe")
TAGS = ("sales", "finance", "pii", "daily")
JOBS_IN_A_SHARD = 20
CHUNK = 5_000


def owner(number: int) -> str:
    """The e-mail address of one of the owners; also its subject at the issuer."""
    return f"owner{number:03d}@example.com"


def fill(
    settings: Settings,
    job_count: int,
    run_count: int,
    *,
    first: int = 0,
    schedule: str = "@daily",
    created: datetime | None = None,
) -> list[Job]:
    """Write jobs, registered with their flows, and as many runs of each, all completed.

    Args:
        settings: Of the deployment, whose job store is there.
        job_count: How many jobs.
        run_count: How many runs, over all of them.
        first: Number of the first one; jobs with other numbers, and in other flow files, may be there.
        schedule: Of every job.
        created: When all were made; by default each a minute after the other, the first at `FIRST`. A flow
            that is new to Airflow, and whose job is older than the last time of its schedule, runs at once.
    """
    issuer = DevelopmentIssuer(settings).issuer
    engine = engine_of(settings.database_url)
    made = [
        _job(number, issuer, settings, schedule, created or FIRST + timedelta(minutes=number))
        for number in range(first, first + job_count)
    ]
    with engine.begin() as c:
        c.execute(jobs.insert(), [job_columns(job) | {"source_config": None} for job in made])
        for job in made:
            index_request(c, job)
        take_turn(c)
    per_job = run_count // job_count
    rows = _runs(made, per_job)
    while chunk := [row for _, row in zip(range(CHUNK), rows, strict=False)]:
        with engine.begin() as c:
            c.execute(runs.insert(), chunk)
    with engine.begin() as c:
        c.execute(sa.text("ANALYZE"))
    engine.dispose()
    return made


def announce(settings: Settings) -> None:
    """Give the flows a new version, as a change of any job does."""
    engine = engine_of(settings.database_url)
    with engine.begin() as c:
        take_turn(c)
    engine.dispose()


def _job(number: int, issuer: str, settings: Settings, schedule: str, created: datetime) -> Job:
    mail = owner(number % OWNERS)
    job = Job(
        id=uuid.UUID(int=number + 1),
        owner_id=mail,
        created_by=f"{issuer}|{mail}",
        request=IngestRequest(
            name=f"job {number}",
            source_name=SOURCES[number % len(SOURCES)],
            schema_name=f"schema_{number % 100}",
            mode="append",
            schedule=schedule,
            owner_id=mail,
            tags=(TAGS[number % len(TAGS)],),
        ),
        plan=None,
        public_config={"repositories": ["a/b"], "credentials": {"access_token": "**********"}},
        status=JobStatus.COMPLETED,
        shard=number // JOBS_IN_A_SHARD,
        created_at=created,
        last_started_at=created + timedelta(days=100),
        last_completed_at=created + timedelta(days=100, seconds=30),
    )
    return _registered(job, settings)


def _registered(job: Job, settings: Settings) -> Job:
    return replace(job, flow_hash=flow_spec(job, settings).spec_hash())


def _runs(made: list[Job], per_job: int) -> Iterator[dict[str, Any]]:
    numbers = random.Random(7)
    for job in made:
        for day in range(per_job):
            begun = job.created_at + timedelta(days=day)
            run_id = uuid.UUID(int=numbers.getrandbits(128))
            rows = numbers.randrange(1_000_000)
            report = RunReport(
                streams=tuple(
                    StreamReport(stream=s, table=s, rows_read=rows, rows_written=rows, complete=True)
                    for s in ("users", "orders")
                )
            )
            yield run_columns(
                Run(
                    id=run_id,
                    job_id=job.id,
                    flow_run_id=f"scheduled__{begun.isoformat()}",
                    status=RunStatus.COMPLETED,
                    attempt=1,
                    report=report,
                    created_at=begun,
                    started_at=begun,
                    ended_at=begun + timedelta(seconds=30),
                )
            )
