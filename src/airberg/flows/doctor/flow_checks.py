"""Checks of what all is for: jobs have their flows, flows have next runs and pools, and workers can work."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import msgspec

from airberg import __version__
from airberg.flows.doctor.airflow_api import Flow, FlowRun, XCom
from airberg.flows.doctor.model import CHECKS, WORKER_PREFIX, Finding, NotFit, counted, some
from airberg.flows.doctor.ward import Ward
from airberg.flows.model import DOCTOR_ID, Spec, flow_spec, flow_url, hash_in, upkeep_spec
from airberg.jobs.model import FlowJob, flow_id_of

MOST_FLOWS = 20_000
COMPARED = 20
"""Flows whose documentation is read; each is a call of its own."""
MOST_POOLS = 100
SETTLED_WITHIN_S = 10.0
"""A change of a job may be on its way to Airflow for so long."""
POLL_S = 0.5
TASK = "look"


def check_flows(ward: Ward) -> str:
    """Compare all jobs with all flows; what differs gets a little time."""
    deadline = time.monotonic() + min(SETTLED_WITHIN_S, ward.wait_s)
    while True:
        try:
            return _compare(ward)
        except NotFit:
            if time.monotonic() >= deadline:
                raise
            time.sleep(2 * POLL_S)


def _compare(ward: Ward) -> str:
    """Compare all jobs with all flows, and some in detail."""
    found, total = ward.airflow.flows("airberg", MOST_FLOWS)
    flows = {f.dag_id: f for f in found}
    every = ward.store.flow_jobs(to_withdraw=True)
    jobs = {job.flow_id: job for job in every if job.deleted_at is None}
    if total <= len(found):
        _raise_for([i for i in jobs if i not in flows], "is not in Airflow", "are not in Airflow")
    _raise_for([i for i in jobs if i in flows and flows[i].is_stale], "is in no file", "are in no file")
    _raise_for(
        [f.dag_id for f in found if any(t.name == "airberg-broken" for t in f.tags)],
        "cannot be built by the package there",
        "cannot be built by the package there",
    )
    _raise_for(_changed(ward, jobs, flows), "has another spec than wanted", "have another spec than wanted")
    deleted = {job.flow_id for job in every} - jobs.keys()
    left = [f.dag_id for f in found if not f.is_stale and f.dag_id in deleted]
    if left:
        raise NotFit(
            f"{counted(len(left), 'flow')} of deleted jobs still there: {some(left)}.",
            "The service removes them in a while; see its log if not.",
            status="warning",
        )
    paused = [i for i, job in jobs.items() if i in flows and flows[i].is_paused != job.paused]
    if paused:
        raise NotFit(
            f"{counted(len(paused), 'flow')} paused or resumed in Airflow, not by its job: {some(paused)}.",
            "Pause and resume jobs through Airberg's API, so that both know it.",
            status="warning",
        )
    return f"{counted(len(jobs), 'job')}, each with its flow"


def _raise_for(flow_ids: list[str], one: str, more: str) -> None:
    if flow_ids:
        raise NotFit(
            f"{counted(len(flow_ids), 'flow')} {one if len(flow_ids) == 1 else more}: {some(flow_ids)}.",
            "The service registers flows every few seconds: see whether it runs, and its log.",
        )


def _changed(ward: Ward, jobs: dict[str, FlowJob], flows: dict[str, Flow]) -> list[str]:
    """Flows that Airflow has of another spec. All are compared by what was seen last, some are looked at."""
    specs: list[tuple[Spec, str | None]] = [
        (flow_spec(job, ward.settings), job.flow_hash) for job in jobs.values() if job.flow_id in flows
    ]
    differing = [spec.flow_id for spec, known in specs if known != spec.spec_hash()]
    looked_at = [spec for spec, known in specs if known == spec.spec_hash()][:COMPARED]
    upkeep = upkeep_spec(ward.settings)
    if upkeep is not None:
        looked_at.append(upkeep)
    for spec in looked_at:
        flow = ward.airflow.flow_with_text(spec.flow_id)
        if flow is None or hash_in(flow.doc_md) != spec.spec_hash():
            differing.append(spec.flow_id)
    return differing


def check_schedules(ward: Ward) -> str:
    """A flow that waits for nothing never runs again."""
    found, _ = ward.airflow.flows("airberg", MOST_FLOWS)
    running = {flow_id_of(run.job_id) for run in ward.store.open_runs()}
    scheduled = [f for f in found if f.timetable_summary and not f.is_paused and not f.is_stale]
    asleep = [f.dag_id for f in scheduled if f.next_dagrun_run_after is None and f.dag_id not in running]
    if asleep:
        raise NotFit(
            f"{counted(len(asleep), 'flow')} with a schedule and without a next run: {some(asleep)}.",
            "Airflow 3.1 forgets the next run when it parses a file during a run, until it parses it again: "
            "keep [dag_processor] min_file_process_interval small there, or use 3.2.",
            status="warning",
        )
    return f"{counted(len(scheduled), 'flow')} with a schedule"


def check_pools(ward: Ward) -> str:
    """A task whose pool is missing never starts."""
    airflow = ward.settings.airflow
    wanted = {flow_spec(job, ward.settings).pool for job in ward.store.flow_jobs()} - {None}
    wanted |= {airflow.pool, *airflow.source_pools.values()} - {None}
    names = sorted(name for name in wanted if name is not None)[:MOST_POOLS]
    missing = [n for n in names if ward.airflow.find(f"/pools/{quote(n, safe='')}", dict[str, Any]) is None]
    if missing:
        raise NotFit(
            f"{counted(len(missing), 'pool')} missing: {some(missing)}. Tasks that go there never start.",
            "Make them in Airflow (Admin, Pools), or name their slots in AIRBERG_AIRFLOW__POOL_SLOTS.",
        )
    return (
        f"all {counted(len(names), 'pool')} are there" if names else "no pools but the default one are used"
    )


# ---- the worker ------------------------------------------------------------------------------------------


def look_at_worker(ward: Ward) -> Sequence[Finding]:
    """Run the task, and take what it returns.

    Raises:
        NotFit: It did not run, or returned nothing that can be understood.
    """
    job = next(iter(ward.store.jobs(limit=1)), None)
    run_id = f"airberg__doctor-{uuid4()}"
    path = f"/dags/{DOCTOR_ID}/dagRuns"
    body = {"logical_date": None, "dag_run_id": run_id, "conf": {"job": None if job is None else str(job.id)}}
    status = ward.airflow.ask("POST", path, json=body).status_code
    if status == 404:
        raise NotFit(f"Airflow has no flow {DOCTOR_ID}.", "Install airberg-airflow of this version there.")
    if status not in (200, 201):
        raise NotFit(f"Airflow answers {status} when {DOCTOR_ID} is started.", "See Airflow's log.")
    started = time.monotonic()
    state = _ended(ward, f"{path}/{run_id}")
    if state != "success":
        raise NotFit(
            f"The task is {state} after {time.monotonic() - started:.0f} s.",
            f"See the task's log: {flow_url(ward.settings, DOCTOR_ID)}. Queued: no worker takes it.",
        )
    entry = ward.airflow.get(f"{path}/{run_id}/taskInstances/{TASK}/xcomEntries/return_value", XCom)
    return read_findings(entry.value)


def _ended(ward: Ward, path: str) -> str:
    """The last state of a run that was seen within the time."""
    deadline = time.monotonic() + ward.wait_s
    while True:
        state = ward.airflow.get(path, FlowRun).state
        if state in ("success", "failed") or time.monotonic() >= deadline:
            return state
        time.sleep(POLL_S)


def read_findings(value: object) -> Sequence[Finding]:
    """What a worker found, as far as it is of a known form.

    Raises:
        NotFit: Nothing is.
    """
    try:
        # A list of JSON texts, so that it is the command's form and not Airflow's that has to be known.
        texts = msgspec.convert(value, list[str])
        found = [msgspec.json.decode(text, type=Finding) for text in texts]
    except (msgspec.DecodeError, msgspec.ValidationError):
        found = []
    known = [f for f in found if f.check in CHECKS and f.check.startswith(WORKER_PREFIX)]
    if not known:
        raise NotFit(
            "What the task returned cannot be understood.",
            "Bring `airberg` on the workers and airberg-airflow to the service's version.",
        )
    return known


def own_version(findings: Sequence[Finding]) -> str:
    """What is said of a worker as a whole."""
    for finding in findings:
        if finding.check == "worker-command" and finding.status == "ok" and __version__ not in finding.found:
            raise NotFit(
                f"The worker has {finding.found}, the service Airberg {__version__}.",
                "Install the same version there.",
                status="warning",
            )
    return "a worker ran the task"
