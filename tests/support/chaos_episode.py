"""One episode of the chaos tests: a job whose runs are killed again and again until they complete.

Each run is a real `airberg sync` with a real connector process. After each kill the tables must hold what
their notes say; in the end they must hold the source, and nothing may be left behind.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import psutil
from pyiceberg.table import Table

from airberg.jobs.model import Job
from airberg.lake.note import Note, read_note
from airberg.lake.steps import Step
from support.chaos_source import ChaosStream, Mode, Row
from support.deployment import SCRIPTED, Deployment, write_scenario
from support.duckdb_reader import duckdb_rows

CHILD = Path(__file__).with_name("chaos_child.py")
LEASE_S = 1.5
STATE_EVERY = 30
RECORDS = (60, 100)
WHO = ("sync", "connector", "both")
SHAPES: tuple[tuple[Mode, bool], ...] = (
    ("append", False),
    ("append", True),
    ("append", True),
    ("merge", False),
    ("merge", True),
    ("overwrite", False),
    ("append-full", False),
)
"""Modes, and whether the streams share a state."""

Unit: TypeAlias = tuple[Step | None, ...]
ANYWHERE: tuple[Unit, ...] = (
    (Step.ROWS_STAGED,),
    (None,),
    (Step.FILES_CLOSING,),
    (Step.FILES_CLOSED,),
    (None,),
    (Step.PLANNED,),
    (Step.MANIFESTS_WRITTEN,),
    (None,),
    (Step.SENDING,),
    (Step.LANDED,),
    (None,),
    (Step.SETTLED,),
)
"""Places to kill at; None is a record or a time. A unit's kills come one run after the other."""
SHARED: tuple[Unit, ...] = (
    (Step.PROMISED,),
    (Step.BETWEEN_TABLES, Step.COMPLETING),
    (Step.LANDED, Step.COMPLETING, Step.COMPLETED),
    (Step.BETWEEN_TABLES, Step.LANDED, Step.COMPLETED),
)
"""Places that only exist where tables share a state."""


@dataclass(frozen=True)
class Kill:
    """How a run is to be killed.

    Attributes:
        who: `sync`, `connector` or `both`; `pause` stops the sync instead (only at a step).
        step: At which step of a checkpoint; None for elsewhere.
        n: At the how many-th time; without a step, after how many records; 0 for after a time.
        seconds: After which time, where neither is given.
    """

    who: str
    step: Step | None = None
    n: int = 0
    seconds: float = 0.0

    @property
    def where(self) -> str:
        """For the summary."""
        return self.step or ("a record" if self.n else "a time")


@dataclass
class Ground:
    """What a worker's episodes share.

    Attributes:
        tmp: Temporary folder of the runs: nothing may be left in it.
        kills: Kills so far, by who and where.
        missed: Kills that came too late: the run was over, or never reached the step.
        longest_s: About the time that a run takes.
    """

    deployment: Deployment
    tmp: Path
    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    missed: int = 0
    runs: int = 0
    longest_s: float = 4.0

    def environment(self) -> dict[str, str]:
        """Of the runs."""
        settings = self.deployment.settings
        mine = {
            "AIRBERG_HOME": str(settings.home),
            "AIRBERG_SYNC__CHECKPOINT_SECONDS": str(settings.sync.checkpoint_seconds),
            "AIRBERG_SYNC__LEASE_SECONDS": str(LEASE_S),
            "AIRBERG_SYNC__BATCH_ROWS": "10",
            "AIRBERG_SOURCES__CONNECTORS_DIR": str(settings.connectors_dir),
            "AIRBERG_SOURCES__PYAIRBYTE_DIR": str(settings.sources.pyairbyte_dir),
            "TMPDIR": str(self.tmp),
        }
        return {k: v for k, v in os.environ.items() if not k.startswith("AIRBERG_")} | mine


