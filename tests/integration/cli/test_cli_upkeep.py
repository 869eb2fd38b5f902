"""`airberg tables ...` as a process: what it prints, what it does, and its exit code."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import typer
from pyiceberg.manifest import DataFileContent
from pyiceberg.table import Table

from airberg.cli.upkeep import look_after_tables
from airberg.errors import AirbergError, ConfigurationFailed, NotFound
from airberg.jobs.migrate import upgrade
from airberg.jobs.open import open_store
from airberg.keys.kek import ensure_master_key
from airberg.lake.catalog import open_catalog
from airberg.lake.upkeep.run import Task
from airberg.settings import Settings, UpkeepSettings
from support.jobs import a_job
from support.lake_tables import (
    data_paths,
    delete_positions,
    names,
    note,
    rows,
    users,
    writer,
)


class Home:
    """A deployment with one job, whose table `shop.users` has ten small files."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(home=folder)
        ensure_master_key(self.settings)
        upgrade(self.settings.database_url)
        self.catalog = open_catalog(self.settings)
        job = a_job()
        store = open_store(self.settings)
        store.add_job(job, {})
        store.add_job(a_job("no plan yet", plan=None), {})
        store.close()
        self.job: UUID = job.id
        self.table = users(self.catalog)
        for number in range(10):
            appending = writer(self.catalog, "append", folder, table=self.table)
            appending.write(rows((number, f"n{number}")))
            appending.finish(note(number + 1))
            self.table = appending.table

    def environment(self, **settings: str) -> dict[str, str]:
        """The variables of a process of this deployment."""
        known = {k: v for k, v in os.environ.items() if not k.startswith("AIRBERG_")}
        return {**known, "AIRBERG_HOME": str(self.settings.home), **settings}

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "airberg.cli", "tables", *arguments],
            env=self.environment(**settings),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """The deployment."""
    return Home(tmp_path / "home")


