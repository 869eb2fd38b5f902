"""Jobs for many people: versions, filters, sharing; the audit log, logs of runs, keys of services."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import context, op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

PAGES_BY = ("created_at", "id", "status", "source_name", "deleted_at")
FILL_SOURCE = {
    "sqlite": "UPDATE jobs SET source_name = coalesce(json_extract(request, '$.source_name'), '')",
    "postgresql": "UPDATE jobs SET source_name = coalesce(CAST(request AS json) ->> 'source_name', '')",
}
SQLITE_REFUSES = (
    "CREATE TRIGGER audit_log_no_{change} BEFORE {change} ON audit_log"
    " BEGIN SELECT RAISE(ABORT, 'the audit log is only ever added to'); END"
)
POSTGRESQL_FUNCTION = (
    "CREATE FUNCTION audit_log_refuse() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN RAISE EXCEPTION ''the audit log is only ever added to''; END'"
)
POSTGRESQL_REFUSES = (
    "CREATE TRIGGER audit_log_no_change BEFORE UPDATE OR DELETE ON audit_log"
    " FOR EACH ROW EXECUTE FUNCTION audit_log_refuse()"
)
REFUSE = {
    "sqlite": tuple(SQLITE_REFUSES.format(change=change) for change in ("UPDATE", "DELETE")),
    "postgresql": (POSTGRESQL_FUNCTION, POSTGRESQL_REFUSES),
}
"""A statement each. Who may write elsewhere cannot change what happened."""


def upgrade() -> None:
    """Add columns to jobs and create the new tables."""
    dialect = op.get_context().dialect.name
    op.add_column("jobs", sa.Column("version", sa.Integer, nullable=False, server_default="1"))
    op.add_column("jobs", sa.Column("source_name", sa.Text, nullable=False, server_default=""))
    op.drop_index("ix_jobs_created_by_created_at", "jobs")
    op.drop_index("ix_jobs_created_at", "jobs")
    for name, first in (("", ()), ("_of_creator", ("created_by",)), ("_of_owner", ("owner_id",))):
        op.create_index(f"ix_jobs_page{name}", "jobs", [*first, *PAGES_BY])
    op.create_index("ix_jobs_page_of_ids", "jobs", ["id", *(name for name in PAGES_BY if name != "id")])
    op.create_index("ix_runs_ended_at", "runs", ["ended_at"])
    _what_jobs_are_found_by()
    op.create_table(
        "flows_due",
        sa.Column("job_id", sa.Uuid, sa.ForeignKey("jobs.id", name="fk_flows_due_job_id"), nullable=False),
        sa.Column("mark", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_flows_due"),
    )
    _audit_log()
    _run_logs()
    _service_keys()
    op.execute(FILL_SOURCE[dialect])
    for statement in REFUSE[dialect]:
        op.execute(statement)
    if not context.is_offline_mode():  # a script for people makes an empty database
        _fill_indexes()


def _what_jobs_are_found_by() -> None:
    for table, column in (("job_tags", "tag"), ("job_groups", "group"), ("job_tables", "table")):
        op.create_table(
            table,
            sa.Column("job_id", sa.Uuid, sa.ForeignKey("jobs.id", name=f"fk_{table}_job_id"), nullable=False),
            sa.Column(column, sa.Text, nullable=False),
            sa.PrimaryKeyConstraint("job_id", column, name=f"pk_{table}"),
        )
        op.create_index(f"ix_{table}_{column}", table, [column])


def _fill_indexes() -> None:
    connection = op.get_bind()
    texts = ("request", "plan")
    jobs = sa.table("jobs", sa.column("id", sa.Uuid), *(sa.column(n, sa.Text) for n in texts))
    for job_id, request, plan in connection.execute(sa.select(jobs.c.id, jobs.c.request, jobs.c.plan)).all():
        found = {"tag": set(json.loads(request).get("tags") or ()), "table": _tables_of(plan)}
        for column, values in found.items():
            table = sa.table(f"job_{column}s", sa.column("job_id", sa.Uuid), sa.column(column, sa.Text))
            if values:
                rows = [{"job_id": job_id, column: value} for value in sorted(values)]
                connection.execute(table.insert(), rows)


def _tables_of(plan: str | None) -> set[str]:
    if plan is None:
        return set()
    value = json.loads(plan)
    return {".".join((*value["namespace"], s["table"])).casefold() for s in value["streams"]}


def _audit_log() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
    )
    op.create_index("ix_audit_log_target_id", "audit_log", ["target", "id"])
    op.create_index("ix_audit_log_actor_id", "audit_log", ["actor", "id"])


def _run_logs() -> None:
    op.create_table(
        "run_logs",
        sa.Column("run_id", sa.Uuid, sa.ForeignKey("runs.id", name="fk_run_logs_run_id"), nullable=False),
        sa.Column("seq", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("level", sa.Integer, nullable=False),
        sa.Column("logger", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "seq", name="pk_run_logs"),
    )
    op.create_index("ix_run_logs_at", "run_logs", ["at"])


def _service_keys() -> None:
    op.create_table(
        "service_keys",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("groups", sa.Text, nullable=False),
        sa.Column("owner_id", sa.Text, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_service_keys"),
        sa.UniqueConstraint("digest", name="uq_service_keys_digest"),
    )
    op.create_index("ix_service_keys_created_by", "service_keys", ["created_by"])
