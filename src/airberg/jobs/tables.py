"""Tables of the job store, the same on SQLite and PostgreSQL.

Values that Airberg owns the shape of (request, plan, report) are JSON in text columns: they are read and
written as a whole, round-trip exactly on both databases, and PostgreSQL's `jsonb` would refuse a NUL that
a connector's catalog may hold. A change here needs a migration in `airberg.jobs.migrations`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

HEAD_REVISION = "0005"
"""The migration that these tables are the result of."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime. SQLite has no time zones and PostgreSQL answers in the session's zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ANN401 - as the base class
        """Refuse naive datetimes: nobody could tell what they mean."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without time zone cannot be stored")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ANN401, ARG002 - as the base class
        """Give back UTC whatever the database answers in."""
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("owner_id", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("plan", Text),
    Column("public_config", Text, nullable=False),
    Column("source_config", LargeBinary),  # sealed; null once the job is deleted
    Column("status", String(16), nullable=False),
    Column("status_message", Text),
    Column("paused", Boolean, nullable=False),
    Column("shard", Integer, nullable=False),
    Column("flow_hash", String(128)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_started_at", UtcDateTime),
    Column("last_completed_at", UtcDateTime),
    Column("last_failed_at", UtcDateTime),
    Column("deleted_at", UtcDateTime),
    Column("version", Integer, nullable=False, server_default="1"),
    Column("source_name", Text, nullable=False, server_default=""),  # of the request, to filter by
    Column("metadata_due", Boolean, nullable=False, server_default=false()),  # of the end of a deleted job
)
PAGES_BY = ("created_at", "id", "status", "source_name", "deleted_at")
"""What a page of jobs is sorted and filtered by: with all of it in an index, it reads no row of a job."""
Index("ix_jobs_page", *(jobs.c[name] for name in PAGES_BY))
Index("ix_jobs_page_of_creator", jobs.c.created_by, *(jobs.c[name] for name in PAGES_BY))
Index("ix_jobs_page_of_owner", jobs.c.owner_id, *(jobs.c[name] for name in PAGES_BY))
Index("ix_jobs_page_of_ids", jobs.c.id, *(jobs.c[name] for name in PAGES_BY if name != "id"))
Index(
    "uq_jobs_owner_id_name_living",
    jobs.c.owner_id,
    jobs.c.name,
    unique=True,
    sqlite_where=text("deleted_at IS NULL"),
    postgresql_where=text("deleted_at IS NULL"),
)
Index(
    "ix_jobs_shard_living",
    jobs.c.shard,
    sqlite_where=text("deleted_at IS NULL"),
    postgresql_where=text("deleted_at IS NULL"),
)

job_tags = Table(
    "job_tags",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id"), primary_key=True),
    Column("tag", Text, primary_key=True),
    Index(None, "tag"),
)
"""Tags of the request of a job, to filter by."""

job_groups = Table(
    "job_groups",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id"), primary_key=True),
    Column("group", Text, primary_key=True),
    Index(None, "group"),
)
"""Groups that the request of a job shares it with, to find it by."""

job_tables = Table(
    "job_tables",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id"), primary_key=True),
    Column("table", Text, primary_key=True),  # dotted, in one case
    Index(None, "table"),
)
"""Tables that the plan of a job fills, to find the jobs of a table by."""

runs = Table(
    "runs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("job_id", Uuid, ForeignKey("jobs.id"), nullable=False),
    Column("flow_run_id", String(250), nullable=False),
    Column("status", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("report", Text, nullable=False),
    Column("error", Text),
    Column("error_code", String(100)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("metadata_due", Boolean, nullable=False, server_default=false()),  # as `Run.metadata_due`
    Column("asked", Text),  # null: nothing special
    UniqueConstraint("job_id", "flow_run_id"),
    Index(None, "job_id", "created_at"),
    Index(None, "ended_at"),
)
Index(
    "ix_runs_open",
    runs.c.created_at,
    sqlite_where=text("status IN ('queued', 'running')"),
    postgresql_where=text("status IN ('queued', 'running')"),
)

Index(
    "ix_runs_metadata_due",
    runs.c.created_at,
    runs.c.id,
    sqlite_where=text("metadata_due"),
    postgresql_where=text("metadata_due"),
)
Index(
    "ix_jobs_metadata_due",
    jobs.c.created_at,
    jobs.c.id,
    sqlite_where=text("metadata_due"),
    postgresql_where=text("metadata_due"),
)

leases = Table(
    "leases",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id"), primary_key=True),
    Column("holder", Text),  # null: given back; the row stays, so that the token never starts again
    Column("token", BigInteger, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)

table_leases = Table(
    "table_leases",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id"), primary_key=True),
    Column("table", Text, primary_key=True),  # its name in the job's namespace
    Column("holder", Text),
    Column("token", BigInteger, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)
"""Leases of tables of a job, for runs whose streams are synced side by side; columns as in `leases`."""

answers = Table(
    "answers",
    metadata,
    Column("caller", Text, primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("body_hash", String(128), nullable=False),
    Column("status", Integer, nullable=False),
    Column("answer", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

flows_due = Table(
    "flows_due",
    metadata,
    Column("job_id", Uuid, ForeignKey("jobs.id"), primary_key=True),
    Column("mark", String(32), nullable=False),  # random, new with each change of the flow
)
"""Jobs whose flow has changed since the orchestrator was last seen to have it."""

flows_state = Table(
    "flows_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # one row, 1
    Column("version", String(32), nullable=False),  # random, new with each change of a flow
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", String(40), nullable=False),
    Column("kind", String(20), nullable=False),  # of what it was done to: job, run, table, service-key
    Column("target", Text, nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("address", String(64), nullable=False),  # of the caller
    Column("detail", Text, nullable=False),  # JSON object
    Index(None, "target", "id"),
    Index(None, "actor", "id"),
)
"""Who did what, when, from where. Triggers of the database refuse every change of a row."""

run_logs = Table(
    "run_logs",
    metadata,
    Column("run_id", Uuid, ForeignKey("runs.id"), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("level", Integer, nullable=False),  # as Python's logging has it
    Column("logger", Text, nullable=False),
    Column("message", Text, nullable=False),
    Index(None, "at"),  # for the removal of old ones
)
"""Lines of the logs of runs, as their attempts wrote them."""

service_keys = Table(
    "service_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("scopes", Text, nullable=False),  # JSON list, sorted
    Column("groups", Text, nullable=False),  # JSON list, sorted
    Column("owner_id", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("last_used_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Index(None, "created_by"),
)
"""Keys that programs send instead of access tokens; of the key itself only a digest is kept."""
