"""Runs that DataHub was not told of are registered once it is there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Literal, TypeAlias
from uuid import UUID

import msgspec

from airberg.errors import AirbergError, ConfigurationFailed
from airberg.governance.connection import NotTaken
from airberg.governance.later import LaterRuns, later_runs
from airberg.governance.register import register_run
from airberg.jobs.finding import Place
from airberg.jobs.model import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyiceberg.catalog import Catalog

    from airberg.governance.port import MetadataSink
    from airberg.jobs.model import Job, Run
    from airberg.jobs.port import JobStore
    from airberg.settings import Settings

log = logging.getLogger(__name__)

PAGE = 100

Outcome: TypeAlias = Literal["sent", "history", "failed", "away"]
"""All of it was sent; only what the run did, as later runs tell the rest; it was not taken; DataHub is not
there, or takes nothing now, so that nothing more is tried."""

Send: TypeAlias = "Callable[[Job, Run, LaterRuns], str]"


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of one run.

    Attributes:
        run: The run.
        outcome: What became of it.
        words: Where it was sent, or why not; for people.
    """

    run: Run
    outcome: Outcome
    words: str


def due_runs(
    store: JobStore, *, job_id: UUID | None = None, run_id: UUID | None = None, since: datetime | None = None
) -> Iterator[Run]:
    """Runs that DataHub was not told of, oldest first, each once; a run that is named in any case.

    Raises:
        NotFound: There is no such job or run.
        ConfigurationFailed: The run that is named has not completed, or is of another job.
    """
    if job_id is not None:
        store.job(job_id)
    if run_id is not None:
        run = store.run(run_id)
        if job_id not in (None, run.job_id) or run.status is not RunStatus.COMPLETED:
            raise ConfigurationFailed(
                f"The run {run_id} is no completed run of the job.",
                guidance="Name a completed run; `airberg runs list` shows them.",
                code="no-run",
            )
        yield run
        return
    after: Place | None = None
    for _ in count():
        page = store.metadata_due.runs(job_id=job_id, since=since, after=after, limit=PAGE)
        if not page:
            return
        yield from page
        after = Place.of(page[-1])


def replay(store: JobStore, runs: Iterator[Run], send: Send) -> Iterator[Replayed]:
    """Send runs in this order, and note on each what became of it.

    One that DataHub refuses stays due, and the next is tried. When DataHub does not answer, or does not want
    to be asked now, all that follow stay due too.
    """
    for run in runs:
        job = store.job(run.job_id)
        later = later_runs(store, job, run)
        try:
            where = send(job, run, later)
        except AirbergError as error:
            words = error.sentence()
            _note(store, run, metadata=run.report.metadata, metadata_error=words)
            cause = error if isinstance(error, NotTaken) else error.__cause__
            away = isinstance(cause, NotTaken) and not cause.is_refusal
            yield Replayed(run, "away" if away else "failed", words)
            if away:
                return
        else:
            _note(store, run, metadata=where, metadata_error=None)
            yield Replayed(run, "history" if later.flow or later.tables else "sent", where)


def _note(store: JobStore, run: Run, *, metadata: str | None, metadata_error: str | None) -> None:
    """On the report as it is now: a task may have written to it since."""
    report = store.run(run.id).report
    store.report_run(
        run.id, msgspec.structs.replace(report, metadata=metadata, metadata_error=metadata_error)
    )


def from_tables(catalog: Catalog, settings: Settings, sink: MetadataSink) -> Send:
    """Makes the proposals anew, of the tables as they are now."""

    def send(job: Job, run: Run, later: LaterRuns) -> str:
        return register_run(job, run, catalog, settings, sink, later)

    return send