def objects(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The JSON objects that a command printed: nothing else may be there."""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_report_says_what_the_commands_then_do(home: Home) -> None:
    """And a dry run says it too, and changes nothing."""
    (said,) = objects(home.run("report", "--all", "--json"))
    report = said["report"]
    assert said["table"] == "shop.users"
    assert (report["data_files"], report["small_files"], report["snapshots"], report["rows"]) == (
        10,
        10,
        10,
        10,
    )
    assert (report["compact_files"], report["compact_groups"], report["expire_snapshots"]) == (10, 1, 0)
    (said,) = objects(home.run("upkeep", "shop.users", "--dry-run", "--json"))
    assert said["dry_run"] is True
    assert said["compact"]["files"] == report["compact_files"]
    assert len(home.table.refresh().snapshots()) == 10
    text = home.run("report", "shop.users").stdout
    assert "shop.users: version 2, 10 rows, 10 snapshots, 10 manifests" in text
    assert "compact: 10 files" in text


def test_upkeep_of_a_job_does_what_is_due(home: Home) -> None:
    """Settings and properties of the table decide; the line says what was done."""
    done = home.run(
        "upkeep",
        "--job",
        str(home.job),
        AIRBERG_UPKEEP__EXPIRE_AGE_DAYS="0",
        AIRBERG_UPKEEP__EXPIRE_KEEP="2",
        AIRBERG_UPKEEP__MIN_MANIFESTS="3",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "shop.users: compact: files before 10, files after 1" in done.stdout
    assert "shop.users: expire: snapshots 9" in done.stdout
    assert "shop.users: orphans: nothing to do" in done.stdout
    table = home.table.refresh()
    assert len(data_paths(table)) == 1
    assert len(table.snapshots()) == 2
    assert names(table) == [(n, f"n{n}") for n in range(10)]
    assert "10 data files became 1" in done.stderr
    assert "n7" not in done.stderr + done.stdout


def test_each_command_does_its_part(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """Compact, manifests, expire and orphans by themselves."""

    def do(task: Task, *, dry_run: bool = False, age: float | None = None, force: bool = False) -> Any:
        settings = home.settings.model_copy(update={"upkeep": UpkeepSettings(min_manifests=2)})
        capsys.readouterr()
        look_after_tables(
            settings,
            [task],
            tables=(),
            job=None,
            every=True,
            dry_run=dry_run,
            as_json=True,
            orphan_age_days=age,
            force=force,
        )
        said = json.loads(capsys.readouterr().out)
        assert said["dry_run"] is dry_run
        return said[task.value]

    assert do(Task.MANIFESTS, dry_run=True) == {"manifests": 10, "commits": 1}
    done = do(Task.MANIFESTS)
    assert (done["before"], done["after"]) == (10, 1)
    assert do(Task.COMPACT, dry_run=True)["files"] == 10
    assert do(Task.COMPACT)["files_after"] == 1
    with home.table.refresh().transaction() as transaction:
        transaction.set_properties(
            {"history.expire.max-snapshot-age-ms": "1", "history.expire.min-snapshots-to-keep": "1"}
        )
    assert do(Task.EXPIRE, dry_run=True) == {"snapshots": 11, "kept": 1}
    assert do(Task.EXPIRE)["snapshots"] == 11
    lost = Path(home.table.location().removeprefix("file://"), "data", "lost.parquet")
    lost.write_bytes(b"lost")
    with pytest.raises(typer.Exit) as refused:
        do(Task.ORPHANS, age=0)
    assert refused.value.exit_code == 2
    assert json.loads(capsys.readouterr().out)["errors"][0]["code"] == "orphan-age"
    assert do(Task.ORPHANS, age=0, force=True)["deleted"] == 1
    assert not lost.exists()
    assert len(names(home.table)) == 10


def test_what_cannot_be_done_does_not_keep_the_rest_from_being_done(home: Home) -> None:
    """Equality deletes: no compaction, but all else; the exit code says not to try again."""
    table: Table = delete_positions(
        home.table.refresh(), data_paths(home.table)[0], [0], DataFileContent.EQUALITY_DELETES
    )
    once = {"AIRBERG_UPKEEP__EXPIRE_AGE_DAYS": "0", "AIRBERG_UPKEEP__EXPIRE_KEEP": "1"}
    done = home.run("upkeep", "--all", "--json", **once)
    (said,) = objects(done)
    assert done.returncode == 2
    assert [error["code"] for error in said["errors"]] == ["equality-deletes"]
    assert said["expire"]["snapshots"] == 10
    done = home.run("compact", "--all")
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1].startswith("error: Upkeep failed, compact of shop.users: The table")
    assert len(table.refresh().snapshots()) == 1


def test_files_of_a_run_that_is_alive_are_no_orphans(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """However long it takes: a full copy commits at its end. A run without a lease is none that is alive."""
    folder = Path(home.table.location().removeprefix("file://"), "data")
    days = {"before.parquet": 20, "during.parquet": 5}
    for name, age in days.items():
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (time.time() - age * 86_400,) * 2)
    began = datetime.now(UTC) - timedelta(days=10)
    with contextlib.closing(open_store(home.settings)) as store:
        store.start_run(home.job, "manual__1", 1, began)
        lease = store.acquire_lease(home.job, "a run", 600)

        def deleted() -> int:
            capsys.readouterr()
            look_after_tables(
                home.settings,
                [Task.ORPHANS],
                tables=("shop.users",),
                job=None,
                every=False,
                dry_run=False,
                as_json=True,
            )
            return int(json.loads(capsys.readouterr().out)["orphans"]["deleted"])

        assert deleted() == 1
        assert (folder / "during.parquet").exists()
        store.release_lease(lease)
        assert deleted() == 1


@pytest.mark.parametrize(
    ("tables", "job", "every", "error", "message"),
    [
        ((), None, False, ConfigurationFailed, "which tables are meant"),
        (("shop.users",), None, True, ConfigurationFailed, "which tables are meant"),
        (("shop.nobody",), None, False, NotFound, "There is no table 'shop.nobody'"),
        (("users",), None, False, NotFound, "There is no table 'users'"),
        ((), uuid4(), False, NotFound, "job"),
    ],
)
def test_tables_that_are_not_named_well(
    home: Home,
    tables: tuple[str, ...],
    job: UUID | None,
    every: bool,
    error: type[AirbergError],
    message: str,
) -> None:
    """The error says what is wrong."""
    with pytest.raises(error, match=message):
        look_after_tables(
            home.settings, [Task.REPORT], tables=tables, job=job, every=every, dry_run=True, as_json=False
        )


def test_a_catalog_that_is_away_may_be_tried_again(home: Home) -> None:
    """The exit code says so."""
    done = home.run(
        "upkeep", "shop.users", AIRBERG_CATALOG__PROPERTIES='{"type": "rest", "uri": "http://127.0.0.1:9"}'
    )
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("error: ")


def test_a_wrong_setting_is_named(home: Home) -> None:
    """Before anything is done."""
    done = home.run("upkeep", "--all", AIRBERG_UPKEEP__ORPHAN_AGE_DAYS="0.5")
    assert done.returncode == 2
    assert "AIRBERG_UPKEEP__ORPHAN_AGE_DAYS" in done.stdout


def test_what_a_killed_upkeep_left_behind_goes(home: Home) -> None:
    """Old temporary folders only: another upkeep may be running."""
    spill = home.settings.upkeep_spill_dir
    old, young = spill / "upkeep-old", spill / "upkeep-young"
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "000000.arrow").write_bytes(b"x")
    long_ago = time.time() - 3 * 86_400
    os.utime(old, (long_ago, long_ago))
    assert home.run("compact", "--all").returncode == 0
    assert not old.exists()
    assert young.exists()


def test_a_polite_end(home: Home) -> None:
    """SIGTERM, as an orchestrator sends it: the table has its rows, whatever had been done by then."""
    process = subprocess.Popen(
        [sys.executable, "-m", "airberg.cli", "tables", "upkeep", "--all"],
        env=home.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    time.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode in (0, 143, -signal.SIGTERM)
    assert names(home.table) == [(n, f"n{n}") for n in range(10)]
    assert home.run("upkeep", "--all").returncode == 0
    assert len(data_paths(home.table)) == 1
