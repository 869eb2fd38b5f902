"""Jobs compared with DataHub: what their newest runs would tell it, against what it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airberg.errors import ConfigurationFailed
from airberg.governance.differences import Difference, differences
from airberg.governance.later import LOOKED_AT, later_runs
from airberg.governance.register import run_proposals
from airberg.jobs.model import RunReport, RunStatus

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

    from airberg.governance.connection import Connection
    from airberg.jobs.model import Job, Run
    from airberg.jobs.port import JobStore
    from airberg.settings import Settings

OF_FLOWS = frozenset({"dataFlow", "dataJob", "dataProcessInstance"})


@dataclass(frozen=True, slots=True)
class Compared:
    """One run whose word on its tables is the last.

    Attributes:
        job: The job.
        run: The run.
        found: What differs, and what of people's is kept.
    """

    job: Job
    run: Run
    found: tuple[Difference, ...]


def compare(
    store: JobStore,
    jobs: Sequence[Job],
    catalog: Catalog,
    settings: Settings,
    datahub: Connection,
    *,
    table: str | None = None,
) -> Iterator[Compared]:
    """Compare the tables of jobs, each by the newest run that loaded it.

    Args:
        store: The job store.
        jobs: Which jobs.
        catalog: Where their tables are.
        settings: Environment and platform instance of the urns.
        datahub: What is asked.
        table: Only this one, by its dotted name; entities of flows and runs are then left out.

    Raises:
        ConfigurationFailed: None of the jobs has loaded that table.
        Unavailable: DataHub does not answer.
    """
    asked = False
    for job in jobs:
        for run, is_whole in _newest(store, job, table):
            asked = True
            proposals = list(run_proposals(job, run, catalog, settings, later_runs(store, job, run)))
            if not is_whole:  # what it is to say of the flow names its other tables too
                proposals = [p for p in proposals if p.entityType not in OF_FLOWS]
            yield Compared(job, run, tuple(differences(proposals, datahub.read)))
    if table is not None and not asked:
        raise ConfigurationFailed(
            f"No job has loaded the table {table}.",
            guidance="Name it as <schema>.<table>; GET /api/jobs shows the tables of jobs.",
            code="no-run",
        )


def _newest(store: JobStore, job: Job, table: str | None) -> Iterator[tuple[Run, bool]]:
    """Runs of a job by which its tables were loaded last, newest first, each with those tables only.

    With each goes whether these are all its tables.
    """
    if job.plan is None:
        return
    left = {name for name in job.plan.table_names if table is None or name == table.casefold()}
    for run in store.runs(job.id, limit=LOOKED_AT, status=RunStatus.COMPLETED):
        streams = tuple(
            s for s in run.report.streams if ".".join((*job.plan.namespace, s.table)).casefold() in left
        )
        left -= {".".join((*job.plan.namespace, s.table)).casefold() for s in streams}
        if streams:
            yield replace(run, report=RunReport(streams=streams)), streams == run.report.streams
        if not left:
            return
