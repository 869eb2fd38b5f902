"""The ends of jobs, told to DataHub: flow and task are removed softly, tables stay and say so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING
from uuid import UUID

from airberg.errors import AirbergError
from airberg.governance.connection import NotTaken

if TYPE_CHECKING:
    from airberg.governance.datahub_settings import DataHubSettings
    from airberg.governance.port import MetadataSink, Proposal
    from airberg.jobs.model import Job
    from airberg.jobs.port import JobStore

AT_ONCE = 100
LOOKED_AT = 200
"""Newest runs of a deleted job by which it is known which tables DataHub was told of."""
DELETED_PROPERTY = "airberg.job-deleted-at"
"""Of a dataset whose last job is gone. The next job that loads the table replaces all properties, and thereby
removes it."""


@dataclass(frozen=True, slots=True)
class Retired:
    """What became of the end of one job.

    Attributes:
        job: The job.
        error: Why DataHub was not told, or None.
        away: It does not answer, so that no other job is tried.
    """

    job: Job
    error: str | None = None
    away: bool = False


def tell_deleted_jobs(
    store: JobStore,
    datahub: DataHubSettings,
    sink: MetadataSink,
    *,
    job_id: UUID | None = None,
    limit: int = AT_ONCE,
) -> Iterator[Retired]:
    """Tell of deleted jobs that DataHub was not told of. What is not taken stays due.

    Of those whose runs it does not know there is nothing to tell. Those whose flow is still there wait: a
    task `register` of it that is at work would tell the contrary.
    """
    for job in deleted_jobs(store, job_id=job_id, limit=limit):
        tables = _told_tables(store, job)
        if tables is not None:
            try:
                sink.send(job.id, job.id, retirement(job, datahub, _orphans(store, job, tables)))
            except AirbergError as error:
                away = isinstance(error, NotTaken) and not error.is_refusal
                yield Retired(job, error.sentence(), away)
                if away:
                    return
                continue
        store.metadata_due.job_told(job.id)
        yield Retired(job)


def deleted_jobs(store: JobStore, *, job_id: UUID | None = None, limit: int = AT_ONCE) -> list[Job]:
    """Deleted jobs that DataHub can be told of now: those whose flow is withdrawn."""
    return [
        job for job in store.metadata_due.deleted_jobs(job_id=job_id, limit=limit) if job.flow_hash is None
    ]


def retirement(job: Job, settings: DataHubSettings, tables: tuple[tuple[str, ...], ...]) -> list[Proposal]:
    """Proposals for a deleted job.

    The task's edges to tables go, so that no lineage leads through it. Lineage from the source to the tables
    stays: that is where their rows are from.

    Args:
        job: The job.
        settings: Environment and platform instance of the tables' urns.
        tables: Namespace and name of tables that no other job fills.
    """
    import datahub.emitter.mce_builder as builder
    import datahub.metadata.schema_classes as aspects
    from datahub.specific.dataset import DatasetPatchBuilder

    from airberg.governance.entities import PLATFORM, upserts
    from airberg.governance.runs import SYNC_TASK, flow_urn

    flow = flow_urn(job, settings)
    task = str(builder.make_data_job_urn_with_flow(flow, SYNC_TASK))
    removed = aspects.StatusClass(removed=True)
    edges = aspects.DataJobInputOutputClass(inputDatasets=[], outputDatasets=[])
    out = [*upserts(flow, removed), *upserts(task, removed, edges)]
    if job.deleted_at is None:
        return out
    at = job.deleted_at.astimezone(UTC).isoformat(timespec="seconds")
    for table in tables:
        urn = builder.make_dataset_urn_with_platform_instance(
            PLATFORM, ".".join(table), settings.platform_instance, settings.env.upper()
        )
        out += DatasetPatchBuilder(str(urn)).add_custom_property(DELETED_PROPERTY, at).build()
    return out


def _told_tables(store: JobStore, job: Job) -> tuple[str, ...] | None:
    """Names of the job's tables that DataHub was told of; None when it was told of none of its runs."""
    sent = [run for run in store.runs(job.id, limit=LOOKED_AT) if run.report.metadata_sent]
    if not sent:
        return None
    return tuple(sorted({stream.table for run in sent for stream in run.report.streams}))


def _orphans(store: JobStore, job: Job, tables: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Those of the tables that no living job fills."""
    if job.plan is None:
        return ()
    whole = [(*job.plan.namespace, table) for table in tables]
    return tuple(table for table in whole if not store.jobs_filling([".".join(table).casefold()]))
