"""What flows cost, from one laptop to ten thousand jobs: `results/flows.json`.

    python -m benchmarks.flows [--quick] [--port N] [--airflow-port N]

The service and the embedded Airflow as `airberg up` has them. The number of jobs grows in one deployment: 20,
1,000, 10,000, written into the job store as rows, with daily schedules that are not due while this runs. At
each number: twenty POSTs one after the other, from the request to the flow that can be seen and to the first
task that runs; the files that are parsed after one change; CPU seconds of an idle hour, of unchanged flows
that are parsed again, and of runs; what the feed takes; memory.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airberg.flows.airflow import AirflowOrchestrator
from airberg.flows.model import flow_spec
from airberg.jobs.migrate import upgrade
from airberg.jobs.open import open_store
from airberg.keys.kek import ensure_master_key
from airberg.settings import Settings, load_settings
from airberg.stack.airflow import PARSE_AGAIN_S
from benchmarks.recording import WORK
from benchmarks.registering import measures
from benchmarks.registering.airflow_database import AirflowDatabase
from benchmarks.registering.measures import Bench
from benchmarks.registering.stack import BenchStack, difference, running_stack
from benchmarks.report import Target, arguments, say, write
from benchmarks.serving.store import JOBS_IN_A_SHARD, fill

SCALES, QUICK_SCALES = (20, 1_000, 10_000), (20, 60)
POSTS, QUICK_POSTS = 20, 2
POSTS_IN_A_PASS, QUICK_POSTS_IN_A_PASS = 5, 1
IDLE_S, QUICK_IDLE_S = 65.0, 2.0
"""Longer than the 60 seconds after which the bundle is refreshed unasked."""
PARSED_AGAIN, QUICK_PARSED_AGAIN = 50, 2
FILES_OF_A_PASS = 150
RUNS, QUICK_RUNS = 10, 2
HOURS_OF_A_DAY = 24
VISIBLE_S, RUNNING_S = 2.0, 6.0


def schedules() -> tuple[str, str]:
    """Two daily schedules that are not due within the next hours."""
    later = datetime.now(UTC) + timedelta(hours=12)
    return f"{later.minute} {later.hour} * * *", f"{later.minute} {(later.hour + 1) % HOURS_OF_A_DAY} * * *"


def deployment(home: Path, options: argparse.Namespace) -> Settings:
    """A new home, and the variables that processes of the deployment read."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    for name in [name for name in os.environ if name.startswith("AIRBERG_")]:
        if name != "AIRBERG_BENCH_DIR":
            del os.environ[name]
    os.environ.update(
        AIRBERG_HOME=str(home),
        AIRBERG_API__PORT=str(options.port),
        AIRBERG_AIRFLOW__PORT=str(options.airflow_port),
        AIRBERG_UPKEEP__ENABLED="false",
    )
    settings = load_settings()
    ensure_master_key(settings)
    upgrade(settings.database_url)
    return settings


