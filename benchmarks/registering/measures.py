"""What is measured of the deployment at one number of jobs."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from airberg.identity.development import DevelopmentIssuer
from airberg.jobs.model import RunStatus
from airberg.jobs.port import JobStore
from airberg_airflow.flow_files import FEED_PATH, FlowFiles
from benchmarks.registering.airflow_database import AirflowDatabase, wait_for
from benchmarks.registering.stack import BenchStack, difference
from benchmarks.report import say
from benchmarks.serving.store import announce, owner

WITHIN_S = 120.0
POST_PATH = "/api/airbyte/ingest"
SKIP = {"preflight": "skip"}


@dataclass(frozen=True)
class Bench:
    """The deployment, its databases, a client of its API who owns the jobs."""

    stack: BenchStack
    store: JobStore
    airflow: AirflowDatabase
    api: httpx.Client


def client(stack: BenchStack) -> httpx.Client:
    """A client of the first of the owners."""
    issuer = DevelopmentIssuer(stack.settings)
    token = issuer.mint(owner(0), ("ingest:read", "ingest:write"), 6 * 3600, email=owner(0))
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=stack.settings.api_url, headers=headers, timeout=60, trust_env=False)


# ---- from a POST to a task that runs ---------------------------------------------------------------------


def post(bench: Bench, schedule: str) -> dict[str, float]:
    """Seconds from the start of a POST to each thing that follows, and the end of its run is waited for."""
    name = f"posted {uuid.uuid4()}"
    body = {
        "name": name,
        "source_name": "source-faker",
        "source_config": {"count": 10},
        "schema_name": f"posted_{uuid.uuid4().hex}",
        "mode": "append",
        "schedule": schedule,
    }
    with ThreadPoolExecutor(1) as pool:
        begun, moment = time.monotonic(), time.time()
        answering = pool.submit(_timed, lambda: bench.api.post(POST_PATH, params=SKIP, json=body))
        flow_id = wait_for(lambda: bench.airflow.flow_id(name), WITHIN_S, "a flow")
        visible = time.monotonic() - begun
        answer, answered = answering.result()
    if answer.status_code != httpx.codes.CREATED:
        raise RuntimeError(f"the POST was answered {answer.status_code}: {answer.text}")
    started = wait_for(lambda: bench.airflow.sync_started(flow_id), WITHIN_S, "a task that runs")
    _end_runs(bench, [flow_id])
    return {
        "visible_s": round(visible, 3),
        "answered_s": round(answered - begun, 3),
        "running_s": round(started - moment, 3),
        "not_registered_at_once": int(answer.json()["error"] is not None),
    }


def posts(bench: Bench, count: int, schedule: str) -> dict[str, Any]:
    """One POST after the other; medians, the worst, every single one."""
    found = [post(bench, schedule) for _ in range(count)]
    figures: dict[str, Any] = {}
    for name in ("visible_s", "answered_s", "running_s"):
        values = [one[name] for one in found]
        figures[name] = {"median": round(statistics.median(values), 3), "worst": max(values), "all": values}
    say(", ".join(f"{n} {f['median']} (worst {f['worst']})" for n, f in figures.items()))
    return figures | {"not_registered_at_once": sum(one["not_registered_at_once"] for one in found)}


def _timed(call: Callable[[], httpx.Response]) -> tuple[httpx.Response, float]:
    answer = call()
    return answer, time.monotonic()


def _end_runs(bench: Bench, flow_ids: Sequence[str]) -> None:
    """Wait for the ends of the runs in Airflow, and report them to the job store, as a sync would have."""
    ids = list(flow_ids)
    wait_for(lambda: not bench.airflow.runs(ids, "queued", "running"), WITHIN_S, "the end of runs", 0.1)
    if failed := bench.airflow.runs(ids, "failed"):
        raise RuntimeError(f"{failed} runs of flows failed; see the logs of tasks")
    for flow_id in ids:
        job_id = UUID(flow_id.removeprefix("airberg_"))
        for run in bench.store.runs(job_id):
            if not run.status.ended:
                now = datetime.now(UTC)
                started = bench.store.start_run(job_id, run.flow_run_id, 1, now)
                bench.store.end_run(started.id, RunStatus.COMPLETED, now)


# ---- what a change, a pass, an hour and a run take -------------------------------------------------------


def one_change(bench: Bench, job_id: UUID, schedule: str) -> dict[str, Any]:
    """Change one job's schedule; which files Airflow parses for it, until some seconds afterwards."""
    moment, begun = time.time(), time.monotonic()
    answer = bench.api.patch(f"/api/jobs/{job_id}", json={"schedule": schedule})
    if answer.status_code != httpx.codes.OK:
        raise RuntimeError(f"the PATCH was answered {answer.status_code}: {answer.text}")
    job = bench.store.job(job_id)
    file = f"airberg_{job.shard:05d}.py"
    wait_for(lambda: file in bench.airflow.parsed_since(moment), WITHIN_S, "the changed flow")
    seconds = time.monotonic() - begun
    time.sleep(3.0)  # were there others to be parsed, they would have been by now
    parsed = bench.airflow.parsed_since(moment)
    expected = {file, "airberg_sentinel.py"}
    return {
        "seconds": round(seconds, 3),
        "files_parsed": parsed,
        "of_files": len(list(bench.stack.flow_files.glob("*.py"))),
        "only_its_own": set(parsed) <= expected and file in parsed,
    }


def idle(bench: Bench, seconds: float) -> dict[str, Any]:
    """CPU seconds of each part while nothing happens, in an hour."""
    before, begun = bench.stack.cpu_s(), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - begun
    used = difference(bench.stack.cpu_s(), before)
    found = {name: round(value * 3600 / took, 1) for name, value in used.items()}
    say(f"idle, CPU seconds in an hour: {found}")
    return {"window_s": round(took, 1), "cpu_s_per_hour": found}


