"""Tables of the key store. They are in the job store's database, and change with its migrations."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text

from airberg.jobs.tables import UtcDateTime

metadata = MetaData()

named_keys = Table(
    "named_keys",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("owners", Text, nullable=False),  # JSON list, sorted
    Column("roles", Text, nullable=False),  # JSON list, sorted
    Column("created_at", UtcDateTime, nullable=False),
)
"""One row a key. Whoever changes a key, or its versions, locks its row first."""

data_keys = Table(
    "data_keys",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("key_id", BigInteger, nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("kek", String(200), nullable=False),
    Column("wrapped", LargeBinary, nullable=False),  # empty once the version is destroyed
    Column("created_at", UtcDateTime, nullable=False),
)

key_audit = Table(
    "key_audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", String(32), nullable=False),
    Column("key", String(64), nullable=False),
    Column("versions", Text, nullable=False),  # JSON list
    Column("detail", Text, nullable=False),
    Index("ix_key_audit_key_id", "key", "id"),
)
