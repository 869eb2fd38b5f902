"""Faults that are not kills: full disks, catalogs that refuse or are not heard, two runs at once, SIGTERM."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from pyiceberg.exceptions import ForbiddenError

from airberg.errors import ConfigurationFailed, TransientFailed
from airberg.jobs.model import Job, RunStatus
from airberg.lake.note import read_note
from airberg.lake.steps import Step
from airberg.settings import SyncSettings
from support.chaos_episode import Ground, Kill, connectors_in, cursor_of, rows_of, start_run
from support.chaos_source import ChaosStream, Mode
from support.conditions import eventually
from support.deployment import Deployment, write_scenario
from support.full_disk import FullDisk
from support.lake_tables import FaultyCatalog, fail_after, fail_before, sql_catalog

SHARED: list[tuple[Mode, bool]] = [("append", True), ("append", False), ("merge", True), ("overwrite", False)]


@pytest.fixture
def ground(tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path) -> Ground:
    """A deployment that makes a checkpoint at every state."""
    (tmp_path / "tmp").mkdir()
    often = SyncSettings(checkpoint_seconds=0.0, batch_rows=10)
    return Ground(Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir, often), tmp_path / "tmp")


class Load:
    """A job over two streams, and what its tables must hold."""

    def __init__(self, ground: Ground, folder: Path, mode: Mode, shares_state: bool, **stream: Any) -> None:
        self.ground = ground
        self.folder = folder
        self.streams = [ChaosStream(name, mode) for name in ("a", "b")]
        for each in self.streams:
            each.grow(random.Random(each.name), 60)
        described = [each.described(30) | stream for each in self.streams]
        read = {"in_turns": 30, "at": stream.get("at", [])} if shares_state else {}
        path = write_scenario(folder, {"streams": described, "read": read})
        self.job: Job = ground.deployment.job(path, mode)
        self.log = folder / "log.txt"

    def run(self, attempt: int) -> None:
        """A run in this process."""
        self.ground.deployment.run(self.job, "run-1", attempt)

    def start(self, run_id: str, kill: Kill | None = None, mark: Path | None = None) -> Any:
        """A run as a process of its own."""
        return start_run(self.ground, self.job.id, run_id, 1, self.log, kill, mark)

    def cursors(self) -> list[int | None]:
        """Where the tables' notes say that the streams were left; checks that they hold what is covered."""
        found = []
        for stream in self.streams:
            table = self.ground.deployment.table(stream.name)
            note = read_note(table, str(self.job.id), self.ground.deployment.parts.sealer)
            found.append(cursor_of(note, stream.name))
            assert rows_of(table) in stream.allowed(found[-1]), self.text()
        return found

    def check(self) -> None:
        """The tables hold the source."""
        for stream in self.streams:
            assert rows_of(self.ground.deployment.table(stream.name)) == stream.final(), self.text()

    def text(self) -> str:
        """What the processes said."""
        return self.log.read_text() if self.log.exists() else ""


def use(ground: Ground, catalog: Any) -> Any:
    """Let the runs in this process use another catalog."""
    ground.deployment.catalog = catalog
    ground.deployment.parts = replace(ground.deployment.parts, catalog=catalog)
    return catalog


@pytest.fixture
def faulty(ground: Ground) -> Iterator[FaultyCatalog]:
    """A catalog that fails on demand."""
    catalog = use(ground, sql_catalog(ground.deployment.home, FaultyCatalog))
    yield catalog
    catalog.close()


# ---- storage and catalog -----------------------------------------------------------------------------------


@pytest.fixture
def full_disk(ground: Ground) -> Iterator[None]:
    """Storage that can be full."""
    io = {"py-io-impl": "support.full_disk.FullDisk"}
    catalog = use(ground, sql_catalog(ground.deployment.home, **io))
    yield
    FullDisk.leave(None)
    catalog.close()


@pytest.mark.chaos
@pytest.mark.parametrize(("mode", "shares_state"), SHARED)
def test_a_full_disk(ground: Ground, tmp_path: Path, full_disk: None, mode: Mode, shares_state: bool) -> None:
    """Wherever the disk is full first, the run fails; with room again, the next attempt is exact."""
    load = Load(ground, tmp_path, mode, shares_state)
    failures = 0
    for attempt in range(1, 40):
        FullDisk.leave(15_000 * attempt)
        try:
            load.run(attempt)
        except TransientFailed:
            failures += 1
        else:
            break
        tables = {name[-1] for name in ground.deployment.catalog.list_tables(("shop",))}
        if tables == {"a", "b"}:
            load.cursors()
    load.check()
    assert failures


@pytest.mark.chaos
@pytest.mark.parametrize(("mode", "shares_state"), SHARED)
def test_a_catalog_that_refuses(
    ground: Ground, tmp_path: Path, faulty: FaultyCatalog, mode: Mode, shares_state: bool
) -> None:
    """A person has to act: no retry is asked for. What was committed stays, and the next run is exact."""
    load = Load(ground, tmp_path, mode, shares_state)
    faulty.faults = [None, *[fail_before(ForbiddenError("read only"))] * 20]
    with pytest.raises(ConfigurationFailed, match="read only"):
        load.run(1)
    faulty.faults = []
    load.cursors()
    load.run(2)
    load.check()


@pytest.mark.chaos
@pytest.mark.parametrize(("mode", "shares_state"), SHARED)
def test_a_catalog_whose_answers_are_lost(
    ground: Ground, tmp_path: Path, faulty: FaultyCatalog, mode: Mode, shares_state: bool
) -> None:
    """Every commit lands and none is confirmed: the run looks, and goes on."""
    load = Load(ground, tmp_path, mode, shares_state)
    faulty.faults = [fail_after(ConnectionError("reset"))] * 50
    load.run(1)
    assert faulty.commits >= 2
    load.check()


