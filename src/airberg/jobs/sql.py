"""The job store on SQLite and PostgreSQL.

Each method is one transaction. On SQLite it holds the write lock from its beginning; on PostgreSQL rows
that are read to be changed are locked (`FOR UPDATE`), always the job before its runs, so that two
transactions cannot wait for each other. `flows_state` has one row: whoever changes flows updates it first
and thereby waits for its turn, which makes names and shards race-free.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from airberg.identity.service_keys import ServiceKeys
from airberg.jobs import sql_answers, sql_flows, sql_leases
from airberg.jobs.audit import Act, AuditLog, SqlAuditLog, record
from airberg.jobs.changes import JobChange, changed, changed_meanwhile, require_version
from airberg.jobs.encoding import (
    decode_free,
    encode_free,
    encode_struct,
    job_columns,
    job_of,
    run_columns,
    run_of,
    storable_text,
)
from airberg.jobs.engine import Transactions
from airberg.jobs.finding import JobFilter, ListedJob, Place
from airberg.jobs.lifecycle import (
    Ending,
    ended,
    free_shard,
    name_taken,
    new_run,
    no_job,
    no_run,
    require_living,
    started,
    with_connector,
    with_schedule,
)
from airberg.jobs.metadata_due import MetadataDue, SqlMetadataDue
from airberg.jobs.model import (
    DueFlow,
    FlowJob,
    Job,
    JobStatus,
    Lease,
    Run,
    RunReport,
    RunRequest,
    RunStatus,
    StoredAnswer,
)
from airberg.jobs.run_logs import RunLogs, SqlRunLogs
from airberg.jobs.run_parts import RunParts, SqlRunParts
from airberg.jobs.sql_finding import JOB_VALUES, has_newer_run, page_of_jobs, page_of_runs
from airberg.jobs.sql_index import index_plan, index_request
from airberg.jobs.sql_rows import find_run_in, set_job, set_outcome, set_run, stored_job, stored_run
from airberg.jobs.sql_service_keys import SqlServiceKeys
from airberg.jobs.tables import flows_state, job_tables, jobs, runs
from airberg.jobs.totals import SqlTotals, TotalsReader
from airberg.keys.seal import Sealer
from airberg.plan.model import JobPlan, encode_plan
from airberg.sources.entry import ConnectorEntry

CHANGED_BY_PEOPLE = (
    "name",
    "owner_id",
    "request",
    "plan",
    "public_config",
    "paused",
    "version",
    "source_name",
)
"""Columns of a job that an update writes; the others are the orchestrator's and the runs'."""


def config_context(job_id: UUID) -> dict[str, str]:
    """Binds a sealed configuration to its job: moved to another row, it does not open."""
    return {"job": str(job_id), "field": "source_config"}


class SqlJobStore:
    """Implements `airberg.jobs.port.JobStore`. The schema must be there: `airberg.jobs.migrate.upgrade`."""

    def __init__(self, engine: Engine, sealer: Sealer) -> None:
        self._engine = engine
        self._transactions = Transactions(engine)
        self.sealer = sealer
        """What seals configurations, and the states of the jobs' connectors."""
        self.audit: AuditLog = SqlAuditLog(engine)
        """See `JobStore.audit`."""
        self.totals: TotalsReader = SqlTotals(engine)
        """See `JobStore.totals`."""
        self.service_keys: ServiceKeys = SqlServiceKeys(engine)
        """See `JobStore.service_keys`."""
        self.run_logs: RunLogs = SqlRunLogs(engine)
        """See `JobStore.run_logs`."""
        self.metadata_due: MetadataDue = SqlMetadataDue(engine)
        """See `JobStore.metadata_due`."""
        self.run_parts: RunParts = SqlRunParts(engine)
        """See `JobStore.run_parts`."""

    # ---- jobs --------------------------------------------------------------------------------------------

    def add_job(
        self,
        job: Job,
        source_config: dict[str, object],
        run: Run | None = None,
        *,
        act: Act | None = None,
        answer: StoredAnswer | None = None,
    ) -> Job:
        """See `JobStore.add_job`."""
        sealed = self._seal(job.id, source_config)
        with self._transactions.write() as c:
            sql_flows.take_turn(c)
            if answer is not None:
                sql_answers.store(c, answer)
            taken = c.execute(_named(job.owner_id, job.request.name, jobs.c.id)).scalar()
            if taken is not None:
                raise name_taken(job.request.name, taken)
            living = sa.select(jobs.c.shard, sa.func.count().label("jobs")).where(jobs.c.deleted_at.is_(None))
            counts = {row.shard: row.jobs for row in c.execute(living.group_by(jobs.c.shard))}
            values = job_columns(job) | {"shard": free_shard(counts), "source_config": sealed}
            c.execute(jobs.insert().values(values))
            index_request(c, job)
            index_plan(c, job.id, job.plan)
            sql_flows.note_due(c, job.id)
            if run is not None:
                c.execute(runs.insert().values(run_columns(run)))
            record(c, act)
            return stored_job(c, job.id)

    def job(self, job_id: UUID) -> Job:
        """See `JobStore.job`."""
        with self._transactions.read() as c:
            return stored_job(c, job_id)

    def find_job(self, owner_id: str, name: str) -> Job | None:
        """See `JobStore.find_job`."""
        with self._transactions.read() as c:
            row = c.execute(_named(owner_id, name, *JOB_VALUES)).mappings().first()
            return None if row is None else job_of(row)

    def jobs(
        self, *, created_by: str | None = None, include_deleted: bool = False, limit: int | None = None
    ) -> Sequence[Job]:
        """See `JobStore.jobs`."""
        query = sa.select(*JOB_VALUES).order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit)
        if created_by is not None:
            query = query.where(jobs.c.created_by == created_by)
        if not include_deleted:
            query = query.where(jobs.c.deleted_at.is_(None))
        with self._transactions.read() as c:
            return [job_of(row) for row in c.execute(query).mappings()]

    def page(self, wanted: JobFilter, *, after: Place | None = None, limit: int = 100) -> Sequence[ListedJob]:
        """See `JobStore.page`."""
        with self._transactions.read() as c:
            return page_of_jobs(c, wanted, after, limit)

    def jobs_filling(self, tables: Collection[str]) -> Sequence[Job]:
        """See `JobStore.jobs_filling`."""
        filling = sa.select(job_tables.c.job_id).where(job_tables.c.table.in_(list(tables)))
        query = sa.select(*JOB_VALUES).where(jobs.c.id.in_(filling), jobs.c.deleted_at.is_(None))
        with self._transactions.read() as c:
            found = c.execute(query.order_by(jobs.c.created_at, jobs.c.id)).mappings()
            return [job_of(row) for row in found]

    def source_config(self, job_id: UUID) -> dict[str, object]:
        """See `JobStore.source_config`."""
        with self._transactions.read() as c:
            return self._config(c, job_id)

    def _config(self, c: Connection, job_id: UUID) -> dict[str, object]:
        sealed = c.execute(sa.select(jobs.c.source_config).where(jobs.c.id == job_id)).scalar()
        if sealed is None:  # no such job, or deleted and forgotten
            raise no_job(job_id)
        return decode_free(self.sealer.open(bytes(sealed), config_context(job_id)))

    def _seal(self, job_id: UUID, source_config: dict[str, object]) -> bytes:
        return self.sealer.seal(encode_free(source_config).encode(), config_context(job_id))

    def replace_source_config(
        self,
        job_id: UUID,
        source_config: dict[str, object],
        public: dict[str, object],
        *,
        instead_of: dict[str, object] | None = None,
    ) -> bool:
        """See `JobStore.replace_source_config`. Raises NotFound for a deleted job."""
        values = {"source_config": self._seal(job_id, source_config), "public_config": encode_free(public)}
        with self._transactions.write() as c:
            require_living(stored_job(c, job_id, lock=True))
            if instead_of is not None and self._config(c, job_id) != instead_of:
                return False
            set_job(c, job_id, values)
            return True

    def update(self, job_id: UUID, change: JobChange, *, act: Act | None = None) -> Job:
        """See `JobStore.update`."""
        sealed = {"source_config": self._seal(job_id, change.config.config)} if change.config else {}
        with self._transactions.write() as c:
            sql_flows.take_turn(c)
            job = changed(stored_job(c, job_id, lock=True), change)
            if change.config and self._config(c, job_id) != change.config.instead_of:
                raise changed_meanwhile(job_id)
            taken = c.execute(_named(job.owner_id, job.request.name, jobs.c.id)).scalar()
            if taken not in (None, job_id):
                raise name_taken(job.request.name, taken)
            values = job_columns(job)
            set_job(c, job_id, {name: values[name] for name in CHANGED_BY_PEOPLE} | sealed)
            index_request(c, job)
            index_plan(c, job_id, job.plan)
            sql_flows.note_due(c, job_id)
            record(c, act)
            return job

    def set_schedule(
        self, job_id: UUID, schedule: str | None, timezone: str, *, act: Act | None = None
    ) -> Job:
        """See `JobStore.set_schedule`. Raises NotFound for a deleted job."""
        with self._transactions.write() as c:
            sql_flows.take_turn(c)
            job = with_schedule(require_living(stored_job(c, job_id, lock=True)), schedule, timezone)
            set_job(c, job_id, {"request": encode_struct(job.request), "version": job.version})
            sql_flows.note_due(c, job_id)
            record(c, act)
            return job

    def set_paused(self, job_id: UUID, paused: bool, *, act: Act | None = None) -> Job:
        """See `JobStore.set_paused`. Raises NotFound for a deleted job."""
        with self._transactions.write() as c:
            sql_flows.take_turn(c)
            job = require_living(stored_job(c, job_id, lock=True))
            set_job(c, job_id, {"paused": paused, "version": job.version + 1})
            sql_flows.note_due(c, job_id)
            record(c, act)
            return stored_job(c, job_id)

    def set_plan(self, job_id: UUID, plan: JobPlan, *, version: int | None = None) -> bool:
        """See `JobStore.set_plan`. Raises NotFound."""
        with self._transactions.write() as c:
            if version not in (None, stored_job(c, job_id, lock=True).version):
                return False
            set_job(c, job_id, {"plan": encode_plan(plan)})
            index_plan(c, job_id, plan)
            return True

    def set_connector(
        self, job_id: UUID, connector: ConnectorEntry, plan: JobPlan | None, *, version: int | None = None
    ) -> Job:
        """See `JobStore.set_connector`. Raises NotFound for a deleted job."""
        with self._transactions.write() as c:
            job = require_version(require_living(stored_job(c, job_id, lock=True)), version)
            job = with_connector(job, connector, plan)
            values = job_columns(job)
            set_job(c, job_id, {name: values[name] for name in ("request", "plan", "version")})
            index_plan(c, job_id, job.plan)
            return job

    def flow_jobs(self, *, to_withdraw: bool = False) -> Sequence[FlowJob]:
        """See `JobStore.flow_jobs`."""
        with self._transactions.read() as c:
            return sql_flows.all_jobs(c, to_withdraw)

    def flow_beside(self, job_id: UUID) -> UUID | None:
        """See `JobStore.flow_beside`."""
        with self._transactions.read() as c:
            return sql_flows.beside(c, job_id)

    def flows_due(self) -> Sequence[DueFlow]:
        """See `JobStore.flows_due`."""
        with self._transactions.read() as c:
            return sql_flows.due(c)

    def flow_followed(self, due: DueFlow) -> None:
        """See `JobStore.flow_followed`."""
        with self._transactions.write() as c:
            sql_flows.followed(c, due)

    def set_flow_hash(self, job_id: UUID, flow_hash: str | None) -> None:
        """See `JobStore.set_flow_hash`. Raises NotFound."""
        with self._transactions.write() as c:
            set_job(c, job_id, {"flow_hash": flow_hash})

    def set_job_status(self, job_id: UUID, status: JobStatus, message: str | None) -> None:
        """See `JobStore.set_job_status`. Raises NotFound."""
        with self._transactions.write() as c:
            set_job(c, job_id, {"status": status.value, "status_message": storable_text(message)})

    def delete_job(
        self, job_id: UUID, at: datetime, *, version: int | None = None, act: Act | None = None
    ) -> Job:
        """See `JobStore.delete_job`. Deleting twice changes nothing. Raises NotFound."""
        with self._transactions.write() as c:
            sql_flows.take_turn(c)
            job = stored_job(c, job_id, lock=True)
            if job.deleted_at is not None:
                return job
            require_version(job, version)
            gone = {
                "deleted_at": at,
                "source_config": None,
                "version": job.version + 1,
                "metadata_due": True,
            }
            set_job(c, job_id, gone)
            sql_flows.note_due(c, job_id)
            record(c, act)
            return stored_job(c, job_id)

    # ---- runs --------------------------------------------------------------------------------------------

    def add_run(self, run: Run, *, act: Act | None = None) -> Run:
        """See `JobStore.add_run`. Raises NotFound for a job that is unknown or deleted."""
        with self._transactions.write() as c:
            require_living(stored_job(c, run.job_id, lock=True))
            known = find_run_in(c, run.job_id, run.flow_run_id)
            if known is None:
                c.execute(runs.insert().values(run_columns(run)))
                record(c, act)
            return known or run

    def run(self, run_id: UUID) -> Run:
        """See `JobStore.run`."""
        with self._transactions.read() as c:
            return stored_run(c, run_id)

    def find_run(self, job_id: UUID, flow_run_id: str) -> Run | None:
        """See `JobStore.find_run`."""
        with self._transactions.read() as c:
            return find_run_in(c, job_id, flow_run_id)

    def runs(
        self, job_id: UUID, *, limit: int = 50, before: Place | None = None, status: RunStatus | None = None
    ) -> Sequence[Run]:
        """See `JobStore.runs`."""
        with self._transactions.read() as c:
            return page_of_runs(c, job_id, before, limit, status)

    def open_runs(self) -> Sequence[Run]:
        """See `JobStore.open_runs`. Oldest first."""
        still_open = (
            sa.select(runs)
            .join(jobs, jobs.c.id == runs.c.job_id)
            # literal text: a bound parameter would keep the databases from using the partial index
            .where(sa.text("runs.status IN ('queued', 'running')"), jobs.c.deleted_at.is_(None))
            .order_by(runs.c.created_at, runs.c.id)
        )
        with self._transactions.read() as c:
            return [run_of(row) for row in c.execute(still_open).mappings()]

    def start_run(
        self,
        job_id: UUID,
        flow_run_id: str,
        attempt: int,
        at: datetime,
        *,
        asked: RunRequest | None = None,
    ) -> Run:
        """See `JobStore.start_run`. Raises NotFound for a job that is unknown or deleted."""
        with self._transactions.write() as c:
            job = stored_job(c, job_id, lock=True)
            known = find_run_in(c, job_id, flow_run_id)
            job, run = started(job, known or new_run(job_id, flow_run_id, at, asked), attempt, at)
            if known is None:
                c.execute(runs.insert().values(run_columns(run)))
            else:
                set_run(c, run)
            set_outcome(c, job)
            return run

    def report_run(self, run_id: UUID, report: RunReport) -> None:
        """See `JobStore.report_run`. Raises NotFound."""
        with self._transactions.write() as c:
            # What is due goes with the status, which is changed under the job's lock and not here.
            due = sa.false() if report.metadata_sent else runs.c.status == RunStatus.COMPLETED.value
            values = {"report": encode_struct(report), "metadata_due": due}
            if c.execute(runs.update().where(runs.c.id == run_id).values(values)).rowcount == 0:
                raise no_run(run_id)

    def end_run(
        self,
        run_id: UUID,
        status: RunStatus,
        at: datetime,
        *,
        error: str | None = None,
        error_code: str | None = None,
        report: RunReport | None = None,
    ) -> Run:
        """See `JobStore.end_run`. Raises NotFound."""
        ending = Ending(status=status, at=at, error=error, error_code=error_code, report=report)
        with self._transactions.write() as c:
            job = stored_job(c, stored_run(c, run_id).job_id, lock=True)
            run = stored_run(c, run_id)  # again, now that nobody else can change it
            job, run = ended(job, run, ending, newest=not has_newer_run(c, run))
            set_run(c, run)
            set_outcome(c, job)
            return run

    # ---- leases ------------------------------------------------------------------------------------------

    def acquire_lease(
        self, job_id: UUID, holder: str, seconds: float, *, tables: Collection[str] = ()
    ) -> Lease:
        """See `JobStore.acquire_lease`. Raises NotFound for an unknown job."""
        with self._transactions.write() as c:
            if c.execute(sa.select(jobs.c.id).where(jobs.c.id == job_id)).first() is None:
                raise no_job(job_id)
            return sql_leases.acquire(c, job_id, holder, seconds, tables)

    def renew_lease(self, lease: Lease, seconds: float) -> Lease:
        """See `JobStore.renew_lease`."""
        with self._transactions.write() as c:
            return sql_leases.renew(c, lease, seconds)

    def release_lease(self, lease: Lease) -> None:
        """See `JobStore.release_lease`."""
        with self._transactions.write() as c:
            sql_leases.release(c, lease)

    def lease(self, job_id: UUID, *, tables: Collection[str] = ()) -> Lease | None:
        """See `JobStore.lease`."""
        with self._transactions.read() as c:
            return sql_leases.current(c, job_id, tables)

    # ---- answers and flows -------------------------------------------------------------------------------

    def stored_answer(self, caller: str, key: str) -> StoredAnswer | None:
        """See `JobStore.stored_answer`."""
        with self._transactions.read() as c:
            return sql_answers.stored(c, caller, key)

    def flows_version(self) -> str:
        """See `JobStore.flows_version`. One row is read."""
        with self._transactions.read() as c:
            return str(c.execute(sa.select(flows_state.c.version)).scalar_one())

    def close(self) -> None:
        """See `JobStore.close`."""
        self._engine.dispose()


# ---- rows ------------------------------------------------------------------------------------------------


def _named(owner_id: str, name: str, *columns: sa.Column[Any]) -> sa.Select[Any]:
    return sa.select(*columns).where(
        jobs.c.owner_id == owner_id, jobs.c.name == name, jobs.c.deleted_at.is_(None)
    )
