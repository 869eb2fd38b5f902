"""Runs whose streams are synced side by side: leases of tables, and what is asked of a run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and the table. There is nothing to fill."""
    op.add_column("runs", sa.Column("asked", sa.Text))
    op.create_table(
        "table_leases",
        sa.Column("job_id", sa.Uuid, sa.ForeignKey("jobs.id", name="fk_table_leases_job_id"), nullable=False),
        sa.Column("table", sa.Text, nullable=False),
        sa.Column("holder", sa.Text),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "table", name="pk_table_leases"),
    )
