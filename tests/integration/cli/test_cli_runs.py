"""`airberg runs ...`: what it prints of a real job store."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from airberg.cli.app import app
from airberg.errors import NotFound
from airberg.jobs.migrate import upgrade
from airberg.jobs.model import AttemptReport, ReportedState, Run, RunReport, RunStatus, StreamReport
from airberg.jobs.open import open_store
from airberg.jobs.run_logs import LogLine
from airberg.jobs.sql import SqlJobStore
from airberg.keys.kek import ensure_master_key
from airberg.settings import Settings
from support.jobs import NOON, a_job, at


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A deployment, in the environment of the command."""
    settings = Settings(home=tmp_path)
    ensure_master_key(settings)
    upgrade(settings.database_url)
    monkeypatch.setenv("AIRBERG_HOME", str(tmp_path))
    return settings


@pytest.fixture
def store(home: Settings) -> SqlJobStore:
    """Its job store."""
    return open_store(home)


@pytest.fixture
def run(store: SqlJobStore) -> Run:
    """A run that failed in its second attempt."""
    job = store.add_job(a_job(), {})
    run = store.start_run(job.id, "r1", 2, NOON)
    users = StreamReport(
        stream="users",
        table="users",
        phase="incomplete",
        rows_read=1200,
        rows_written=1000,
        snapshot_ids=(7,),
        state_before=ReportedState(text='{"cursor":1,"old":2}', bytes=10, sha256="x"),
        state_after=ReportedState(text='{"cursor":2,"new":"\\u001b[2J"}', bytes=10, sha256="y"),
        state_changed=True,
        started_at=at(1),
        ended_at=at(2),
    )
    protected = ReportedState(withheld="protected")
    others = StreamReport(stream="others", table="others", state_after=protected, state_changed=True)
    attempts = (
        AttemptReport(number=1, status=RunStatus.RUNNING, started_at=NOON),
        AttemptReport(
            number=2,
            status=RunStatus.FAILED,
            started_at=at(1),
            ended_at=at(3),
            error="It broke.",
            guidance="Mend it.",
            error_code="connector-error",
        ),
    )
    report = RunReport(streams=(users, others), attempts=attempts)
    error = {"error": "It broke. Mend it.", "error_code": "connector-error"}
    return store.end_run(run.id, RunStatus.FAILED, at(3), report=report, **error)


def printed(*arguments: str) -> str:
    """What a command prints."""
    done = CliRunner().invoke(app, ["runs", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def logged(store: SqlJobStore, run: Run, *messages: str, level: int = logging.INFO) -> None:
    """Add lines to the log of a run."""
    lines = [LogLine(at=NOON, level=level, logger="x", message=m, attempt=1) for m in messages]
    store.run_logs.append(run.id, lines)


def test_list(store: SqlJobStore, run: Run) -> None:
    """A line a run, newest first; by status."""
    newer = store.start_run(run.job_id, "r2", 1, at(10))
    head, first, second = printed("list", str(run.job_id)).splitlines()
    assert head.split()[:3] == ["run", "status", "attempt"]
    assert first.split()[:3] == [str(newer.id), "running", "1"]
    assert second.split() == [
        *(str(run.id), "failed", "2", "2026-03-29T12:00:00Z", "180.0"),
        *("1,200", "1,000", "0"),
    ]
    [only] = printed("list", str(run.job_id), "--status", "failed", "--json").splitlines()
    assert json.loads(only)["id"] == str(run.id)
    assert len(printed("list", str(run.job_id), "--limit", "1").splitlines()) == 2
    with pytest.raises(NotFound):
        printed("list", str(uuid4()))


def test_show(run: Run) -> None:
    """Attempts, tables, states; nothing that steers the terminal."""
    assert printed("show", str(run.id)).splitlines() == [
        f"run {run.id}: failed, attempt 2, 180.0 s",
        "error: It broke. Mend it. (connector-error; see docs/reference/errors.md#codes-of-a-run)",
        "attempt 1: lost, - s",
        "attempt 2: failed, 120.0 s: It broke. Mend it.",
        "users -> users: incomplete, 1,200 read, 1,000 written, 0 deleted, 0 nulled, 60.0 s, 0 rows/s",
        "  snapshots: 7",
        "  state /cursor: 1 -> 2",
        '  state /new: "\\u001b[2J"',
        "  state /old: 2 -> gone",
        "others -> others: waiting, 0 read, 0 written, 0 deleted, 0 nulled, - s, 0 rows/s",
        "  state: moved; not shown (protected)",
    ]
    shown = json.loads(printed("show", str(run.id), "--json"))
    assert shown["guidance"] == "Mend it."
    assert shown["flow_run_url"].endswith(f"/dags/airberg_{run.job_id}/runs/r1")


def test_logs(store: SqlJobStore, run: Run) -> None:
    """All of it, its end, by level; nothing that steers the terminal."""
    logged(store, run, "one", "two\nlines \x1b[2J")
    logged(store, run, "bad", level=logging.ERROR)
    stamp = "2026-03-29T12:00:00.123Z"
    assert printed("logs", str(run.id)) == (
        f"{stamp} INFO    x: one\n{stamp} INFO    x: two\nlines ?[2J\n{stamp} ERROR   x: bad\n"
    )
    assert printed("logs", str(run.id), "--tail", "1") == f"{stamp} ERROR   x: bad\n"
    assert printed("logs", str(run.id), "--level", "ERROR", "--follow") == f"{stamp} ERROR   x: bad\n"
    with pytest.raises(NotFound):
        printed("logs", str(uuid4()))


def test_follow(store: SqlJobStore, run: Run, home: Settings) -> None:
    """Lines as they come, until the run ends."""
    at_work = store.start_run(run.job_id, "r2", 1, at(10))
    logged(store, at_work, "one", "two")
    environment = os.environ | {"AIRBERG_HOME": str(home.home), "PYTHONUNBUFFERED": "1"}
    command = [
        sys.executable,
        "-m",
        "airberg.cli",
        "runs",
        "logs",
        str(at_work.id),
        "--follow",
        "--tail",
        "1",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("x: two\n")
        logged(store, at_work, "three")
        assert process.stdout.readline().endswith("x: three\n")
        logged(store, at_work, "last")
        store.end_run(at_work.id, RunStatus.COMPLETED, at(11))
        assert process.stdout.read().endswith("x: last\n")
        assert process.wait(30) == 0


def test_prune(store: SqlJobStore, run: Run) -> None:
    """By the age of the settings, or another one."""
    days_old = datetime.now(UTC) - timedelta(days=20)
    line = LogLine(at=days_old, level=20, logger="x", message="m", attempt=1)
    store.run_logs.append(run.id, [line])
    assert printed("prune") == "0 line(s) removed\n"
    assert printed("prune", "--older-than-days", "10") == "1 line(s) removed\n"
    assert list(store.run_logs.read(run.id)) == []
