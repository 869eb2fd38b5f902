"""Keys: who may use them, and the record of what was done to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEYS_THAT_ARE_THERE = (
    "INSERT INTO named_keys (name, owners, roles, created_at)"
    " SELECT name, '[]', '[]', min(created_at) FROM data_keys GROUP BY name"
)
"""Until now everybody could use every key."""


def upgrade() -> None:
    """Create the two tables, and name the keys that are there."""
    op.create_table(
        "named_keys",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("owners", sa.Text, nullable=False),
        sa.Column("roles", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_named_keys"),
    )
    op.create_table(
        "key_audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("versions", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_key_audit"),
    )
    op.create_index("ix_key_audit_key_id", "key_audit", ["key", "id"])
    op.execute(KEYS_THAT_ARE_THERE)