def start_run(
    ground: Ground,
    job_id: UUID,
    run_id: str,
    attempt: int,
    log: Path,
    kill: Kill | None = None,
    mark: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start `airberg sync`, that is to be killed at a step if `kill` names one."""
    command = ["sync", str(job_id), "--flow-run-id", run_id, "--attempt", str(attempt)]
    if kill is not None and kill.step is not None:
        argv = [sys.executable, str(CHILD), kill.who, kill.step, str(kill.n), str(mark), *command]
    else:
        argv = [sys.executable, "-m", "airberg.cli", *command]
    with log.open("ab") as out:
        out.write(f"\n== {command} {kill}\n".encode())
        out.flush()
        return subprocess.Popen(argv, stdout=out, stderr=out, env=ground.environment())


class Episode:
    """One job, from its first run to its last.

    Args:
        ground: Where it takes place.
        rng: Decides everything but the timing.
        name: Of its schema.
        turn: Which places to kill at come first: all shall have their turn.
    """

    def __init__(self, ground: Ground, rng: random.Random, name: str, turn: int) -> None:
        self.ground = ground
        self.rng = rng
        self.name = name
        self.mode, self.shares_state = rng.choice(SHAPES)
        units = ANYWHERE if not self.shares_state else (*SHARED, *ANYWHERE)
        places = [step for unit in (*units, *units)[turn % len(units) :] for step in unit]
        self.places = itertools.cycle(places)
        self.streams = [ChaosStream(name, self.mode) for name in ("a", "b", "c")[: rng.randint(2, 3)]]
        self.folder = ground.deployment.home.parent / name
        self.folder.mkdir()
        self.log = self.folder / "log.txt"
        self.job: Job | None = None
        self.attempt = 0
        self.run_number = 1

    def __str__(self) -> str:
        return f"episode {self.name}: {self.mode}, {'one state' if self.shares_state else 'states'}"

    @property
    def commits_at_the_end(self) -> bool:
        """Whether nothing is committed before the source was read to its end."""
        return self.mode in ("overwrite", "append-full")

    def play(self, kills: int, enough: Callable[[], bool]) -> None:
        """Two generations of the source, each read to its end after some kills; fewer when it is enough."""
        for part in (kills - kills // 2, kills // 2):
            for stream in self.streams:
                stream.grow(self.rng, self.rng.randint(*RECORDS))
            self.write_scenario(None)
            if self.job is None:
                mode = self.mode.removesuffix("-full")
                path = self.folder / "scenario.json"
                self.job = self.ground.deployment.job(path, mode, schema_name=self.name)
            self.run_number, self.attempt = self.run_number + 1, 0
            completed = False
            for _ in range(part):
                if completed or enough():
                    break
                self.next_run(self.rng.random() < 0.25)
                completed = self.killed_run(self.any_kill(next(self.places)))
            if not completed:
                self.complete()
            self.check_complete()

    def any_kill(self, step: Step | None) -> Kill:
        """A kill at a step, or at a record or a time when there is none."""
        rng = self.rng
        who = rng.choice(WHO)
        if step is None and rng.random() < 0.5:
            return Kill(who, n=rng.randint(1, RECORDS[0]))
        if step is None:
            return Kill(who, seconds=self.ground.longest_s * rng.uniform(0.3, 0.9))
        if step in (Step.COMPLETING, Step.COMPLETED):
            return Kill("sync", step, 1)
        if step is Step.ROWS_STAGED:
            return Kill(who, step, rng.randint(1, 12))
        if self.commits_at_the_end:
            return Kill("sync", step, rng.randint(1, 2))  # the connector has ended
        if self.shares_state and step in (Step.BETWEEN_TABLES, Step.LANDED):
            return Kill(rng.choice(("sync", "both")), step, 1)
        return Kill(who, step, rng.randint(1, 5))

    # ---- runs --------------------------------------------------------------------------------------------

    def write_scenario(self, kill: Kill | None) -> None:
        """The source, with the kill at a record if there is one, and pauses that give kills time to hit."""
        hooks: list[dict[str, Any]] = [{"after": n, "steps": [{"sleep": 0.05}]} for n in range(20, 300, 20)]
        if kill is not None and kill.step is None and kill.n:
            signals = {"sync": ["kill_parent"], "connector": ["kill"], "both": ["kill_parent", "kill"]}
            steps = [{name: int(signal.SIGKILL)} for name in signals[kill.who]]
            hooks.append({"after": kill.n, "once": str(self.mark), "steps": steps})
        streams = [stream.described(STATE_EVERY) for stream in self.streams]
        if self.shares_state:
            read: dict[str, Any] = {"in_turns": STATE_EVERY, "at": hooks}
        else:
            read = {}
            for stream in streams:
                stream["at"] = hooks
        write_scenario(self.folder, {"streams": streams, "read": read})

    @property
    def mark(self) -> Path:
        """Made by whoever kills."""
        return self.folder / "killed"

    def next_run(self, another: bool) -> None:
        """The next attempt of the run, or another run: what a full copy adds must not be added again."""
        if another and self.mode != "append-full":
            self.run_number, self.attempt = self.run_number + 1, 0
        self.attempt += 1

    def start(self, kill: Kill | None) -> subprocess.Popen[bytes]:
        """Start a run."""
        assert self.job is not None
        self.ground.runs += 1
        run_id = f"run-{self.run_number}"
        return start_run(self.ground, self.job.id, run_id, self.attempt, self.log, kill, self.mark)

    def killed_run(self, kill: Kill) -> bool:
        """One run that is killed; whether it completed nevertheless."""
        self.mark.unlink(missing_ok=True)
        self.write_scenario(kill)
        with self.start(kill) as run:
            if kill.seconds:
                self.kill_after(run, kill)
            code = run.wait(timeout=120)
        if self.mark.exists():
            self.ground.kills[kill.who, kill.where] += 1
        else:
            self.ground.missed += 1
        assert code in (0, 1, 99, -signal.SIGKILL), f"{self}: exit code {code}\n{self.tail()}"
        self.check_connectors()
        self.check_tables()
        return code == 0

    def kill_after(self, run: subprocess.Popen[bytes], kill: Kill) -> None:
        """Kill from outside after a time, unless the run is over."""
        time.sleep(kill.seconds)
        if run.poll() is not None:
            return
        try:
            connectors = psutil.Process(run.pid).children(recursive=True) if kill.who != "sync" else []
        except psutil.NoSuchProcess:
            return  # it ended just now
        if kill.who == "connector" and not connectors:
            return
        self.mark.touch()
        for connector in connectors:
            with contextlib.suppress(psutil.NoSuchProcess):
                connector.kill()
        if kill.who != "connector":
            run.kill()

    def complete(self) -> None:
        """Runs without kills, until one completes."""
        self.write_scenario(None)
        for _ in range(5):
            self.next_run(self.rng.random() < 0.25)
            began = time.monotonic()
            with self.start(None) as run:
                code = run.wait(timeout=120)
            if code == 0:
                self.ground.longest_s = 0.5 * self.ground.longest_s + 0.5 * (time.monotonic() - began)
                return
            assert code == 99, f"{self}: exit code {code}\n{self.tail()}"  # the lease of the killed one
        raise AssertionError(f"{self}: it does not complete\n{self.tail()}")

    # ---- checks ------------------------------------------------------------------------------------------

    def check_tables(self) -> None:
        """Each table holds what its note says."""
        for stream in self.streams:
            table = self.table(stream.name)
            if table is None:
                continue
            note = self.note(table)
            held = cursor_of(note, stream.name)
            assert rows_of(table) in stream.allowed(held), f"{self}, {stream.name}, {note}\n{self.tail()}"

    def check_complete(self) -> None:
        """Tables, their snapshots and notes are those of the whole source, and nothing is left behind."""
        assert self.job is not None
        store = self.ground.deployment.store
        for stream in self.streams:
            table = self.table(stream.name)
            assert table is not None
            where = f"{self}, {stream.name}\n{self.tail()}"
            assert rows_of(table) == stream.final(), where
            note = self.note(table)
            assert note is not None, where
            assert note.complete, where
            if stream.mode in ("append", "merge"):
                assert cursor_of(note, stream.name) == len(stream.records), where
            self.check_snapshots(stream, table)
            if self.rng.random() < 0.2:
                found = sorted((row["id"], row["v"], row["text"]) for row in duckdb_rows(table))
                assert found == stream.final(), where
        assert store.lease(self.job.id) is None, f"{self}: the lease is held"
        left = [*self.ground.tmp.iterdir(), *self.ground.deployment.home.glob("spill/*")]
        assert left == [], f"{self}: {left} is left behind"
        self.check_connectors()

    def check_snapshots(self, stream: ChaosStream, table: Table) -> None:
        """No snapshot ever showed rows that are not those of a state."""
        seen = [rows_of(table, snapshot.snapshot_id) for snapshot in table.snapshots()]
        if stream.mode in ("append", "merge"):
            states = [stream.rows_after(n) for n in range(len(stream.records) + 1)]
            assert all(rows in states for rows in seen), f"{self}, {stream.name}\n{self.tail()}"
        else:
            assert len(seen) <= self.run_number, f"{self}, {stream.name}: {len(seen)} snapshots"

    def check_connectors(self) -> None:
        """No connector of this ground lives on; the kernel may need a moment to end one."""
        deadline = time.monotonic() + 10
        while found := list(connectors_in(self.ground.tmp)):
            assert time.monotonic() < deadline, f"{self}: {found} still runs"
            time.sleep(0.05)

    def table(self, name: str) -> Table | None:
        """A table of the job, if it was made yet."""
        catalog = self.ground.deployment.catalog
        return catalog.load_table((self.name, name)) if catalog.table_exists((self.name, name)) else None

    def note(self, table: Table) -> Note | None:
        """The job's note in a table."""
        assert self.job is not None
        return read_note(table, str(self.job.id), self.ground.deployment.parts.sealer)

    def tail(self) -> str:
        """The end of what the runs have said."""
        return self.log.read_text(errors="replace")[-6000:]


def rows_of(table: Table, snapshot_id: int | None = None) -> list[Row]:
    """The rows of a table, sorted."""
    found = table.scan(snapshot_id=snapshot_id).to_arrow()
    columns = [found.column(name).to_pylist() for name in ("id", "v", "text")]
    return sorted(zip(*columns, strict=True))


def cursor_of(note: Note | None, stream: str) -> int | None:
    """Where a note says that a stream was left."""
    if note is None or note.state is None:
        return None
    state = json.loads(note.state)
    parts = state["global"]["stream_states"] if "global" in state else [state["stream"]]
    found = [p["stream_state"].get("cursor") for p in parts if p["stream_descriptor"]["name"] == stream]
    return found[0] if found else None


def connectors_in(folder: Path) -> Iterator[str]:
    """Connectors whose working folder is below a folder."""
    for process in psutil.process_iter():
        try:
            if str(SCRIPTED) in process.cmdline() and Path(process.cwd()).is_relative_to(folder):
                yield f"{process.pid} {process.status()}"
        except (psutil.Error, OSError):
            continue
