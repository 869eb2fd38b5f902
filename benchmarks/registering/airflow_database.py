"""Questions to the database of the embedded Airflow: they cost its API server nothing, which is measured."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.02


class AirflowDatabase:
    """Reads it; writers are not kept from writing."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)

    def close(self) -> None:
        """Let go of it."""
        self._connection.close()

    def flows(self) -> int:
        """How many flows of jobs there are, all of which can be seen."""
        [(count,)] = self._connection.execute(
            "SELECT count(*) FROM dag WHERE relative_fileloc LIKE 'airberg_0%' AND NOT is_stale"
        ).fetchall()
        return int(count)

    def flow_id(self, name: str) -> str | None:
        """The flow with that name, once a person can see it."""
        found = self._connection.execute(
            "SELECT dag_id FROM dag WHERE dag_display_name = ? AND NOT is_stale", (name,)
        ).fetchone()
        return found and str(found[0])

    def sync_started(self, flow_id: str) -> float | None:
        """When the first task of the newest run of a flow began to run, on the wall clock."""
        found = self._connection.execute(
            "SELECT start_date FROM task_instance WHERE dag_id = ? AND task_id = 'sync'"
            " AND start_date IS NOT NULL ORDER BY start_date DESC",
            (flow_id,),
        ).fetchone()
        return found and _moment(found[0])

    def runs(self, flow_ids: list[str], *states: str) -> int:
        """How many runs of these flows are in one of these states."""
        flows, wanted = (", ".join("?" * len(values)) for values in (flow_ids, states))
        [(count,)] = self._connection.execute(
            f"SELECT count(*) FROM dag_run WHERE dag_id IN ({flows}) AND state IN ({wanted})",
            [*flow_ids, *states],
        ).fetchall()
        return int(count)

    def ended_runs(self, flow_ids: list[str]) -> int:
        """How many runs of these flows have ended."""
        return self.runs(flow_ids, "success", "failed")

    def parsed_since(self, moment: float) -> dict[str, int]:
        """Files that were parsed since then, with the number of their flows."""
        since = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        found = self._connection.execute(
            "SELECT relative_fileloc, count(*) FROM dag WHERE last_parsed_time >= ? GROUP BY 1 ORDER BY 1",
            (since,),
        )
        return {str(name): int(count) for name, count in found}

    def size_mb(self) -> float:
        """Of the database."""
        [(pages,)] = self._connection.execute("PRAGMA page_count").fetchall()
        [(size,)] = self._connection.execute("PRAGMA page_size").fetchall()
        return round(float(pages * size) / 1e6, 3)


def wait_for(look: Callable[[], T | None], within_s: float, what: str, every_s: float = POLL_S) -> T:
    """The first answer that is not None and not False.

    Raises:
        TimeoutError: There was none.
    """
    deadline = time.monotonic() + within_s
    while True:
        found = None
        with contextlib.suppress(sqlite3.OperationalError):  # busy for longer than it waits
            found = look()
        if found is not None and found is not False:
            return found
        if time.monotonic() >= deadline:
            raise TimeoutError(f"waited {within_s:.0f} s in vain for {what}")
        time.sleep(every_s)


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