def parse_again(bench: Bench, files: int) -> dict[str, Any]:
    """Have some files parsed that have not changed, as a pass over all of them does."""
    paths = sorted(bench.stack.flow_files.glob("airberg_0*.py"))[:files]
    before, begun, moment = bench.stack.cpu_s(), time.monotonic(), time.time()
    for path in paths:
        os.utime(path)
    names = {path.name for path in paths}
    within = WITHIN_S + 5 * files
    wait_for(lambda: names <= bench.airflow.parsed_since(moment).keys(), within, "a pass", 0.2)
    took = time.monotonic() - begun
    used = difference(bench.stack.cpu_s(), before)
    flows = sum(n for name, n in bench.airflow.parsed_since(moment).items() if name in names)
    per_flow = round(used["airflow-dag-processor"] / flows, 4)
    say(f"{flows} unchanged flows in {len(names)} files: {took:.1f} s, {per_flow} CPU seconds each")
    return {
        "files": len(names),
        "flows": flows,
        "seconds": round(took, 1),
        "cpu_s": used,
        "dag_processor_cpu_s_per_flow": per_flow,
    }


def posts_during_a_pass(bench: Bench, count: int, files: int, schedule: str) -> dict[str, Any]:
    """POSTs while many files are parsed again, those of the new flows before all others."""
    paths = sorted(bench.stack.flow_files.glob("airberg_0*.py"))[-files:]
    begun = time.time()
    for path in paths:
        os.utime(path)
    found = posts(bench, count, schedule)
    parsed = bench.airflow.parsed_since(begun).keys() & {path.name for path in paths}
    return found | {"files_of_the_pass": len(paths), "parsed_by_the_last": len(parsed)}


def triggered(bench: Bench, job_ids: Sequence[UUID]) -> dict[str, Any]:
    """CPU seconds of a run of two tasks, beyond what their command takes, which does nothing here."""
    flow_ids = [f"airberg_{job_id}" for job_id in job_ids]
    ended = bench.airflow.ended_runs(flow_ids) + len(flow_ids)
    before, begun = bench.stack.cpu_s(), time.monotonic()
    for job_id in job_ids:
        answer = bench.api.post(f"/api/jobs/{job_id}/trigger")
        if answer.status_code != httpx.codes.ACCEPTED:
            raise RuntimeError(f"a trigger was answered {answer.status_code}: {answer.text}")
    within = WITHIN_S + 10 * len(flow_ids)
    wait_for(lambda: bench.airflow.ended_runs(flow_ids) >= ended, within, "the ends of runs", 0.2)
    took = time.monotonic() - begun
    used = difference(bench.stack.cpu_s(), before)
    _end_runs(bench, flow_ids)
    say(f"{len(flow_ids)} runs in {took:.1f} s: {used}")
    per_run = {name: round(value / len(flow_ids), 3) for name, value in used.items()}
    return {"runs": len(flow_ids), "seconds": round(took, 1), "cpu_s_per_run": per_run}


# ---- the feed --------------------------------------------------------------------------------------------


def feed(bench: Bench) -> dict[str, Any]:
    """What the feed takes when something has changed, and when nothing has; and what pulling it takes."""
    token = bench.stack.credentials.bundle_token
    with (
        httpx.Client(base_url=bench.stack.settings.api_url, trust_env=False, timeout=60) as machine,
        tempfile.TemporaryDirectory() as folder,
    ):
        machine.headers["Authorization"] = f"Bearer {token}"
        changed, answers = _median_ms(
            lambda: machine.get(FEED_PATH), before=lambda: announce(bench.stack.settings)
        )
        known = {"If-None-Match": answers[-1].headers["ETag"]}
        unchanged, quiet = _median_ms(lambda: machine.get(FEED_PATH, headers=known))
        statuses = [answer.status_code for answer in (*answers, *quiet)]
        if statuses != [httpx.codes.OK] * len(answers) + [httpx.codes.NOT_MODIFIED] * len(quiet):
            raise RuntimeError(f"the feed was answered {statuses}")
        files = FlowFiles(Path(folder), bench.stack.settings.api_url, token)
        first, _ = _median_ms(files.pull, times=1)
        again, _ = _median_ms(files.pull, before=lambda: announce(bench.stack.settings))
        nothing, _ = _median_ms(files.pull)
    figures = {
        "bytes": len(answers[-1].content),
        "changed_ms": changed,
        "unchanged_ms": unchanged,
        "first_pull_ms": first,
        "pull_after_a_change_ms": again,
        "pull_unchanged_ms": nothing,
    }
    say(f"the feed: {figures}")
    return figures


def _median_ms(
    call: Callable[[], Any], *, before: Callable[[], None] | None = None, times: int = 5
) -> tuple[float, list[Any]]:
    seconds, answers = [], []
    for _ in range(times):
        if before is not None:
            before()
        begun = time.perf_counter()
        answers.append(call())
        seconds.append(time.perf_counter() - begun)
    return round(statistics.median(seconds) * 1000, 1), answers


def settle(bench: Bench, flows: int, within_s: float) -> None:
    """Wait until Airflow has so many flows of jobs."""
    last = 0.0

    def there() -> bool:
        nonlocal last
        bench.stack.check()
        if time.monotonic() - last > 20:
            last = time.monotonic()
            say(f"{bench.airflow.flows()} of {flows} flows")
        return bench.airflow.flows() >= flows

    wait_for(there, within_s, f"{flows} flows", 0.5)
