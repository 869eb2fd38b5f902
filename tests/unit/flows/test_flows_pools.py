"""Pools of the settings, and those that jobs may name."""

from __future__ import annotations

import logging

import pytest

from airberg.api.flow_check import check_flow
from airberg.errors import InvalidRequest
from airberg.flows.memory import MemoryOrchestrator
from airberg.flows.pools import DeclaredPools
from airberg.flows.reconciler import FlowReconciler
from airberg.jobs.memory import MemoryJobStore
from airberg.plan.flow_request import FlowRequest, Notification
from airberg.settings import AirflowSettings, Settings
from support.jobs import a_job

DECLARED = Settings(
    airflow=AirflowSettings(pool_slots={"github": 2}, connections=("notify_*", "smtp_default"))
)


def test_declared_pools_are_made_before_the_flows_that_need_them() -> None:
    """By the loop, and by a POST that comes before its first round."""
    orchestrator, store = MemoryOrchestrator(), MemoryJobStore()
    job = store.add_job(a_job(), {}, None)
    FlowReconciler(store, orchestrator, DECLARED).follow(job, 1.0)
    assert orchestrator.pools()["github"] == 2
    looped = MemoryOrchestrator()
    FlowReconciler(MemoryJobStore(), looped, DECLARED).reconcile()
    assert looped.pools()["github"] == 2


def test_they_are_made_later_when_airflow_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked again after a while, and not in each round; nothing is raised."""
    monkeypatch.setattr("airberg.flows.pools.AGAIN_S", 0.0)
    orchestrator = MemoryOrchestrator()
    orchestrator.available = False
    pools = DeclaredPools(orchestrator, AirflowSettings(pool_slots={"github": 2}))
    pools.ensure()
    orchestrator.available = True
    assert "github" not in orchestrator.pools()
    pools.ensure()
    assert orchestrator.pools()["github"] == 2
    orchestrator.set_pool("github", 9)
    pools.ensure()
    assert orchestrator.pools()["github"] == 9, "made once: who runs Airflow may change it"


def test_who_may_not_make_them_says_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    """In the log, with the command; the other pools and the flows are not kept from it."""
    administrator = MemoryOrchestrator()
    administrator.set_pool("there", 1)
    orchestrator = administrator.seen_by_a_lesser_user()
    pools = DeclaredPools(orchestrator, AirflowSettings(pool_slots={"github": 2, "there": 1}))
    with caplog.at_level(logging.WARNING):
        pools.ensure()
        pools.ensure()
    [record] = caplog.records
    assert "airflow pools set github 2 Airberg" in record.getMessage()


def test_a_pool_that_the_settings_give_and_nobody_has_made_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Once, when Airflow answers."""
    orchestrator = MemoryOrchestrator()
    orchestrator.set_pool("by hand", 1)
    settings = AirflowSettings(
        pool_slots={"github": 2},
        source_pools={"source-github": "github", "source-x": "misspelt", "source-y": "by hand"},
        pool="default_pool",
    )
    pools = DeclaredPools(orchestrator, settings)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            pools.ensure()
    assert [r.getMessage() for r in caplog.records] == [
        "Airflow has no pool misspelt: tasks of jobs that the settings give it will not start"
    ]


@pytest.mark.parametrize("pool", ["github", "default_pool", "made by hand", None])
def test_pools_that_are_there_or_will_be_can_be_asked_for(pool: str | None) -> None:
    """Of the settings, Airflow's own, and any that somebody has made."""
    orchestrator = MemoryOrchestrator()
    orchestrator.set_pool("made by hand", 1)
    check_flow(FlowRequest(pool=pool), DECLARED, orchestrator)
    check_flow(None, DECLARED, orchestrator)


def test_a_pool_that_is_not_there_is_refused() -> None:
    """A task of it would never start. The nearest is named; while Airflow is away nobody knows."""
    orchestrator = MemoryOrchestrator()
    with pytest.raises(InvalidRequest) as caught:
        check_flow(FlowRequest(pool="githob"), DECLARED, orchestrator)
    [found] = caught.value.problems
    assert (found.pointer, found.code) == ("/flow/pool", "unknown-pool")
    assert found.guidance.startswith('Did you mean "github"?')
    orchestrator.available = False
    check_flow(FlowRequest(pool="githob"), DECLARED, orchestrator)


def test_connections_that_jobs_may_not_use_are_refused() -> None:
    """By the patterns of the settings; without them any can be named."""
    asked = FlowRequest(
        on_failure=(
            Notification(type="webhook", connection="notify_ops"),
            Notification(type="webhook", connection="production_api"),
            Notification(type="email", to=("ann@example.com",)),
        )
    )
    with pytest.raises(InvalidRequest) as caught:
        check_flow(asked, DECLARED, MemoryOrchestrator())
    [found] = caught.value.problems
    assert (found.pointer, found.code) == ("/flow/on_failure/1/connection", "connection-not-allowed")
    assert "notify_*" in found.guidance
    check_flow(asked, Settings(), MemoryOrchestrator())
