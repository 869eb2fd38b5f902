"""The reconciler with many jobs: what somebody waits for comes first, and nothing holds up the others."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from airberg.flows import reconciler as module
from airberg.flows.memory import MemoryOrchestrator
from airberg.flows.model import FlowSpec, Spec, flow_spec
from airberg.flows.port import FlowRunState
from airberg.flows.reconciler import FlowReconciler
from airberg.jobs.memory import MemoryJobStore
from airberg.jobs.model import Job, RunRequest
from airberg.settings import AirflowSettings, Settings, UpkeepSettings
from support.jobs import a_job, a_run, at

SETTINGS = Settings(upkeep=UpkeepSettings(enabled=False))
OTHER_SETTINGS = Settings(
    upkeep=UpkeepSettings(enabled=False), airflow=AirflowSettings(retries=SETTINGS.airflow.retries + 1)
)


class AskedOrchestrator(MemoryOrchestrator):
    """Keeps which runs were asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def run_state(self, flow_id: str, flow_run_id: str) -> FlowRunState | None:
        """State of a run."""
        self.asked.append(flow_run_id)
        return super().run_state(flow_id, flow_run_id)


class SlowOrchestrator(MemoryOrchestrator):
    """Takes its time to register a flow, and keeps what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.gate, self.trigger_gate = threading.Event(), threading.Event(), threading.Event()
        self.asked: list[str] = []

    def publish(self, spec: Spec, wait_s: float, beside: str | None = None) -> bool:
        """Register it, when the gate is open."""
        self.asked.append("publish")
        self.entered.set()
        return self.gate.wait(20) and super().publish(spec, wait_s, beside)

    def run_state(self, flow_id: str, flow_run_id: str) -> FlowRunState | None:
        """State of a run."""
        self.asked.append("run_state")
        return super().run_state(flow_id, flow_run_id)

    def trigger(self, flow_id: str, flow_run_id: str, asked: RunRequest | None = None) -> None:
        """Queue a run."""
        self.asked.append("trigger")
        assert self.trigger_gate.wait(20)
        super().trigger(flow_id, flow_run_id, asked)


@dataclass
class Deployment:
    """Registered jobs, and the feed, in which flows may be missing.

    Attributes:
        missing: Names of jobs whose flows do not get into the feed.
    """

    store: MemoryJobStore = field(default_factory=MemoryJobStore)
    missing: set[str] = field(default_factory=set)
    settings: Settings = SETTINGS

    def __post_init__(self) -> None:
        self.orchestrator = MemoryOrchestrator(feed=self._feed)
        for number in range(5):
            self.store.add_job(a_job(f"job {number}", created_at=at(number)), {})
        FlowReconciler(self.store, self.orchestrator, SETTINGS).reconcile()
        assert self.behind() == []

    def _feed(self) -> list[FlowSpec]:
        found = self.store.flow_jobs()
        return [flow_spec(job, self.settings) for job in found if job.request.name not in self.missing]

    def restarted(self) -> FlowReconciler:
        """The reconciler of a process with other settings, with which every flow differs."""
        self.settings = OTHER_SETTINGS
        return FlowReconciler(self.store, self.orchestrator, OTHER_SETTINGS)

    def behind(self) -> list[str]:
        """Names of the jobs whose flows are not as they should be, oldest first."""
        found = self.store.flow_jobs()
        return [
            job.request.name for job in found if job.flow_hash != flow_spec(job, self.settings).spec_hash()
        ]

    def job(self, name: str) -> Job:
        """The job of that name."""
        job = self.store.find_job("ann@example.com", name)
        assert job is not None
        return job


def test_other_settings_make_all_flows_be_registered_again() -> None:
    """In one round, when the orchestrator has them; then there is nothing to do."""
    deployment = Deployment()
    reconciler = deployment.restarted()
    assert len(deployment.behind()) == 5
    assert reconciler.reconcile() == 5
    assert deployment.behind() == []
    assert reconciler.reconcile() == 0


def test_a_flow_that_does_not_come_holds_up_no_other() -> None:
    """It ends a round, for the orchestrator may be busy; and it is behind all others in the next ones."""
    deployment = Deployment()
    deployment.missing = {"job 1"}
    reconciler = deployment.restarted()
    for _ in range(2):
        reconciler.reconcile()
    assert deployment.behind() == ["job 1"]
    deployment.missing = set()
    reconciler.reconcile()
    assert deployment.behind() == []


def test_a_change_is_followed_before_flows_that_nobody_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds have an end: with no time at all, each follows what has changed, and one of the others."""
    monkeypatch.setattr(module, "ROUND_S", 0.0)
    deployment = Deployment()
    reconciler = deployment.restarted()
    assert reconciler.reconcile() == 1
    deployment.store.set_paused(deployment.job("job 4").id, True)
    deployment.store.set_paused(deployment.job("job 3").id, True)
    assert reconciler.reconcile() == 3
    assert deployment.behind() == ["job 2"]
    assert deployment.orchestrator.is_paused(deployment.job("job 4").flow_id) is True
    assert [reconciler.reconcile(), reconciler.reconcile()] == [1, 0]


