"""The flow that looks after all tables: its spec, and how the reconciler has it registered."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest
from pydantic import ValidationError

from airberg.flows import model
from airberg.flows.memory import MemoryOrchestrator
from airberg.flows.model import UPKEEP_ID, UpkeepSpec, settings_version, upkeep_spec
from airberg.flows.reconciler import FlowReconciler
from airberg.jobs.memory import MemoryJobStore
from airberg.jobs.upkeep import jobs_to_look_after
from airberg.settings import AirflowSettings, Settings, UpkeepSettings
from airberg_airflow import dags, flow_files
from support.jobs import NOON, a_job, at


def upkeep_of(settings: Settings) -> UpkeepSpec:
    """The spec, where there has to be one."""
    spec = upkeep_spec(settings)
    assert spec is not None
    return spec


# ---- the spec --------------------------------------------------------------------------------------------


def test_a_deployment_has_it_unless_it_is_switched_off() -> None:
    """It is there by default, with the settings of its group; switched off, there is none."""
    spec = upkeep_of(
        Settings(
            upkeep=UpkeepSettings(schedule="15 1 * * 1", timezone="Europe/Berlin", parallelism=3),
            airflow=AirflowSettings(retries=7, retry_delay_s=11, task_timeout_s=13),
        )
    )
    assert (spec.flow_id, spec.name) == (UPKEEP_ID, "Airberg: table upkeep")
    assert (spec.schedule, spec.timezone, spec.parallelism) == ("15 1 * * 1", "Europe/Berlin", 3)
    assert (spec.retries, spec.retry_delay_s, spec.timeout_s) == (7, 11, 13)
    assert upkeep_of(Settings()).paused is False
    assert upkeep_spec(Settings(upkeep=UpkeepSettings(enabled=False))) is None


def test_only_ids_names_and_schedules_cross_the_border() -> None:
    """The JSON form has these members, no more."""
    assert set(msgspec.to_builtins(upkeep_of(Settings()))) == {
        *("flow_id", "kind", "name", "schedule", "timezone", "paused", "tags", "version"),
        *("retries", "retry_delay_s", "timeout_s", "parallelism", "pods"),
    }


def test_both_sides_compute_one_hash_and_know_one_kind() -> None:
    """What Airflow's side computes is what the service expects, and it takes the spec for what it is."""
    spec = upkeep_of(Settings())
    arrived = json.loads(msgspec.json.encode(spec))
    assert dags.spec_hash(arrived) == spec.spec_hash()
    assert arrived["kind"] == flow_files.UPKEEP_KIND


@pytest.mark.parametrize(
    ("member", "value", "told"),
    [
        ("schedule", "0 0 31 2 *", "not a cron expression"),
        ("schedule", "0 6 * * * *", "has 6 fields"),
        ("timezone", "Mars/Olympus", "not a time zone"),
        ("parallelism", "0", "greater than 0"),
    ],
)
def test_a_wrong_setting_is_refused_at_the_start(member: str, value: str, told: str) -> None:
    """A schedule that Airflow would not run as it is meant never gets there."""
    with pytest.raises(ValidationError, match=told):
        UpkeepSettings.model_validate({member: value})


def test_the_version_of_the_settings_changes_with_what_specs_are_made_of() -> None:
    """Each setting that goes into a spec counts, others do not: it is a part of the feed's ETag."""
    variants = [
        Settings(),
        Settings(upkeep=UpkeepSettings(enabled=False)),
        Settings(upkeep=UpkeepSettings(schedule="@weekly")),
        Settings(upkeep=UpkeepSettings(parallelism=2)),
        Settings(airflow=AirflowSettings(retries=3)),
        Settings(airflow=AirflowSettings(retries=3), upkeep=UpkeepSettings(enabled=False)),
        Settings(airflow=AirflowSettings(task_timeout_s=5)),
    ]
    assert len({settings_version(s) for s in variants}) == len(variants)
    assert settings_version(Settings(log_level="ERROR")) == settings_version(Settings())


def test_the_feed_is_another_one_when_flows_have_another_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else Airflow would be told, after an upgrade of the service, that nothing has changed."""
    before = settings_version(Settings())
    monkeypatch.setattr(model, "FORM", model.FORM + 1)
    assert settings_version(Settings()) != before


# ---- the reconciler --------------------------------------------------------------------------------------


def test_it_is_registered_once_and_stays() -> None:
    """A round registers it; removing a job's flow, and any later round, leaves it alone."""
    store, orchestrator = MemoryJobStore(), MemoryOrchestrator()
    reconciler = FlowReconciler(store, orchestrator, Settings())
    job = store.add_job(a_job(), {})
    reconciler.reconcile()
    assert orchestrator.flow_ids() == sorted([job.flow_id, UPKEEP_ID])
    orchestrator.set_paused(UPKEEP_ID, True)  # a person has done that in Airflow
    store.delete_job(job.id, NOON)
    reconciler.reconcile()
    assert orchestrator.flow_ids() == [UPKEEP_ID]
    assert orchestrator.is_paused(UPKEEP_ID) is True


def test_it_is_registered_when_the_orchestrator_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """While Airflow is away nothing fails; the first round that is due afterwards registers it."""
    monkeypatch.setattr("airberg.flows.reconciler.UPKEEP_AGAIN_S", (0.0, 0.0))
    orchestrator = MemoryOrchestrator()
    orchestrator.available = False
    reconciler = FlowReconciler(MemoryJobStore(), orchestrator, Settings())
    assert reconciler.reconcile() == 0
    orchestrator.available = True
    assert orchestrator.flow_ids() == []
    reconciler.reconcile()
    assert orchestrator.flow_ids() == [UPKEEP_ID]


def test_an_airflow_that_does_not_get_it_is_not_asked_all_the_time() -> None:
    """Where the package in Airflow is an older one, rounds that follow at once do not ask again."""
    asked: list[str] = []

    def feed() -> list[UpkeepSpec]:
        asked.append("feed")
        return []

    reconciler = FlowReconciler(MemoryJobStore(), MemoryOrchestrator(feed=feed), Settings())
    for _ in range(3):
        reconciler.reconcile()
    assert asked == ["feed"]


def test_switched_off_it_is_not_registered() -> None:
    """Without the setting the orchestrator never hears of it."""
    orchestrator = MemoryOrchestrator()
    settings = Settings(upkeep=UpkeepSettings(enabled=False))
    FlowReconciler(MemoryJobStore(), orchestrator, settings).reconcile()
    assert orchestrator.flow_ids() == []


# ---- which jobs ------------------------------------------------------------------------------------------


def test_jobs_that_have_run_are_looked_after() -> None:
    """Paused and failed ones too; not one that has never run, nor one that was deleted; oldest first."""
    store = MemoryJobStore()
    jobs = {
        name: store.add_job(replace(a_job(name), created_at=at(minute)), {})
        for minute, name in enumerate(["ran", "paused", "deleted", "new"])
    }
    for name in ("ran", "paused", "deleted"):
        store.start_run(jobs[name].id, "airberg__1", 1, at(9))
    store.set_paused(jobs["paused"].id, True)
    store.delete_job(jobs["deleted"].id, at(10))
    assert jobs_to_look_after(store) == [jobs["ran"].id, jobs["paused"].id]
