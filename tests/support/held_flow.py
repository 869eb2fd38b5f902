"""A job whose connector stands still in the middle of its first run, and all processes of that run."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
from pyiceberg.table import Table

from airberg.lake.catalog import open_catalog
from airberg.lake.tables import find_table
from support.conditions import eventually
from support.deployment import write_scenario
from support.live_stack import LiveStack

ROWS = 40
STANDS_AT = 25
COVERED = 20
"""Rows that the last state before that covers."""
GONE_WITHIN_S = 10.0


@dataclass(frozen=True)
class Processes:
    """What one run is made of, from Airflow's worker down to what the connector has started.

    Attributes:
        worker: Airflow's supervisor of the task.
        task: The process that runs the operator.
        sync: `airberg sync`.
        below: The connector with all that belongs to it.
    """

    worker: psutil.Process
    task: psutil.Process
    sync: psutil.Process
    below: tuple[psutil.Process, ...]

    def wait_gone(self, within_s: float = GONE_WITHIN_S) -> None:
        """Until neither the command nor the connector is left, whoever should take note of their end."""
        eventually(lambda: not self.left(), within_s, every_s=0.05)

    def left(self) -> list[psutil.Process]:
        """Those of command and connector that have not ended."""
        return [process for process in (self.sync, *self.below) if not has_ended(process)]


class HeldFlow:
    """A job of which the first run stands still, with a state behind it that is committed.

    Its connector ignores SIGTERM, as does a process that it has started; later runs go through.

    Args:
        live: The stack.
        folder: For its scenario.
        before: Steps of the connector before it stands still.
        members: Of the job's body.
    """

    def __init__(
        self, live: LiveStack, folder: Path, before: Sequence[dict[str, Any]] = (), **members: Any
    ) -> None:
        self.live = live
        self._members = members
        self.schema = f"held_{uuid4().hex}"
        self._folder = folder / self.schema
        self._folder.mkdir()
        self._pids = self._folder / "pids"
        stands = [*before, {"ignore_sigterm": True}, {"fork": 600, "pids": str(self._pids)}, {"sleep": 600}]
        at = {"after": STANDS_AT, "once": str(self._folder / "stood"), "steps": stands}
        orders = {
            "name": "orders",
            "cursor": "id",
            "primary_key": [["id"]],
            "state_every": 10,
            "generate": {"count": ROWS, "from": 1, "fields": {"id": "$i", "item": "item $i"}},
            "at": [at],
        }
        self._scenario = write_scenario(self._folder, {"streams": [orders]})
        self.job_id = ""
        self.run_id = ""
        self.flow_run_id = ""
        self._snapshot_id = 0

    def body(self) -> dict[str, Any]:
        """The job."""
        return {
            "name": f"held {self.schema}",
            "source_name": "source-scripted",
            "source_config": {"scenario": str(self._scenario), "password": "hunter2-hunter2"},
            "schema_name": self.schema,
            "mode": "append",
        } | self._members

    def start(self) -> Processes:
        """Create the job, and wait until its run stands still with what is covered committed."""
        self.job_id = self.live.submit(self.body())
        return self.standing()

    def standing(self) -> Processes:
        """The processes of the run that stands still."""
        eventually(lambda: self._pids.exists() and self._pids.read_text().endswith("\n"), 90.0)
        eventually(lambda: self.ids() == list(range(1, COVERED + 1)), 60.0)
        run = self.live.newest_run(self.job_id)
        assert run is not None
        assert run["status"] == "running"
        self.run_id, self.flow_run_id = run["id"], run["flow_run_id"]
        self._snapshot_id = self._newest_snapshot()
        sync = self._sync_process()
        below = tuple(sync.children(recursive=True))
        forked = int(self._pids.read_text())
        assert forked in {process.pid for process in below}
        task = sync.parent()
        assert task is not None
        worker = task.parent()
        assert worker is not None
        return Processes(worker, task, sync, below)

    def check_kept(self) -> None:
        """What was committed when the run was ended is what the table holds."""
        assert self.ids() == list(range(1, COVERED + 1))
        assert self._newest_snapshot() == self._snapshot_id

    def check_resumed(self) -> None:
        """The table equals the source, and what was committed before is not written again."""
        assert self.ids() == list(range(1, ROWS + 1))
        table = self._table()
        assert table is not None
        snapshot, parents = table.current_snapshot(), set()
        while snapshot is not None and snapshot.parent_snapshot_id is not None:
            parents.add(snapshot.parent_snapshot_id)
            snapshot = table.snapshot_by_id(snapshot.parent_snapshot_id)
        assert self._snapshot_id in parents

    def status(self) -> str:
        """What the service says of the newest run."""
        run = self.live.newest_run(self.job_id)
        assert run is not None
        return str(run["status"])

    def completed(self, same_run: bool, within_s: float = 180.0) -> dict[str, Any]:
        """The run that completed: another attempt of the one that stood still, or another run."""

        def done() -> dict[str, Any] | None:
            run = self.live.newest_run(self.job_id)
            if run is None or run["status"] != "completed" or (run["id"] == self.run_id) is not same_run:
                return None
            return run

        run = eventually(done, within_s, every_s=0.3)
        assert run is not None
        return run

    def ask_airflow(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A call about the job's flow, as Airflow's administrator."""
        with self.live.airflow() as airflow:
            url = f"/api/v2/dags/airberg_{self.job_id}/{path}"
            answer = airflow.request(method, url, json=body) if body else airflow.request(method, url)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def flow_state(self) -> str:
        """How Airflow says that the run ended that stood still."""

        def ended() -> str:
            state = self.ask_airflow("GET", f"dagRuns/{self.flow_run_id}")["state"]
            return state if state in ("success", "failed") else ""

        return eventually(ended, 90.0, every_s=0.3)

    def ids(self) -> list[int]:
        """The ids in the table."""
        table = self._table()
        return [] if table is None else sorted(table.scan().to_arrow()["id"].to_pylist())

    def _table(self) -> Table | None:
        return find_table(open_catalog(self.live.settings), (self.schema,), "orders")

    def _newest_snapshot(self) -> int:
        table = self._table()
        assert table is not None
        snapshot = table.current_snapshot()
        assert snapshot is not None
        return snapshot.snapshot_id

    def _sync_process(self) -> psutil.Process:
        def is_it(command: Sequence[str] | None) -> bool:
            return command is not None and "sync" in command and self.job_id in command

        [found] = [p for p in psutil.process_iter(["cmdline"]) if is_it(p.info["cmdline"])]
        return found


def has_ended(process: psutil.Process) -> bool:
    """Whether a process has ended; nobody may have taken note of it yet."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True
