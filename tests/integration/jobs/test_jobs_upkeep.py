"""The command that says which jobs' tables are looked after, over a real store."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from airberg.cli.app import app
from airberg.jobs.migrate import upgrade
from airberg.jobs.open import open_store
from airberg.keys.kek import ensure_master_key
from airberg.settings import Settings
from airberg_airflow.job_ids import is_job_id
from support.jobs import a_job, at


def test_ids_of_jobs_that_have_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One id a line, as the flow reads them: jobs that ran, paused or not; no deleted one, no new one."""
    monkeypatch.setenv("AIRBERG_HOME", str(tmp_path))
    settings = Settings(home=tmp_path)
    ensure_master_key(settings)
    upgrade(settings.database_url)
    with contextlib.closing(open_store(settings)) as store:
        jobs = {
            name: store.add_job(replace(a_job(name), created_at=at(minute)), {})
            for minute, name in enumerate(["ran", "paused", "deleted", "new"])
        }
        for name in ("ran", "paused", "deleted"):
            store.start_run(jobs[name].id, "airberg__1", 1, at(9))
        store.set_paused(jobs["paused"].id, True)
        store.delete_job(jobs["deleted"].id, at(10))
    done = CliRunner().invoke(app, ["tables", "jobs"])
    assert done.exit_code == 0, done.output
    ids = done.stdout.splitlines()
    assert ids == [str(jobs["ran"].id), str(jobs["paused"].id)]
    assert all(map(is_job_id, ids))
