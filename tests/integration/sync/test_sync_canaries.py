"""The plaintext of protected columns, and secrets, are nowhere: real runs, every byte that they leave.

Each run is a process of its own with its temporary folder below the test's. After each, whether it completed,
failed or was killed, everything is searched: home (tables, job store, archive, spilled keys, metadata), logs,
temporary and working folders.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from airberg.identity.development import DevelopmentIssuer
from airberg.jobs.model import Job, Run
from airberg.lake.steps import Step
from airberg.settings import SyncSettings
from support.canaries import Canaries, Hit
from support.canary_source import MERGED, RULES, accounts, noise, people, quoting
from support.chaos_episode import CHILD
from support.deployment import Deployment, write_scenario


@dataclass
class Ground:
    """A deployment whose processes write nowhere else, and a source that lies outside of it.

    Attributes:
        canaries: Of protected columns and secrets.
        others: Of columns that are not protected: those must be found.
    """

    folder: Path
    deployment: Deployment
    canaries: Canaries = field(default_factory=Canaries)
    others: Canaries = field(default_factory=Canaries)
    runs: int = 0

    def __post_init__(self) -> None:
        for folder in (self.source, self.temporary, self.logs, self.working):
            folder.mkdir()

    @property
    def source(self) -> Path:
        """Holds the canaries themselves: not searched."""
        return self.folder / "source"

    @property
    def temporary(self) -> Path:
        """`TMPDIR` of all processes."""
        return self.folder / "tmp"

    @property
    def logs(self) -> Path:
        """What processes print."""
        return self.folder / "logs"

    @property
    def working(self) -> Path:
        """Working folder of all processes: where they would dump core."""
        return self.folder / "work"

    def found(self, canaries: Canaries) -> list[str]:
        """Where canaries are, anywhere but in the source: one line a hit."""
        hits = canaries.in_folders(self.deployment.home, self.temporary, self.logs, self.working)
        return [str(hit).replace(f"{self.folder}/", "") for hit in hits]

    def job(self, scenario: dict[str, Any], mode: str, rules: list[dict[str, str]], **members: Any) -> Job:
        """A job that plays a scenario, with secrets in its configuration."""
        path = write_scenario(self.source, scenario, f"{mode}.json")
        password = self.canaries.text("secret", rest=f'/"{mode}')
        return self.deployment.job(
            path, mode, schema_name=mode, password=password, column_transformations=rules, **members
        )

    def command(
        self, verb: str, job: Job | UUID, kill: tuple[str, Step, int] | None = None, **settings: str
    ) -> int:
        """Run a command of ours to its end; its exit code."""
        job_id = job if isinstance(job, UUID) else job.id
        self.runs += verb == "sync"
        command = [verb, str(job_id), "--flow-run-id", f"run-{self.runs}"]
        mark = self.folder / f"mark-{self.runs}"
        argv = [sys.executable, "-m", "airberg.cli", *command]
        if kill is not None:
            argv = [sys.executable, str(CHILD), kill[0], kill[1], str(kill[2]), str(mark), *command]
        with (self.logs / f"{self.runs}-{verb}.log").open("wb") as log:
            code = subprocess.run(
                argv, stdout=log, stderr=log, env=self.environment(settings), cwd=self.working, check=False
            ).returncode
        assert kill is None or mark.exists(), "the run ended before it was killed"
        return code

    def unsealed(self, token: str) -> str:
        """What `airberg unseal` prints of the last log; nothing of it is kept."""
        newest = max(self.logs.iterdir(), key=lambda file: file.stat().st_mtime_ns)
        command = [sys.executable, "-m", "airberg.cli", "unseal", str(newest)]
        settings = self.environment({"token": token})
        return subprocess.run(command, capture_output=True, text=True, env=settings, check=False).stdout

    def environment(self, settings: dict[str, str]) -> dict[str, str]:
        """Of all processes; logs tell as much as they can."""
        mine = {
            "AIRBERG_HOME": str(self.deployment.home),
            "AIRBERG_LOG_LEVEL": "DEBUG",
            "AIRBERG_SYNC__CHECKPOINT_SECONDS": "0",
            "AIRBERG_SYNC__LEASE_SECONDS": "1",
            "AIRBERG_SYNC__BATCH_ROWS": "5",
            "AIRBERG_SOURCES__CONNECTORS_DIR": str(self.deployment.connectors_dir),
            "AIRBERG_SOURCES__PYAIRBYTE_DIR": str(self.deployment.pyairbyte_dir),
            "TMPDIR": str(self.temporary),
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith("AIRBERG_")}
        return kept | mine | {f"AIRBERG_{k.upper()}": v for k, v in settings.items()}

    def log(self) -> str:
        """What the last process printed."""
        return max(self.logs.iterdir(), key=lambda file: file.stat().st_mtime_ns).read_text()

    def newest_run(self, job: Job) -> Run:
        """As the job store has it."""
        run = self.deployment.store.find_run(job.id, f"run-{self.runs}")
        assert run is not None
        return run


def in_memory(canaries: Canaries) -> list[Hit]:
    """Canaries in private folders of connectors that lie in memory; those of other tests come and go."""
    hits: list[Hit] = []
    for file in Path("/dev/shm").glob("airberg-run-*/*"):
        with contextlib.suppress(OSError):
            hits += canaries.in_bytes(file.read_bytes(), str(file))
    return hits


@pytest.fixture
def ground(tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path) -> Ground:
    """An empty one."""
    deployment = Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir, SyncSettings())
    return Ground(tmp_path, deployment)


@pytest.mark.parametrize("reader", ["compiled", "python"])
def test_append(ground: Ground, reader: str) -> None:
    """A connector that talks about its records, with values that fit nowhere, and completes."""
    stream = people(ground.canaries, ground.others, 6, at=[{"after": 4, "steps": noise(ground.canaries)}])
    beside = {"name": "beside", "cursor": "n", "records": [{"n": 1}], "counts": False}
    compiled = "true" if reader == "compiled" else "false"
    read = {"global_state": reader == "python"}  # then the state is in the other table, too
    scenario = {"streams": [stream, beside], "read": read}
    job = ground.job(scenario, "append", RULES, archive_staging=True)
    assert ground.command("sync", job, sync__compiled_reader=compiled) == 0, ground.log()
    assert ground.found(ground.canaries) == []
    others = "\n".join(ground.found(ground.others))
    for place in (".parquet", "-m0.avro", ".jsonl.zst"):  # they were looked into
        assert place in others, place
    rows = ground.deployment.table("people", "append").scan().to_arrow()
    assert rows.num_rows == 13
    [changes] = [row["_airbyte_meta"]["changes"] for row in rows.to_pylist() if row["id"] == 99]
    assert [(c["field"], c["change"], c["reason"]) for c in changes] == [
        ("town", "TRUNCATED", ""),
        ("profile", "", "SOURCE_OTHER"),
    ]


def test_failures(ground: Ground) -> None:
    """A connector that quotes a record in its error; a line that is broken; streams that are not found."""
    canaries = ground.canaries
    error = {
        "message": quoting(canaries, "error"),
        "internal_message": quoting(canaries, "internal"),
        "failure_type": "system_error",
        "stream_descriptor": {"name": quoting(canaries, "stream of an error")},
    }
    words = [{"trace_error": error}, {"stderr": quoting(canaries, "stderr")}, {"leak": "trace"}, {"exit": 3}]
    line = '{"type":"RECORD","record":{"stream":"people","data":{"email":"' + canaries.text("broken line")
    stream = people(ground.canaries, ground.others, 2)
    job = ground.job({"streams": [stream | {"at": [{"after": 2, "steps": words}]}]}, "append", RULES)
    path = ground.source / "append.json"

    assert ground.command("sync", job) == 1
    assert ground.found(canaries) == []
    run = ground.newest_run(job)
    assert run.error == (
        "[sealed: see the run's log]. The connector ended with exit code 3; its last words: "
        "[sealed: see the run's log] Nothing after the last checkpoint was kept; the next attempt goes on "
        "from there."
    )
    keys = ground.deployment.keys
    keys.allow("default", actor="test", owners=frozenset({"ann@example.com"}), roles=frozenset())
    refused = ground.unsealed("")
    assert "for its owners and roles only" in refused
    assert canaries.in_text(refused, "refused") == []
    kept = [line.message for line in ground.deployment.store.run_logs.read(run.id)]
    assert sum("airberg-sealed:" in message for message in kept) >= 2  # searched above, in the job store
    opened = ground.unsealed(DevelopmentIssuer(ground.deployment.settings).mint("ann@example.com", [], 600))
    for name in ("error", "stderr"):
        assert str(canaries.planted[name]) in opened, name
    entry = keys.audit("default")[0]
    assert (entry.action, entry.detail) == ("decrypt", f"log of job {job.id}")
    assert "ann@example.com" in entry.actor
    keys.allow("default", actor="test", owners=frozenset(), roles=frozenset())

    broken = {"after": 2, "steps": [{"line": line}]}
    write_scenario(path.parent, {"streams": [stream | {"at": [broken]}]}, path.name)
    assert ground.command("sync", job) == 1
    assert ground.found(canaries) == []
    assert ground.newest_run(job).error_code == "malformed-message"

    write_scenario(path.parent, {"discover": {"steps": words}}, path.name)
    assert ground.command("sync", job, sources__rediscover_after_s="0") == 1
    assert ground.found(canaries) == []
    assert "[sealed" in str(ground.newest_run(job).error)


def test_overwrite(ground: Ground) -> None:
    """Killed in the middle and right before its commit; then complete, and registered."""
    puts_aside = [{"temporary": quoting(ground.canaries, "temporary file of a killed run")}]
    stream = people(ground.canaries, ground.others, 6, at=[{"after": 1, "steps": puts_aside}])
    job = ground.job({"streams": [stream]}, "overwrite", RULES, archive_staging=True)
    for step, n in ((Step.ROWS_STAGED, 1), (Step.SENDING, 1)):
        assert ground.command("sync", job, kill=("sync", step, n)) < 0
        assert ground.found(ground.canaries) == []
    assert ground.command("sync", job) == 0, ground.log()
    assert ground.command("register", job) == 0, ground.log()
    assert list((ground.deployment.home / "metadata").rglob("*.json"))
    assert ground.found(ground.canaries) == []


def test_merge(ground: Ground) -> None:
    """Insert, update and delete by an encrypted key, killed on the way."""
    job = ground.job({"streams": [accounts(ground.canaries, dict.fromkeys(range(10), 1))]}, "merge", MERGED)
    assert ground.command("sync", job) == 0, ground.log()
    assert ground.found(ground.canaries) == []
    changed = accounts(ground.canaries, dict.fromkeys(range(5, 15), 2), frozenset({6, 7}))
    write_scenario(ground.source, {"streams": [changed]}, "merge.json")
    for step in (Step.PLANNED, Step.MANIFESTS_WRITTEN):
        assert ground.command("sync", job, kill=("both", step, 1)) < 0
        assert ground.found(ground.canaries) == []
    assert ground.command("sync", job) == 0, ground.log()
    assert ground.found(ground.canaries) == []
    assert in_memory(ground.canaries) == []
    assert ground.deployment.table("accounts", "merge").scan().to_arrow().num_rows == 13


def test_spilled_keys(ground: Ground) -> None:
    """Keys of a merge that do not fit into memory: what lies on disk when the run is killed."""
    fields = {
        "iban": ground.canaries.text("iban") + "$i",
        "branch": ground.others.text("branch") + "$i",
        "version": "$i",
    }
    stream = {
        "name": "many",
        "primary_key": [["iban"], ["branch"]],
        "cursor": "version",
        "generate": {"count": 105_000, "fields": fields},
        "state_every": 1_000_000,
    }
    job = ground.job({"streams": [stream]}, "merge", MERGED[:1])
    sizes = {"sync__key_memory_mb": "16", "sync__batch_rows": "50000"}
    assert ground.command("sync", job, kill=("sync", Step.FILES_CLOSED, 1), **sizes) < 0
    assert ground.found(ground.canaries) == []
    assert ground.others.in_folders(ground.deployment.home / "spill")
