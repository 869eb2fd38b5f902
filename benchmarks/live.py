"""What a sync costs beside its connector, with the real source-faker: `results/live.json`.

    python -m benchmarks.live [--quick]

The connector alone, writing to the null device, and a whole `airberg sync` of the same stream take turns. The
sync counts from the start of its connector; what comes before (`startup_s`) is counted and taken apart.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from airberg.settings import Settings
from airberg.sources.launch import LaunchDescription, resolve
from airberg.sources.registry import load_registry
from benchmarks.deployment import SETUP_WITHIN_S, Deployment, SyncRun
from benchmarks.recording import WORK
from benchmarks.report import Target, arguments, ratio, say, write
from benchmarks.startup import slowest_imports, steps

SOURCE = "source-faker"
USERS = 100_000
QUICK_USERS = 2_000
ROUNDS = 3
STREAM = "users"
TARGETS = {"sync_over_connector": Target(high=1.05), "startup_s": Target(high=3.0)}


class Connector:
    """source-faker as Airberg installs it, started without Airberg."""

    def __init__(self, settings: Settings, config: dict[str, Any], stream: dict[str, Any]) -> None:
        entry = load_registry(settings).find(SOURCE)
        deadline = time.monotonic() + SETUP_WITHIN_S
        self.launch: LaunchDescription = resolve(entry, settings, deadline=deadline)
        self._environment = dict(os.environ) | self.launch.env
        self._config = config
        self._catalog = {
            "streams": [
                {
                    "stream": stream,
                    "sync_mode": "incremental",
                    "destination_sync_mode": "append",
                    "cursor_field": stream["default_cursor_field"],
                    "primary_key": stream["source_defined_primary_key"],
                    "generation_id": 0,
                    "minimum_generation_id": 0,
                    "sync_id": 1,
                }
            ]
        }

    def alone(self) -> float:
        """Seconds of a read whose output goes nowhere."""
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            subprocess.run(
                self._argv(Path(folder)),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env=self._environment,
                check=True,
            )
            return time.perf_counter() - begun

    def until_first_record(self) -> float:
        """Seconds until the connector has written its first record."""
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            with subprocess.Popen(
                self._argv(Path(folder)),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env=self._environment,
            ) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    if b'"RECORD"' in line[:40]:
                        break
                seconds = time.perf_counter() - begun
                process.kill()
        return seconds

    def _argv(self, folder: Path) -> list[str]:
        files = {"config": self._config, "catalog": self._catalog, "state": []}
        options: list[str] = []
        for name, content in files.items():
            path = folder / f"{name}.json"
            path.write_text(json.dumps(content))
            options += [f"--{name}", str(path)]
        return [*self.launch.argv, "read", *options]


def sync(deployment: Deployment, config: dict[str, Any], schema: str) -> SyncRun:
    """One `airberg sync`."""
    job = deployment.job(SOURCE, config, schema, streams=(STREAM,))
    measured, run = deployment.sync(job.id)
    # The connector is the one process that the sync starts; an installation or a discovery came before.
    return SyncRun(measured, run, measured.children[-1])


def run(options: argparse.Namespace) -> int:
    """Measure; returns the exit code."""
    begun = time.monotonic()
    config = {"count": QUICK_USERS if options.quick else USERS, "seed": 42}
    home = WORK / "live"
    deployment = Deployment(home)
    first = deployment.job(SOURCE, config, "first", streams=(STREAM,))
    assert first.plan is not None
    connector = Connector(deployment.settings, config, first.plan.streams[0].catalog_stream)
    connector.until_first_record()  # compiles what the connector uses
    alone: list[float] = []
    syncs: list[SyncRun] = []
    for number in range(1 if options.quick else ROUNDS):
        alone.append(connector.alone())
        syncs.append(sync(deployment, config, f"round_{number}"))
        say(
            f"connector alone {alone[-1]:.1f} s, sync {syncs[-1].engine_s:.1f} s "
            f"after a start of {syncs[-1].startup_s:.1f} s"
        )
    environment = deployment.environment()
    startup = statistics.median(s.startup_s for s in syncs)
    rows = [sum(r.rows_written for r in s.run.report.streams) for s in syncs]
    breakdown = {
        "until_connector_s": [round(s.startup_s, 2) for s in syncs],
        "first_record_of_connector_s": round(connector.until_first_record(), 2),
        "steps_ms": steps(sys.executable, home, environment),
        "slowest_imports_ms": slowest_imports(sys.executable, home, environment),
    }
    shutil.rmtree(home, ignore_errors=True)
    whole = statistics.median(s.engine_s for s in syncs)
    write(
        "live",
        options,
        ratios={
            "sync_over_connector": ratio(whole, statistics.median(alone)),
            "sync_with_startup_over_connector": ratio(whole + startup, statistics.median(alone)),
            "startup_s": round(startup, 2),
        },
        targets=TARGETS,
        found_versions={SOURCE: connector.launch.version},
        figures={
            "stream": STREAM,
            "users": config["count"],
            "connector_s": [round(s, 2) for s in alone],
            "sync_s": [round(s.engine_s, 2) for s in syncs],
            "sync_cpu_s": [round(s.measured.cpu_s, 2) for s in syncs],
            "peak_process_mb": [s.measured.peak_process_mb for s in syncs],
            "rows_written": rows,
            "startup": breakdown,
            "seconds": round(time.monotonic() - begun, 1),
        },
    )
    equal = all(r == config["count"] for r in rows)
    if not equal:
        say(f"NOT EQUAL: {rows} rows were written")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(run(arguments(__doc__).parse_args()))
