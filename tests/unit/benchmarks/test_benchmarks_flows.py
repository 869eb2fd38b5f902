"""The benchmark of flows: what it adds up, and what it asks of Airflow's database."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.flows import hour_of_daily_jobs, ratios, schedules, targets
from benchmarks.registering.airflow_database import AirflowDatabase, wait_for
from benchmarks.registering.stack import PARTS, cpu_of_tree, difference

TABLES = """
CREATE TABLE dag (dag_id, dag_display_name, relative_fileloc, is_stale, last_parsed_time);
CREATE TABLE dag_run (dag_id, state);
CREATE TABLE task_instance (dag_id, task_id, start_date);
INSERT INTO dag VALUES
  ('airberg_sentinel', NULL, 'airberg_sentinel.py', 0, '2026-01-01 00:00:09.000000'),
  ('airberg_a', 'first', 'airberg_00000.py', 0, '2026-01-01 00:00:01.500000'),
  ('airberg_b', 'second', 'airberg_00000.py', 0, '2026-01-01 00:00:02.000000'),
  ('airberg_c', 'gone', 'airberg_00001.py', 1, '2026-01-01 00:00:00.000000');
INSERT INTO dag_run VALUES
  ('airberg_a', 'running'), ('airberg_a', 'success'), ('airberg_b', 'failed'), ('airberg_c', 'success');
INSERT INTO task_instance VALUES
  ('airberg_a', 'sync', '2026-01-01 00:00:05.250000'), ('airberg_a', 'sync', NULL),
  ('airberg_a', 'register', '2026-01-01 00:00:07.000000');
"""


@pytest.fixture
def database(tmp_path: Path) -> AirflowDatabase:
    """A database with the columns that are asked for, named as Airflow names them."""
    path = tmp_path / "airflow.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(TABLES)
    return AirflowDatabase(path)


def test_questions_to_airflows_database(database: AirflowDatabase) -> None:
    """Stale flows are not there, moments are UTC, files count once."""
    with closing(database):
        assert database.flows() == 2
        assert database.flow_id("first") == "airberg_a"
        assert database.flow_id("gone") is None
        begun = datetime(2026, 1, 1, 0, 0, 5, 250_000, tzinfo=UTC).timestamp()
        assert database.sync_started("airberg_a") == begun
        assert database.sync_started("airberg_b") is None
        assert database.runs(["airberg_a", "airberg_b"], "queued", "running") == 1
        assert database.ended_runs(["airberg_a", "airberg_b"]) == 2
        since = datetime(2026, 1, 1, 0, 0, 1, 600_000, tzinfo=UTC).timestamp()
        assert database.parsed_since(since) == {"airberg_00000.py": 1, "airberg_sentinel.py": 1}
        assert database.size_mb() > 0


def test_waiting_gives_up() -> None:
    """An answer that is None or False is none."""
    assert wait_for(iter([None, False, 7]).__next__, 5, "a number", 0.0) == 7
    with pytest.raises(TimeoutError, match="a miracle"):
        wait_for(lambda: None, 0.0, "a miracle")


def test_cpu_of_a_tree_counts_children_that_have_ended() -> None:
    """What a child used is still there when it was waited for."""
    before = cpu_of_tree(os.getpid())
    subprocess.run([sys.executable, "-c", "sum(range(20_000_000))"], check=True)
    assert cpu_of_tree(os.getpid()) > before + 0.05


def test_an_hour_is_idling_parsing_and_runs() -> None:
    """The parts follow from what was measured; ours are not Airflow's."""
    before = dict.fromkeys(PARTS, 1.0)
    after = {"api": 2.0, "airflow-api-server": 3.0, "airflow-scheduler": 5.0, "airflow-dag-processor": 9.0}
    used = difference(after, before)
    assert (used["api"], used["airflow"]) == (1.0, 14.0)
    hour = hour_of_daily_jobs(
        {
            "jobs": 2_400,
            "idle": {"cpu_s_per_hour": used},
            "parsed_again": {"dag_processor_cpu_s_per_flow": 0.01},
            "triggered": {"cpu_s_per_run": used},
        }
    )
    assert hour == {
        "idle_airflow": 14.0,
        "idle_api": 1.0,
        "parsing": 4.0,
        "runs_scheduler": 400.0,
        "runs_api_server": 200.0,
        "all": 619.0,
    }


def test_every_number_of_jobs_has_its_targets() -> None:
    """Two seconds until a flow is visible, six until a task runs: medians and the worst."""
    times = {"median": 1.0, "worst": 7.0}
    found = ratios([{"jobs": 20, "posts": {"visible_s": times, "running_s": times, "answered_s": times}}])
    assert set(found) == {
        f"{name}_s_{kind}_20" for name in ("visible", "running") for kind in ("median", "worst")
    }
    judged = {name: target.judge(found[name])["met"] for name, target in targets(found).items()}
    assert judged == {name: name.endswith("median_20") for name in found}


def test_the_schedules_are_not_due_soon() -> None:
    """No run of a schedule comes between the measures."""
    hours = [int(schedule.split()[1]) for schedule in schedules()]
    now = datetime.now(UTC).hour
    assert all(2 < (hour - now) % 24 < 22 for hour in hours)
