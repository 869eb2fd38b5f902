"""SQLite's locks survive new connections of the same process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa

from airberg.jobs.engine import engine_of

COUNT = """
import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("SELECT count(*) FROM t").fetchone()[0])
"""


def rows_seen_by_another_process(path: Path) -> int:
    """How many rows a process sees that opens the database, reads and leaves."""
    out = subprocess.run([sys.executable, "-c", COUNT, str(path)], capture_output=True, text=True, check=True)
    return int(out.stdout)


def test_a_new_connection_does_not_hide_later_writes_from_other_processes(tmp_path: Path) -> None:
    """POSIX drops a process's locks when it closes any descriptor of the file: none may be opened aside.

    Without its locks, a process that leaves takes itself for the last one and removes the write-ahead log;
    what the first process writes afterwards is seen by nobody else.
    """
    path = tmp_path / "store.db"
    engine = engine_of(f"sqlite:///{path}")
    with engine.begin() as first:
        first.execute(sa.text("CREATE TABLE t (i INTEGER)"))
    with engine.connect() as kept:
        kept.execute(sa.text("INSERT INTO t VALUES (1)"))
        kept.commit()
        with engine.connect() as another:
            another.execute(sa.text("SELECT 1"))
            another.commit()
        assert rows_seen_by_another_process(path) == 1
        kept.execute(sa.text("INSERT INTO t VALUES (2)"))
        kept.commit()
        assert rows_seen_by_another_process(path) == 2
    engine.dispose()
