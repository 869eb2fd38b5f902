"""Adapters that several behaviour suites run over."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from airberg.jobs.engine import engine_of
from airberg.jobs.memory import MemoryJobStore
from airberg.jobs.migrate import upgrade
from airberg.jobs.port import JobStore
from airberg.jobs.sql import SqlJobStore
from airberg.jobs.tables import metadata
from airberg.keys.seal import Sealer


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobStore]:
    """Each adapter, empty."""
    if request.param == "memory":
        yield MemoryJobStore()
        return
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "airberg.db")
        url = f"sqlite:///{tmp_path / 'airberg.db'}"
    else:
        url = request.getfixturevalue("postgresql_server").url
        upgrade(url)
        _empty(url)  # other tests use this database too
    opened = SqlJobStore(engine_of(url), Sealer([bytes(32)]))
    yield opened
    opened.close()
    if request.param == "postgresql":
        _empty(url)


def _empty(url: str) -> None:
    engine = engine_of(url)
    with engine.begin() as c:
        names = ", ".join(t.name for t in metadata.sorted_tables if t.name != "flows_state")
        c.execute(sa.text(f"TRUNCATE {names}"))
    engine.dispose()