def grow(bench: Bench, jobs: int, schedule: str) -> dict[str, Any]:
    """Write jobs into the store until there are so many, and have Airflow parse their flows."""
    living = len(bench.store.flow_jobs())
    first = -(-living // JOBS_IN_A_SHARD) * JOBS_IN_A_SHARD
    now = datetime.now(UTC)
    made = fill(bench.stack.settings, jobs - living, 0, first=first, schedule=schedule, created=now)
    before, begun = bench.stack.cpu_s(), time.monotonic()
    settings = bench.stack.settings
    with contextlib.closing(AirflowOrchestrator(settings, bench.stack.credentials)) as orchestrator:
        orchestrator.publish(flow_spec(made[-1], settings), 20.0)
    measures.settle(bench, jobs, 120.0 + jobs / 5)
    took = time.monotonic() - begun
    used = difference(bench.stack.cpu_s(), before)
    say(f"{jobs} jobs; {len(made)} new flows are parsed after {took:.0f} s: {used}")
    return {"new_flows": len(made), "seconds": round(took, 1), "cpu_s": used}


def at_scale(
    bench: Bench, jobs: int, options: argparse.Namespace, *, first: bool, last: bool
) -> dict[str, Any]:
    """All figures at one number of jobs."""
    quick = options.quick
    schedule, another = schedules()
    figures: dict[str, Any] = {"jobs": jobs, "first_parse": grow(bench, jobs, schedule)}
    if first:
        figures["first_post"] = measures.post(bench, schedule)  # Airflow imports what its first task needs
    figures["posts"] = measures.posts(bench, QUICK_POSTS if quick else POSTS, schedule)
    ours = [job.id for job in bench.store.flow_jobs() if job.request.name.startswith("posted")]
    # The newest, which has `schedule`: a change to what a job has already is none.
    figures["one_change"] = measures.one_change(bench, ours[-1], another)
    say(f"one change: {figures['one_change']}")
    figures["triggered"] = measures.triggered(bench, ours[-(QUICK_RUNS if quick else RUNS) :])
    figures["feed"] = measures.feed(bench)
    if last:
        figures["idle"] = measures.idle(bench, QUICK_IDLE_S if quick else IDLE_S)
    figures["parsed_again"] = measures.parse_again(bench, QUICK_PARSED_AGAIN if quick else PARSED_AGAIN)
    if last:
        count = QUICK_POSTS_IN_A_PASS if quick else POSTS_IN_A_PASS
        files = QUICK_PARSED_AGAIN if quick else FILES_OF_A_PASS
        figures["posts_during_a_pass"] = measures.posts_during_a_pass(bench, count, files, schedule)
    figures["memory_mb"] = bench.stack.memory_mb()
    say(f"memory: {figures['memory_mb']}")
    figures["airflow_database_mb"] = bench.airflow.size_mb()
    if "idle" in figures:
        figures["daily_cpu_s_per_hour"] = hour_of_daily_jobs(figures)
    return figures


def hour_of_daily_jobs(figures: dict[str, Any]) -> dict[str, float]:
    """CPU seconds of an hour in which each job runs once a day: idling, parsing again, runs."""
    jobs = figures["jobs"]
    idle = figures["idle"]["cpu_s_per_hour"]
    parsing = jobs * figures["parsed_again"]["dag_processor_cpu_s_per_flow"] * 3600 / PARSE_AGAIN_S
    per_run = figures["triggered"]["cpu_s_per_run"]
    runs = jobs / HOURS_OF_A_DAY
    parts = {
        "idle_airflow": idle["airflow"],
        "idle_api": idle["api"],
        "parsing": parsing,
        "runs_scheduler": runs * per_run["airflow-scheduler"],
        "runs_api_server": runs * per_run["airflow-api-server"],
    }
    return {name: round(value, 1) for name, value in (parts | {"all": sum(parts.values())}).items()}


def ratios(scales: list[dict[str, Any]]) -> dict[str, float]:
    """Medians and worst times of each number of jobs."""
    return {
        f"{name}_s_{kind}_{scale['jobs']}": scale["posts"][f"{name}_s"][kind]
        for scale in scales
        for name in ("visible", "running")
        for kind in ("median", "worst")
    }


def targets(found: dict[str, float]) -> dict[str, Target]:
    """What was aimed at, for each of them."""
    return {name: Target(high=VISIBLE_S if name.startswith("visible") else RUNNING_S) for name in found}


def run(options: argparse.Namespace) -> int:
    """Measure; returns the exit code."""
    begun = time.monotonic()
    settings = deployment(WORK / "flows", options)
    scales = options.jobs or (QUICK_SCALES if options.quick else SCALES)
    figures: list[dict[str, Any]] = []
    with running_stack(settings) as stack, contextlib.closing(open_store(settings)) as store:
        started = stack.start()
        say(f"all parts work after {started:.1f} s")
        with measures.client(stack) as api, contextlib.closing(AirflowDatabase(stack.database)) as airflow:
            bench = Bench(stack, store, airflow, api)
            figures += [
                at_scale(bench, jobs, options, first=jobs == scales[0], last=jobs == scales[-1])
                for jobs in scales
            ]
        versions = airflow_version(stack)
    found = ratios(figures)
    write(
        "flows",
        options,
        ratios=found,
        targets=targets(found),
        found_versions=versions,
        figures={
            "start_s": round(started, 1),
            "scales": figures,
            "seconds": round(time.monotonic() - begun, 1),
        },
    )
    shutil.rmtree(WORK, ignore_errors=True)
    others = [scale["jobs"] for scale in figures if not scale["one_change"]["only_its_own"]]
    if others:
        say(f"AFTER ONE CHANGE OTHER FILES WERE PARSED, at {others} jobs")
    return 1 if others else 0


def airflow_version(stack: BenchStack) -> dict[str, str]:
    """Of the installed Airflow."""
    [found] = (stack.settings.home / "airflow" / "venv").glob(
        "lib/*/site-packages/apache_airflow-*.dist-info"
    )
    return {"airflow": found.name.removeprefix("apache_airflow-").removesuffix(".dist-info")}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    known = arguments(__doc__)
    known.add_argument("--port", type=int, default=18_010, help="of the loopback, for the service")
    known.add_argument("--airflow-port", type=int, default=18_011, help="of the loopback, for Airflow")
    known.add_argument("--jobs", type=int, nargs="+", help="numbers of jobs, growing")
    return known


if __name__ == "__main__":
    sys.exit(run(parser().parse_args()))