def test_nobody_is_asked_about_a_run_that_works() -> None:
    """Queued runs and silent ones are asked about in each round; hundreds that work cost nothing."""
    store, orchestrator = MemoryJobStore(), AskedOrchestrator()
    now = datetime.now(UTC)
    started = {"young": now, "held": now - timedelta(hours=1), "silent": now - timedelta(hours=1)}
    for name, moment in started.items():
        job = store.add_job(a_job(name), {})
        store.start_run(job.id, name, 1, moment)
        if name == "held":
            store.acquire_lease(job.id, "worker", 60)
    store.add_run(a_run(store.add_job(a_job("waiting"), {}).id, "waiting"))
    reconciler = FlowReconciler(store, orchestrator, SETTINGS)
    reconciler.reconcile()
    assert sorted(orchestrator.asked) == ["silent", "waiting"]


def test_the_loop_gives_way_to_a_request() -> None:
    """While a request has a flow registered nothing is asked twice; afterwards the loop takes it over."""
    store, orchestrator = MemoryJobStore(), SlowOrchestrator()
    job = a_job()
    job = store.add_job(job, {}, a_run(job.id))
    reconciler = FlowReconciler(store, orchestrator, SETTINGS)
    with ThreadPoolExecutor(1) as request:
        followed = request.submit(reconciler.follow, job, 20.0)
        assert orchestrator.entered.wait(20)
        assert reconciler.reconcile() == 0
        assert orchestrator.asked == ["publish"]
        orchestrator.gate.set()
        orchestrator.trigger_gate.set()
        assert followed.result() is True
    assert orchestrator.asked == ["publish", "trigger"]
    assert len(store.flows_due()) == 1
    assert reconciler.reconcile() == 0
    assert not store.flows_due()
    assert orchestrator.asked[2:] == ["run_state"]


def test_the_loop_gives_way_when_a_request_comes_later() -> None:
    """A flow that both have registered is unpaused, and its run started, by the request alone."""
    store, orchestrator = MemoryJobStore(), SlowOrchestrator()
    job = a_job()
    job = store.add_job(job, {}, a_run(job.id))
    reconciler = FlowReconciler(store, orchestrator, SETTINGS)
    with ThreadPoolExecutor(2) as pool:
        looping = pool.submit(reconciler.reconcile)
        assert orchestrator.entered.wait(20)
        orchestrator.entered.clear()
        followed = pool.submit(reconciler.follow, job, 20.0)
        assert orchestrator.entered.wait(20)
        orchestrator.gate.set()
        looping.result()
        orchestrator.trigger_gate.set()
        assert followed.result() is True
    assert orchestrator.asked == ["publish", "publish", "trigger"]
