"""The contenders: how each is started, and what came out of it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from airberg.lake.tables import find_table
from benchmarks.deployment import REPLAY, ROOT, Deployment, pyairbyte_dir
from benchmarks.dialects import duckdb_type, quoted
from benchmarks.measure import Measured, run_measured
from benchmarks.recording import Recording

Size = Literal["all", "block", "part"]
THREADS = 2
PEERS_PYTHON = ROOT / ".build" / "bench-env" / "bin" / "python"


class ContenderFailed(Exception):
    """A contender did not load the lines."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One load.

    Attributes:
        seconds: Of the load itself: without interpreter, imports and connecting.
        measured: The whole process tree.
        tables: Where the rows of each stream are: `files`, or `database`, `schema` and `table`; `snapshots`.
        versions: Of its libraries.
        startup_s: Airberg alone: from the start of the process to that of the connector.
    """

    seconds: float
    measured: Measured
    tables: dict[str, dict[str, Any]]
    versions: dict[str, str]
    startup_s: float | None = None

    def figures(self, recording: Recording) -> dict[str, Any]:
        """What is written down of one run."""
        counts = self.tables.values()
        return {
            "seconds": round(self.seconds, 3),
            "rows_per_s": round(recording.total_rows / self.seconds),
            "mb_per_s": round(recording.total_bytes / self.seconds / 1e6, 1),
            "wall_s": round(self.measured.wall_s, 3),
            "rows_per_s_whole_process": round(recording.total_rows / self.measured.wall_s),
            "cpu_s": round(self.measured.cpu_s, 2),
            "rows_per_cpu_s": round(recording.total_rows / self.measured.cpu_s),
            "peak_tree_mb": self.measured.peak_tree_mb,
            "peak_process_mb": self.measured.peak_process_mb,
            "snapshots": sum(t.get("snapshots", 0) for t in counts),
            "data_files": sum(len(t.get("files", ())) for t in counts),
            **({} if self.startup_s is None else {"startup_s": round(self.startup_s, 2)}),
        }


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to load the lines.

    Attributes:
        name: Its name in the results.
        title: For readers.
        load: Loads a recording; the folder is its to fill.
        size: How much it loads: `all` (the block, repeated), `block`, or `part` (fewer rows than a block).
        available: Whether what it needs is installed.
    """

    name: str
    title: str
    load: Callable[[Recording, Path], Outcome]
    size: Size = "all"
    available: Callable[[], bool] = lambda: True


def airberg(recording: Recording, folder: Path) -> Outcome:
    """`airberg sync` with a connector that replays the lines."""
    deployment = Deployment(folder)
    done = deployment.replay(recording, "bench")
    if {s.stream: s.rows_written for s in done.run.report.streams} != recording.rows:
        raise ContenderFailed(f"airberg reports other rows than {recording.rows}")
    tables = {}
    for stream in done.run.report.streams:
        table = find_table(deployment.catalog, ("bench",), stream.table)
        assert table is not None
        files = [t.file.file_path.removeprefix("file://") for t in table.scan().plan_files()]
        tables[stream.stream] = {"files": files, "snapshots": len(table.metadata.snapshots)}
    return Outcome(done.engine_s, done.measured, tables, {}, done.startup_s)


def program(
    argv: list[str | Path], *, given: Callable[[Recording, Path], dict[str, Any]] | None = None
) -> Callable[[Recording, Path], Outcome]:
    """A contender that is a program of its own, told what to do by a file, which prints its result last."""

    def load(recording: Recording, folder: Path) -> Outcome:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        task = _task(recording, folder) | (given(recording, folder) if given else {})
        described = folder / "task.json"
        described.write_text(json.dumps(task))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AIRBERG_")}
        environment |= {
            "AIRBYTE_OFFLINE_MODE": "1",
            "DO_NOT_TRACK": "1",
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            **{
                f"AIRBYTE_{name}": str(folder)
                for name in ("PROJECT_DIR", "CACHE_ROOT", "LOGGING_ROOT", "TEMP_DIR")
            },
        }
        log = folder / "output.log"
        measured = run_measured([*argv, described], log=log, environment=environment, cwd=ROOT)
        last = measured.output.strip().rpartition("\n")[2]
        if measured.exit_code or not last.startswith("{"):
            raise ContenderFailed("\n".join(measured.output.splitlines()[-12:]))
        said = json.loads(last)
        return Outcome(said["seconds"], measured, said["tables"], said["versions"])

    return load


def _task(recording: Recording, folder: Path) -> dict[str, Any]:
    streams = {}
    for name, fields in recording.fields().items():
        members = ", ".join(f"{quoted(f.name)} {duckdb_type(f.type)}" for f in fields)
        streams[name] = {
            "file": str(recording.records_of(name)),
            "repeat": recording.repeat,
            "columns": [quoted(f.name) for f in fields],
            "type": f"STRUCT({members})",
            "fields": msgspec.to_builtins(fields),
        }
    return {"out": str(folder / "out"), "threads": THREADS, "streams": streams}


def _replayed(recording: Recording, folder: Path) -> dict[str, Any]:
    """For PyAirbyte, which starts the same connector."""
    config = {
        "catalog": str(recording.catalog),
        "files": [str(recording.messages)],
        "repeat": recording.repeat,
        "began": str(folder / "began"),
    }
    return {"connector": str(REPLAY), "config": config}


def contenders() -> tuple[Contender, ...]:
    """All of them, Airberg first."""
    here = ROOT / "benchmarks" / "contend"
    peers = PEERS_PYTHON.exists
    dlt: list[str | Path] = [PEERS_PYTHON, here / "dlt_iceberg.py"]
    return (
        Contender("airberg", "Airberg", airberg),
        Contender(
            "duckdb_copy", "DuckDB COPY", program([sys.executable, "-m", "benchmarks.contend.duckdb_copy"])
        ),
        Contender(
            "pyarrow_append",
            "pyarrow.json + pyiceberg append",
            program([sys.executable, "-m", "benchmarks.contend.pyarrow_append"]),
        ),
        Contender(
            "pyairbyte",
            "PyAirbyte, DuckDB cache",
            program([pyairbyte_dir() / "bin" / "python", here / "pyairbyte_cache.py"], given=_replayed),
            size="part",
        ),
        Contender(
            "dlt_rows",
            "dlt, Iceberg, rows",
            program(dlt, given=lambda *_: {"input": "rows"}),
            size="part",
            available=peers,
        ),
        Contender(
            "dlt_arrow",
            "dlt, Iceberg, Arrow",
            program(dlt, given=lambda *_: {"input": "arrow"}),
            size="block",
            available=peers,
        ),
    )
