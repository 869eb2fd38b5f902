"""Which runs, and which deleted jobs, no server of metadata was told of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

FILL_RUNS = """
UPDATE runs SET metadata_due = TRUE WHERE status = 'completed'
 AND (report NOT LIKE '%"metadata"_"http%' OR report NOT LIKE '%"metadata_error"_null%')
"""
"""Runs whose report has no address of a server, or an error. A text in a report that looks like these has
its quotes escaped; `_` is the colon, which would begin a parameter."""


def upgrade() -> None:
    """Add the columns, fill that of runs, and index both where something is due."""
    for table in ("runs", "jobs"):
        op.add_column(table, sa.Column("metadata_due", sa.Boolean, nullable=False, server_default=sa.false()))
    op.execute(FILL_RUNS)
    for table in ("runs", "jobs"):
        due = sa.text("metadata_due")
        op.create_index(
            f"ix_{table}_metadata_due",
            table,
            ["created_at", "id"],
            sqlite_where=due,
            postgresql_where=due,
        )
