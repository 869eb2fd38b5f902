"""What the HTTP service costs: `results/api.json`.

    python -m benchmarks.api [--quick] [--postgresql URL]

Start-up and memory are those of `airberg serve`. Under load is the same service with the orchestrator's twin
in memory, over a store with 10,000 jobs and 1,000,000 runs: 50 clients ask for 60 seconds, for the list of
jobs and for new ones (`?preflight=skip`: a source takes as long as it takes); then one client alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from airberg.flows.credentials import ensure_credentials
from airberg.identity.development import DevelopmentIssuer
from airberg.jobs.migrate import upgrade
from airberg.keys.kek import ensure_master_key
from airberg.settings import Settings, load_settings
from benchmarks.recording import WORK
from benchmarks.report import Target, arguments, ratio, say, write
from benchmarks.serving.store import OWNERS, fill, owner

JOBS, RUNS = 10_000, 1_000_000
QUICK_JOBS, QUICK_RUNS = 200, 2_000
CLIENTS = 50
SECONDS = 60.0
ALONE_SECONDS = 10.0
STARTS = 5
TARGETS = {
    "startup_s": Target(high=1.5),
    "rss_mb": Target(high=120),
    "post_alone_p50_ms": Target(high=50),
}
"""The last is design's: a POST answers in under 50 ms beside its preflight."""


def environment(home: Path, port: int, database: str | None) -> dict[str, str]:
    """All variables of the service."""
    given = {k: v for k, v in os.environ.items() if not k.startswith("AIRBERG_")}
    own = {"AIRBERG_HOME": str(home), "AIRBERG_API__PORT": str(port), "AIRBERG_UPKEEP__ENABLED": "false"}
    if database:
        own["AIRBERG_STORE_URL"] = database
    return given | own


def memory_mb(pid: int) -> float:
    """Resident memory of a process, as it is now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return round(int(status.split("VmRSS:")[1].split()[0]) / 1024, 1)


@contextlib.contextmanager
def service(
    argv: Sequence[str], settings: Settings, variables: dict[str, str]
) -> Iterator[tuple[int, float]]:
    """A service that answers: its process id, and the seconds from its start to its first answer."""
    log = (settings.home / "service.log").open("ab")
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *argv], env=variables, stdout=log, stderr=log)
    try:
        yield process.pid, _first_answer(settings, process) - begun
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        log.close()


def _first_answer(settings: Settings, process: subprocess.Popen[bytes]) -> float:
    with httpx.Client(base_url=settings.api_url, trust_env=False, timeout=5) as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if client.get("/api/health/live").status_code == httpx.codes.OK:
                    return time.perf_counter()
            if process.poll() is not None:
                raise RuntimeError(f"the service ended with {process.returncode}; see service.log")
            time.sleep(0.01)


def starts(settings: Settings, variables: dict[str, str], count: int) -> dict[str, list[float]]:
    """Start `airberg serve` some times, each after the other."""
    seconds, memory = [], []
    for _ in range(count):
        with service(["airberg.cli", "serve"], settings, variables) as (pid, took):
            seconds.append(round(took, 3))
            memory.append(memory_mb(pid))
        say(f"started in {seconds[-1]:.2f} s, {memory[-1]:.0f} MB")
    return {"startup_s": seconds, "rss_mb": memory}


def load(settings: Settings, kind: str, clients: int, seconds: float) -> dict[str, Any]:
    """Let clients ask, in a process of their own."""
    issuer = DevelopmentIssuer(settings)
    scopes = ("ingest:read", "ingest:write")
    tokens = [issuer.mint(owner(n), scopes, email=owner(n)) for n in range(OWNERS)]
    argv = [settings.api.host, str(settings.api.port), str(clients), str(seconds)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving.clients", *argv],
        input=json.dumps({"kind": kind, "tokens": tokens}),
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 60,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    say(f"{kind} by {clients}: {result}")
    return result


def run(options: argparse.Namespace) -> int:
    """Measure; returns the exit code."""
    begun = time.monotonic()
    home = WORK / "api"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    variables = environment(home, options.port, options.postgresql)
    os.environ.update({k: v for k, v in variables.items() if k.startswith("AIRBERG_")})
    settings = load_settings()
    ensure_master_key(settings)
    ensure_credentials(settings)
    upgrade(settings.database_url)
    jobs, runs = (QUICK_JOBS, QUICK_RUNS) if options.quick else (JOBS, RUNS)
    fill(settings, jobs, runs)
    say(f"the store has {jobs:,} jobs and {runs:,} runs after {time.monotonic() - begun:.0f} s")
    started = starts(settings, variables, 1 if options.quick else STARTS)
    seconds, alone = (2.0, 1.0) if options.quick else (SECONDS, ALONE_SECONDS)
    figures: dict[str, Any] = {}
    with service(["benchmarks.serving.service"], settings, variables) as (pid, _):
        for kind in ("get_jobs", "post_job"):
            figures[f"{kind}_alone"] = load(settings, kind, 1, alone)
            figures[kind] = load(settings, kind, CLIENTS, seconds)
        figures["rss_mb_after_load"] = memory_mb(pid)
    write(
        "api",
        options,
        ratios={
            "startup_s": round(statistics.median(started["startup_s"]), 2),
            "rss_mb": round(statistics.median(started["rss_mb"]), 1),
            "post_alone_p50_ms": figures["post_job_alone"]["p50_ms"],
            "get_p99_over_p50": ratio(figures["get_jobs"]["p99_ms"], figures["get_jobs"]["p50_ms"]),
            "post_p99_over_p50": ratio(figures["post_job"]["p99_ms"], figures["post_job"]["p50_ms"]),
        },
        targets=TARGETS,
        found_versions={},
        figures={
            "store": {"database": settings.database_url.split(":")[0], "jobs": jobs, "runs": runs},
            "starts": started,
            "clients": CLIENTS,
            "load": figures,
            "seconds": round(time.monotonic() - begun, 1),
        },
    )
    shutil.rmtree(WORK, ignore_errors=True)
    good = {"get_jobs": {"200"}, "post_job": {"201"}}
    wrong = {k: f["statuses"] for k, f in figures.items() if isinstance(f, dict)}
    bad = {k: s for k, s in wrong.items() if set(s) - good[k.removesuffix("_alone")]}
    if bad:
        say(f"NOT ALL ANSWERS WERE GOOD: {bad}")
    return 1 if bad else 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    known = arguments(__doc__)
    known.add_argument("--port", type=int, default=18_000, help="of the loopback, for the service")
    known.add_argument("--postgresql", metavar="URL", help="an empty database to use instead of SQLite")
    return known


if __name__ == "__main__":
    sys.exit(run(parser().parse_args()))
