"""`JobTables` of who has the store and the catalog at hand: the worker process, the command line, tests."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pyiceberg.catalog import Catalog

from airberg.errors import Conflict, LeaseHeld, NotFound, RunError
from airberg.jobs.audit import Act
from airberg.jobs.model import Job
from airberg.jobs.port import JobStore
from airberg.lake.note import Sealer
from airberg.lake.rewind import rewind
from airberg.lake.tables import find_table
from airberg.plan.model import JobPlan
from airberg.settings import Settings
from airberg.sync.given_states import check_states, find_streams
from airberg.sync.job_tables import JobState, Rewind, ShownTable
from airberg.sync.lease import LeaseKeeper
from airberg.sync.rewind import plan_rewind, refuse_losses
from airberg.sync.shown_table import shown_table
from airberg.sync.states import change, refuse_unfinished, shown, standings, to_set
from airberg.worker_process import as_error, as_failure


@dataclass(frozen=True, slots=True)
class JobTablesHere:
    """See `airberg.sync.job_tables.JobTables`."""

    settings: Settings
    store: JobStore
    catalog: Catalog
    sealer: Sealer

    def state(self, job_id: UUID) -> JobState:
        """See `JobTables.state`."""
        with _as_answers():
            job = self.store.job(job_id)
            if job.plan is None:
                return JobState()
            return shown(job_id, job.plan, standings(self.catalog, job_id, job.plan))

    def set_state(self, job_id: UUID, states: Sequence[Any], *, act: Act | None) -> JobState:
        """See `JobTables.set_state`."""
        job, plan = self._planned(job_id)
        given = check_states(states, plan)
        with _as_answers(), self._still(job) as keeper:
            found = standings(self.catalog, job_id, plan)
            wanted = to_set(job_id, plan, given, found, self.sealer)
            self._record(act)
            change(self.catalog, job_id, plan, found, wanted, sealer=self.sealer, guard=keeper.check)
        return self.state(job_id)

    def delete_state(self, job_id: UUID, streams: Sequence[str] | None, *, act: Act | None) -> JobState:
        """See `JobTables.delete_state`."""
        job, plan = self._planned(job_id)
        chosen = (
            [stream for stream in plan.streams if stream.sync_mode == "incremental"]
            if streams is None
            else find_streams(plan, streams)
        )
        with _as_answers(), self._still(job) as keeper:
            found = standings(self.catalog, job_id, plan)
            if streams is not None:
                refuse_unfinished(found)
            self._record(act)
            gone = dict.fromkeys(stream.table for stream in chosen)
            change(self.catalog, job_id, plan, found, gone, sealer=self.sealer, guard=keeper.check)
        return self.state(job_id)

    def rewind(self, job_id: UUID, run_id: UUID, *, force: bool, dry_run: bool, act: Act | None) -> Rewind:
        """See `JobTables.rewind`."""
        job = self.store.job(job_id)
        run = self.store.run(run_id)
        if run.job_id != job_id:
            raise NotFound(
                f"The job has no run {run_id}.", guidance="GET /api/jobs/{id}/runs lists its runs."
            )
        with _as_answers():
            if dry_run:
                plan = plan_rewind(self.store, self.catalog, job, run, force=force)
                return Rewind(run_id=run_id, flow_run_id=run.flow_run_id, done=False, tables=plan.shown)
            with self._still(job) as keeper:
                plan = plan_rewind(self.store, self.catalog, job, run, force=force)
                self._record(act)
                rewind(
                    self.catalog,
                    str(job_id),
                    plan.returns,
                    sealer=self.sealer,
                    guard=keeper.check,
                    foreign=lambda table, to: refuse_losses(job_id, table, to, force=force),
                )
        return Rewind(run_id=run_id, flow_run_id=run.flow_run_id, done=True, tables=plan.shown)

    def table(self, schema: str, name: str, *, snapshots: int, preview: int) -> ShownTable:
        """See `JobTables.table`."""
        with _as_answers():
            found = find_table(self.catalog, tuple(schema.split(".")), name)
            if found is None:
                raise NotFound(f"There is no table {schema}.{name}.", guidance="No run has made it yet.")
            return shown_table(found, snapshots=snapshots, preview=preview)

    def _planned(self, job_id: UUID) -> tuple[Job, JobPlan]:
        job = self.store.job(job_id)
        if job.plan is None:
            raise Conflict(
                "The job has no plan yet, so it is not known which streams it reads.",
                guidance="Let the job run once.",
                code="no-table-yet",
            )
        return job, job.plan

    @contextlib.contextmanager
    def _still(self, job: Job) -> Iterator[LeaseKeeper]:
        """Hold the job's lease, so that no run begins; nobody waits for one that is at work."""
        seconds = self.settings.sync.lease_seconds
        holder = f"service@{socket.gethostname()}:{os.getpid()}"
        try:
            lease = self.store.acquire_lease(job.id, holder, seconds)
            with LeaseKeeper(self.store, lease, seconds) as keeper:
                yield keeper
        except LeaseHeld:
            raise Conflict(
                "A run of the job is at work.",
                guidance="Wait for its end, or cancel it: POST /api/runs/{id}/cancel.",
                code="job-running",
            ) from None

    def _record(self, act: Act | None) -> None:
        if act is not None:
            self.store.audit.add(act)


@contextlib.contextmanager
def _as_answers() -> Iterator[None]:
    """What would end a run is here a part that does not answer, as `as_error` says."""
    try:
        yield
    except RunError as error:
        raise as_error(as_failure(error)) from None
