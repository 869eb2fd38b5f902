"""Who merges, and how each is started."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.contenders import PEERS_PYTHON, ContenderFailed
from benchmarks.deployment import ROOT
from benchmarks.measure import run_measured
from benchmarks.merging.cases import DLT, DLT_MERGED, PYICEBERG, Case
from benchmarks.merging.table import FormatVersion, Seed

LONGEST_S = 900.0


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to merge.

    Attributes:
        title: For readers.
        module: The program, below `benchmarks.contend`.
        version: Format version of the table that it merges into.
        options: Told to the program.
        python: Its interpreter.
        compacts: Its merges leave deletes, and Airberg's compaction is measured behind them.
        available: Whether what it needs is installed.
        slow: It takes a quarter of an hour: measured only when it is named.
    """

    title: str
    module: str
    version: FormatVersion = "2"
    options: Mapping[str, str] = field(default_factory=dict)
    python: Path = Path(sys.executable)
    compacts: bool = False
    available: Callable[[], bool] = lambda: True
    slow: bool = False


def _airberg(title: str, delete_format: str, version: FormatVersion = "2") -> Contender:
    return Contender(
        f"Airberg, {title}",
        "merge_airberg",
        version,
        {"delete_format": delete_format},
        compacts=delete_format != "copy-on-write",
    )


def _dlt(title: str, built: str, *, slow: bool = False) -> Contender:
    return Contender(
        f"dlt merge, upsert, {title}",
        "merge_dlt",
        options={"built": built},
        python=PEERS_PYTHON,
        available=PEERS_PYTHON.exists,
        slow=slow,
    )


CONTENDERS = {
    "airberg_position": _airberg("position deletes", "position"),
    "airberg_vector": _airberg("deletion vectors", "vector", "3"),
    "airberg_copy_on_write": _airberg("copy-on-write", "copy-on-write"),
    PYICEBERG: Contender("pyiceberg Table.upsert", "merge_pyiceberg"),
    DLT: _dlt("into a table that it wrote at once", "at once"),
    DLT_MERGED: _dlt("into a table that it built by merging", "by merging", slow=True),
}


@dataclass(frozen=True, slots=True)
class Merged:
    """What a contender did.

    Attributes:
        figures: Runs and memory, for the result.
        metadata: The metadata file of the table that its last merge left.
        versions: Of its libraries.
    """

    figures: dict[str, Any]
    metadata: str
    versions: dict[str, str]


def merge(contender: Contender, case: Case, seed: Seed, changes: Path, folder: Path, rounds: int) -> Merged:
    """Let a contender merge in a process of its own.

    Raises:
        ContenderFailed: It did not.
    """
    task = {
        "seed": msgspec.to_builtins(seed),
        "changes": str(changes),
        "key": case.key,
        "rounds": rounds,
        **contender.options,
    }
    longest_s = LONGEST_S * 2 if contender.slow else LONGEST_S
    said, tree_mb = run_program(contender.python, contender.module, folder, task, longest_s)
    figures = {
        "runs": said["runs"],
        "peak_mb": said["peak_mb"],
        "idle_mb": said["idle_mb"],
        "peak_tree_mb": tree_mb,
    }
    return Merged(figures, said["metadata"], said["versions"])


def compact(metadata: str, folder: Path) -> tuple[dict[str, Any], str]:
    """Let Airberg compact a table in a process of its own; the figures, and its metadata file then.

    Raises:
        ContenderFailed: It did not.
    """
    said, _ = run_program(Path(sys.executable), "compact_airberg", folder, {"metadata": metadata})
    return said["run"] | {"peak_mb": said["peak_mb"]}, said["metadata"]


def run_program(
    python: Path, module: str, folder: Path, task: dict[str, Any], longest_s: float = LONGEST_S
) -> tuple[dict[str, Any], float]:
    """Run a program of `benchmarks.contend`; what it said, and the peak of its process tree in MB."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    described = folder / "task.json"
    described.write_text(json.dumps({"out": str(folder / "out"), **task}))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AIRBERG_")}
    environment |= {"DO_NOT_TRACK": "1", "RUNTIME__DLTHUB_TELEMETRY": "false"}
    measured = run_measured(
        [python, "-m", f"benchmarks.contend.{module}", described],
        log=folder / "output.log",
        environment=environment,
        cwd=ROOT,
        timeout_s=longest_s,
    )
    last = measured.output.strip().rpartition("\n")[2]
    if measured.exit_code or not last.startswith("{"):
        raise ContenderFailed("\n".join(measured.output.splitlines()[-12:]))
    return json.loads(last), measured.peak_tree_mb
