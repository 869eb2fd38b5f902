"""The schema's third revision: what jobs of before are found by, and an audit log that cannot be changed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.exc import DBAPIError

from airberg.jobs.engine import engine_of
from airberg.jobs.migrate import _config, upgrade
from airberg.jobs.tables import audit_log, job_tables, job_tags, jobs

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def test_jobs_of_before_are_found(database_url: str) -> None:
    """The migration fills in what filters use, from the requests that are there."""
    engine = engine_of(database_url)
    columns = (
        "name",
        "owner_id",
        "created_by",
        "request",
        "plan",
        "public_config",
        "status",
        "paused",
        "shard",
    )
    rows = sa.table(
        "jobs",
        sa.column("id", sa.Uuid),
        *(sa.column(n) for n in columns),
        sa.column("created_at", sa.DateTime(timezone=True)),
    )
    job_id = uuid4()
    request = {"name": "n", "source_name": "source-faker", "tags": ["b", "a", "b"]}
    with engine.begin() as c:
        command.upgrade(_config(c), "0002")
        values = {"name": "n", "owner_id": "o", "created_by": "i|s", "public_config": "{}", "status": "new"}
        plan = {"namespace": ["Shop", "eu"], "streams": [{"table": "Users"}, {"table": "orders"}]}
        values |= {"request": json.dumps(request), "plan": json.dumps(plan), "paused": False, "shard": 0}
        c.execute(rows.insert().values(id=job_id, created_at=NOON, **values))
    upgrade(database_url)
    with engine.connect() as c:
        assert c.execute(sa.select(jobs.c.source_name, jobs.c.version)).one() == ("source-faker", 1)
        assert c.execute(sa.select(job_tags).order_by(job_tags.c.tag)).all() == [(job_id, "a"), (job_id, "b")]
        tables = c.execute(sa.select(job_tables.c.table).order_by(job_tables.c.table)).scalars().all()
        assert tables == ["shop.eu.orders", "shop.eu.users"]
    engine.dispose()


@pytest.mark.parametrize("change", [sa.update(audit_log).values(actor="nobody"), sa.delete(audit_log)])
def test_the_database_itself_keeps_the_audit_log(database_url: str, change: sa.Executable) -> None:
    """Rows are added; changing or deleting one is refused, whoever asks."""
    upgrade(database_url)
    engine = engine_of(database_url)
    entry = {"at": NOON, "actor": "ann", "action": "create", "kind": "job", "target": "x"}
    with engine.begin() as c:
        c.execute(audit_log.insert().values(entry | {"request_id": "r", "address": "::1", "detail": "{}"}))
    with pytest.raises(DBAPIError, match="only ever added to"), engine.begin() as c:
        c.execute(change)
    with engine.connect() as c:
        assert c.execute(sa.select(audit_log.c.actor)).scalars().all() == ["ann"]
    engine.dispose()
