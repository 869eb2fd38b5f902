"""What telling DataHub of a run with a hundred tables costs: `results/governance.json`.

    python -m benchmarks.governance [--quick]

A double of DataHub's metadata service runs in a process of its own, new for each round, so what is measured
is our side and the way: requests, bytes, seconds, memory. What a real service needs to store it all is not.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyiceberg.catalog import Catalog

from airberg.lake.catalog import open_catalog
from airberg.settings import load_settings
from benchmarks.governing.emit import CONTENDERS
from benchmarks.governing.service import Served, served
from benchmarks.governing.tables import NAMESPACE, iceberg_schema, table_names
from benchmarks.measure import run_measured
from benchmarks.recording import WORK
from benchmarks.report import Target, arguments, medians, ratio, say, write

TABLES, MANY_TABLES, WIDTH = 100, 400, 20
QUICK_TABLES, QUICK_MANY, QUICK_WIDTH = 20, 40, 6
ROUNDS = 5
BEHIND = {"airberg_openapi": {"AIRBERG_DATAHUB__TRANSPORT": "openapi"}, "airberg_files": {}}
TARGETS = {
    "requests": Target(high=1),
    "one_by_one_over_airberg": Target(low=2),
    "peak_mb": Target(high=250),
    "peak_many_over_peak": Target(high=1.25),
}


def environment(home: Path) -> dict[str, str]:
    """All variables of a contender, but for where DataHub is."""
    given = {k: v for k, v in os.environ.items() if not k.startswith(("AIRBERG_", "DATAHUB_"))}
    # DataHub's client writes into the home folder, and tells its makers.
    return given | {
        "AIRBERG_HOME": str(home),
        "HOME": str(home),
        "DATAHUB_TELEMETRY_ENABLED": "false",
    }


def make_tables(catalog: Catalog, count: int, width: int) -> None:
    """Tables without rows: what is told of rows is numbers."""
    catalog.create_namespace(NAMESPACE)
    schema = iceberg_schema(width)
    for name in table_names(count):
        catalog.create_table((NAMESPACE, name), schema, properties={"comment": f"All of {name}"})


def tell(contender: str, tables: int, width: int, variables: dict[str, str], home: Path) -> dict[str, Any]:
    """One contender, once, in a new process."""
    argv = [sys.executable, "-m", "benchmarks.governing.emit", contender, str(tables), str(width)]
    root = Path(__file__).parents[1]
    done = run_measured(argv, log=home / f"{contender}.log", environment=variables, cwd=root)
    if done.exit_code:
        raise RuntimeError(f"{contender} ended with {done.exit_code}: {done.output[-2000:]}")
    took: dict[str, Any] = json.loads(done.output.splitlines()[-1])
    return took | {"peak_mb": done.peak_process_mb, "wall_s": round(done.wall_s, 3)}


def measure(contender: str, tables: int, width: int, home: Path) -> dict[str, Any]:
    """Tell a new double of a run; what it took, what was sent, and what the double then knew."""
    variables = environment(home) | BEHIND.get(contender, {})
    if contender == "airberg_files":
        took = tell(contender, tables, width, variables, home)
        [file] = (home / "metadata").rglob("*.json")
        return took | {"requests": 0, "bytes": file.stat().st_size}
    with served(home / "double.log") as datahub:
        took = tell(contender, tables, width, variables | datahub.variables, home)
        state = datahub.state(tables)
    return took | _sent(datahub) | {"state": state}


def _sent(datahub: Served) -> dict[str, Any]:
    found = datahub.requests()
    if refused := [request for request in found if request[1] >= 400]:
        raise RuntimeError(f"the double refused {refused[0]}")
    return {"requests": len(found), "bytes": sum(size for _, _, size in found)}


def rounds(names: Sequence[str], tables: int, width: int, home: Path, count: int) -> dict[str, Any]:
    """All contenders by turns, some times."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(count):
        for name in names:
            runs[name].append(measure(name, tables, width, home))
    for name, found in runs.items():
        say(f"{name}: {medians(found)}")
    return {name: {"median": medians(found), "runs": found} for name, found in runs.items()}


def run(options: argparse.Namespace) -> int:
    """Measure; returns the exit code."""
    begun = time.monotonic()
    home = WORK / "governance"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    tables, many, width = (
        (QUICK_TABLES, QUICK_MANY, QUICK_WIDTH) if options.quick else (TABLES, MANY_TABLES, WIDTH)
    )
    os.environ.update({k: v for k, v in environment(home).items() if k.startswith("AIRBERG_")})
    make_tables(open_catalog(load_settings()), many, width)
    say(f"{many} tables are there after {time.monotonic() - begun:.0f} s")
    found = rounds(list(CONTENDERS), tables, width, home, 1 if options.quick else ROUNDS)
    more = measure("airberg", many, width, home)
    ours = found["airberg"]["median"]
    states = {
        name: sorted({one["state"] for one in f["runs"]})
        for name, f in found.items()
        if name != "airberg_files"
    }
    equal = len({state for seen in states.values() for state in seen}) == 1
    write(
        "governance",
        options,
        ratios={
            "requests": ours["requests"],
            "one_by_one_over_airberg": ratio(
                found["client_one_by_one"]["median"]["seconds"], ours["seconds"]
            ),
            "client_batches_over_airberg": ratio(
                found["client_batches"]["median"]["seconds"], ours["seconds"]
            ),
            "peak_mb": ours["peak_mb"],
            "peak_many_over_peak": ratio(more["peak_mb"], ours["peak_mb"]),
        },
        targets=TARGETS,
        found_versions={"acryl-datahub": _version()},
        figures={
            "tables": tables,
            "columns": width,
            "contenders": found,
            "many": {"tables": many} | more,
            "parity": {"equal": equal, "states": states},
            "seconds": round(time.monotonic() - begun, 1),
        },
    )
    shutil.rmtree(WORK, ignore_errors=True)
    if not equal:
        say("NOT EQUAL: contenders left different metadata behind")
    return 0 if equal else 1


def _version() -> str:
    from importlib.metadata import version

    return version("acryl-datahub")


if __name__ == "__main__":
    sys.exit(run(arguments(__doc__).parse_args()))