@pytest.mark.chaos
@pytest.mark.parametrize(("mode", "shares_state"), SHARED)
@pytest.mark.parametrize("landed", [True, False])
def test_a_catalog_that_is_gone_in_the_middle_of_a_commit(
    ground: Ground, tmp_path: Path, faulty: FaultyCatalog, mode: Mode, shares_state: bool, landed: bool
) -> None:
    """Nobody knows whether the commit landed: its files stay, and the next attempt goes on from what is."""
    load = Load(ground, tmp_path, mode, shares_state)

    def goes_away(commit: Callable[[], Any]) -> Any:
        if landed:
            commit()
        faulty.loads_fail = True
        raise ConnectionError("reset")

    faulty.faults = [None, goes_away]
    with pytest.raises(TransientFailed) as error:
        load.run(1)
    assert error.value.code == "commit-outcome-unknown"
    faulty.loads_fail, faulty.faults = False, []
    load.cursors()
    load.run(2)
    load.check()


# ---- two runs at once --------------------------------------------------------------------------------------


@pytest.mark.chaos
def test_two_runs_at_once(ground: Ground, tmp_path: Path) -> None:
    """One of them works; the other sees that it lives, and leaves."""
    pauses = [{"after": n, "steps": [{"sleep": 0.5}]} for n in range(5, 60, 5)]
    load = Load(ground, tmp_path, "append", True, at=pauses)
    with load.start("run-1") as one, load.start("run-2") as other:
        codes = sorted((one.wait(timeout=120), other.wait(timeout=120)))
    assert codes == [0, 99], load.text()
    load.check()
    assert ground.deployment.store.lease(load.job.id) is None


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("mode", "shares_state", "step"),
    [
        ("append", True, Step.SENDING),
        ("append", True, Step.BETWEEN_TABLES),
        ("append", False, Step.SENDING),
        ("merge", False, Step.PLANNED),
        ("overwrite", False, Step.SENDING),
    ],
)
def test_a_run_that_lost_its_lease_in_the_middle_of_a_commit(
    ground: Ground, tmp_path: Path, mode: Mode, shares_state: bool, step: Step
) -> None:
    """It stands still while another run takes over and completes. Then it wakes up, and commits nothing."""
    load = Load(ground, tmp_path, mode, shares_state)
    mark = tmp_path / "paused"
    with load.start("run-1", Kill("pause", step, 1), mark) as slow:
        try:
            eventually(mark.exists)
            with load.start("run-2") as quick:
                assert quick.wait(timeout=120) == 0, load.text()
            load.check()
        finally:
            slow.send_signal(signal.SIGCONT)
        assert slow.wait(timeout=120) == 99, load.text()
    load.check()
    assert list(connectors_in(ground.tmp)) == []


# ---- being asked to stop -----------------------------------------------------------------------------------


@pytest.mark.chaos
@pytest.mark.parametrize("shares_state", [True, False])
def test_sigterm(ground: Ground, tmp_path: Path, shares_state: bool) -> None:
    """What was checkpointed stays, the connector goes with all its processes, and the next run goes on."""
    pids = tmp_path / "pids"
    hangs = [{"fork": 600, "pids": str(pids)}, {"sleep": 600}]
    at = [{"after": 50, "once": str(tmp_path / "hung"), "steps": hangs}]
    load = Load(ground, tmp_path, "append", shares_state, at=at)
    with load.start("run-1") as run:
        eventually(lambda: pids.exists() and any(committed(load)))
        run.send_signal(signal.SIGTERM)
        assert run.wait(timeout=60) == 143, load.text()
    eventually(lambda: is_gone(int(pids.read_text())))
    assert list(connectors_in(ground.tmp)) == []
    assert list(ground.tmp.iterdir()) == []
    assert any(load.cursors())
    assert ground.deployment.store.runs(load.job.id)[0].status is RunStatus.CANCELLED
    with load.start("run-2") as run:
        assert run.wait(timeout=60) == 0, load.text()
    load.check()


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("mode", "shares_state", "step"),
    [
        ("overwrite", False, Step.SENDING),
        ("append", True, Step.BETWEEN_TABLES),
        ("merge", False, Step.PLANNED),
    ],
)
def test_sigterm_during_the_last_commits(
    ground: Ground, tmp_path: Path, mode: Mode, shares_state: bool, step: Step
) -> None:
    """The source was read to its end: the commits are made, the run is complete, the lease is given back."""
    rarely = ground.deployment.settings.sync.model_copy(update={"checkpoint_seconds": 600.0})
    object.__setattr__(ground.deployment.settings, "sync", rarely)
    load = Load(ground, tmp_path, mode, shares_state)
    mark = tmp_path / "asked"
    with load.start("run-1", Kill("ask", step, 1), mark) as run:
        assert run.wait(timeout=120) == 0, load.text()
    assert mark.exists()
    load.check()
    assert ground.deployment.store.runs(load.job.id)[0].status is RunStatus.COMPLETED
    assert ground.deployment.store.lease(load.job.id) is None


def is_gone(pid: int) -> bool:
    """Whether a process has ended; who should take note of it may not have done so yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def committed(load: Load) -> list[int | None]:
    """The cursors in the notes, nothing while the tables are not there."""
    catalog = load.ground.deployment.catalog
    there = [catalog.table_exists(("shop", stream.name)) for stream in load.streams]
    return load.cursors() if all(there) else []
