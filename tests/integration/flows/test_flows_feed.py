"""The feed of flows and the files made of it: what a change costs when there are many jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from airberg.flows.feed import FlowFeed
from airberg.jobs.engine import engine_of
from airberg.jobs.lifecycle import JOBS_PER_SHARD
from airberg.jobs.migrate import upgrade
from airberg.jobs.sql import SqlJobStore
from airberg.keys.configured import open_sealer
from airberg.keys.kek import ensure_master_key
from airberg.settings import Settings
from airberg_airflow.flow_files import DOCTOR_FILE, SENTINEL_FILE, UPKEEP_FILE, FlowFiles
from support.api_service import running_service
from support.jobs import a_job


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A deployment with a job store."""
    settings = Settings(home=tmp_path)
    ensure_master_key(settings)
    upgrade(settings.database_url)
    return settings


@pytest.fixture
def statements() -> list[str]:
    """What the database was asked."""
    return []


@pytest.fixture
def store(settings: Settings, statements: list[str]) -> Iterator[SqlJobStore]:
    """The job store, whose statements are kept."""
    engine = engine_of(settings.database_url)

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(_c: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    opened = SqlJobStore(engine, open_sealer(settings, engine))
    yield opened
    opened.close()


def test_the_feed_reads_no_plan_and_is_made_once(
    settings: Settings, store: SqlJobStore, statements: list[str]
) -> None:
    """One statement for all jobs, with no column that may be large; none while nothing changes."""
    jobs = [store.add_job(a_job(f"job {number}"), {"token": "never-shown-9"}) for number in range(3)]
    feed = FlowFeed(store, settings)
    statements.clear()
    version = feed.version()
    body = feed.body(version)
    about_jobs = [s for s in statements if "FROM jobs" in s]
    assert len(about_jobs) == 1
    assert len([s for s in statements if "SELECT" in s]) == 2
    for column in ("plan", "public_config", "source_config", "status_message"):
        assert column not in about_jobs[0]
    assert {flow["job_id"] for flow in msgspec.json.decode(body)["flows"] if "job_id" in flow} == {
        str(job.id) for job in jobs
    }
    statements.clear()
    assert feed.body(feed.version()) is body
    assert not [s for s in statements if "FROM jobs" in s]
    store.set_paused(jobs[1].id, True)
    changed = feed.version()
    assert changed != version
    paused = [f["paused"] for f in msgspec.json.decode(feed.body(changed))["flows"] if "job_id" in f]
    assert sorted(paused) == [False, False, True]


def test_one_change_makes_one_file_new(tmp_path: Path) -> None:
    """After a PATCH only the file of the job's shard is written: Airflow parses what has a new time."""
    with running_service(tmp_path / "home") as service:
        jobs = [service.store.add_job(a_job(f"job {number}"), {}) for number in range(2 * JOBS_PER_SHARD + 1)]
        folder = tmp_path / "dags"
        files = FlowFiles(folder, service.url, service.parts.machine_token)
        assert files.pull()
        before = _written(folder)
        shards = {f"airberg_{number:05d}.py" for number in range(3)}
        assert set(before) == shards | {DOCTOR_FILE, SENTINEL_FILE, UPKEEP_FILE}
        assert not files.pull()
        changed = jobs[JOBS_PER_SHARD]
        answer = service.admin.patch(f"/api/jobs/{changed.id}", json={"schedule": "@hourly"})
        assert answer.status_code == 200, answer.text
        assert files.pull()
        after = _written(folder)
        assert after.keys() == before.keys()
        assert {n for n in after if after[n] != before[n]} == {f"airberg_{changed.shard:05d}.py"}


def _written(folder: Path) -> dict[str, tuple[int, int]]:
    """Time and inode of every flow file: the latter differs where a file was replaced by an equal one."""
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.glob("*.py")}
