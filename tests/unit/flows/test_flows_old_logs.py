"""The loop that compares jobs and flows removes old logs of runs, too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airberg.flows import reconciler as module
from airberg.flows.memory import MemoryOrchestrator
from airberg.flows.reconciler import FlowReconciler
from airberg.jobs.memory import MemoryJobStore
from airberg.jobs.run_logs import LogLine
from airberg.settings import RunLogSettings, Settings
from support.jobs import a_job, a_run


def test_old_logs_are_removed_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the age of the settings, and not at each turn."""
    store = MemoryJobStore()
    run = store.add_run(a_run(store.add_job(a_job(), {}).id))

    def log(days: float) -> None:
        when = datetime.now(UTC) - timedelta(days=days)
        line = LogLine(at=when, level=20, logger="x", message=f"{days} days old", attempt=1)
        store.run_logs.append(run.id, [line])

    settings = Settings(home=tmp_path, run_logs=RunLogSettings(keep_days=2))
    reconciler = FlowReconciler(store, MemoryOrchestrator(), settings)
    log(1)
    log(3)
    reconciler.remove_old_logs()
    assert [line.message for line in store.run_logs.read(run.id)] == ["1 days old"]
    log(4)
    reconciler.remove_old_logs()
    assert len(store.run_logs.read(run.id)) == 2
    monkeypatch.setattr(module, "LOGS_EVERY_S", 0.0)
    FlowReconciler(store, MemoryOrchestrator(), settings).remove_old_logs()
    assert [line.message for line in store.run_logs.read(run.id)] == ["1 days old"]
