"""The doctor, beside a real service and a stand-in for Airflow that can be made ill in every way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from airberg import __version__
from airberg.errors import Unavailable
from airberg.flows.doctor.airflow_api import clock_ahead
from airberg.flows.doctor.examination import STEPS, examine
from airberg.flows.doctor.flow_checks import own_version, read_findings
from airberg.flows.doctor.model import CHECKS, WORKER_PREFIX, Finding, NotFit
from airberg.flows.doctor.ward import Ward
from airberg.flows.kubernetes_settings import KubernetesSettings
from airberg.flows.model import HASH_MARK, UPKEEP_ID, flow_spec, upkeep_spec
from airberg.flows.pulls import FeedPulls
from airberg.jobs.memory import MemoryJobStore
from airberg.jobs.model import Job
from airberg.jobs.port import JobStore
from airberg.settings import AirflowSettings, Settings
from support.airflow_double import PASSWORD, SENTINEL, AirflowDouble, a_flow
from support.jobs import NOON, a_job
from support.memory_service import MACHINE_TOKEN, MemoryService, running_memory_service

HOST = f"airberg-airflow/{__version__} airflow/3.3.2 python/3.11.7 host/worker-1"


@dataclass
class Case:
    """A service, an Airflow, and a store with one job whose flow is as it should be."""

    service: MemoryService
    airflow: AirflowDouble
    settings: Settings
    store: JobStore
    job: Job
    user_agent: str = HOST
    bundle_token: str = MACHINE_TOKEN
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def flow(self) -> dict[str, Any]:
        """The job's flow in Airflow."""
        return self.airflow.flows[self.job.flow_id]

    def pods(self, **settings: Any) -> None:
        """Have tasks start pods; flows are as they were, so only the check of health is looked at."""
        pods = KubernetesSettings(pods="operator", image="airberg:1", **settings)
        self.settings = self.settings.model_copy(update={"kubernetes": pods})

    def pull(self) -> None:
        """What the bundle does when it is refreshed."""
        headers = {"Authorization": f"Bearer {self.bundle_token}", "User-Agent": self.user_agent}
        httpx.get(f"{self.service.url}/internal/airflow/flows", headers=headers, trust_env=False)

    def examined(self, **changes: Any) -> dict[str, Finding]:
        """All findings, by check."""
        ward = Ward(
            **(
                {
                    "settings": self.settings,
                    "api_url": self.service.url,
                    "open_store": lambda: self.store,
                    "wait_s": 1.0,
                }
                | self.options
                | changes
            )
        )
        return {f.check: f for f in examine(ward).findings}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryService]:
    """A service with a store of its own."""
    with running_memory_service(tmp_path_factory.mktemp("doctor")) as running:
        yield running


@pytest.fixture
def case(service: MemoryService, tmp_path: Path) -> Iterator[Case]:
    """All is well."""
    airflow = AirflowDouble()
    service.app.state.pulls = FeedPulls(__version__)
    settings = Settings(
        home=tmp_path,
        airflow=AirflowSettings(port=airflow.port, password=PASSWORD, bundle_token=MACHINE_TOKEN),
    )
    store = MemoryJobStore()
    job = store.add_job(a_job(), {})
    spec, upkeep = flow_spec(job, settings), upkeep_spec(settings)
    assert upkeep is not None
    store.set_flow_hash(job.id, spec.spec_hash())
    for one in (spec, upkeep):
        airflow.flows[one.flow_id] = a_flow(
            one.flow_id,
            timetable_summary=one.schedule,
            next_dagrun_run_after="2026-03-30T04:00:00Z",
            doc_md=HASH_MARK + one.spec_hash(),
        )
    found = Case(service, airflow, settings, store, job)
    airflow.on_parse = found.pull
    yield found
    airflow.close()


def test_nothing_is_wrong(case: Case) -> None:
    """All checks are made in their order; without being asked for, no task is run."""
    found = case.examined()
    assert [*found] == [name for name in CHECKS if not name.startswith(WORKER_PREFIX)]
    assert {n: f for n, f in found.items() if f.status != "ok" and n != "worker"} == {}
    assert (found["worker"].status, found["worker"].advice) == ("skipped", "")
    assert [s.check for s in STEPS] == [n for n in CHECKS if not n.startswith("worker")]


ILL: dict[str, tuple[Callable[[Case], None], str, str, str]] = {
    "old": (lambda c: setattr(c.airflow, "version", "3.0.6"), "version", "problem", "3.0.6"),
    "new": (lambda c: setattr(c.airflow, "version", "4.0.0"), "version", "warning", "4.0.0"),
    "no version": (lambda c: setattr(c.airflow, "version", "x"), "version", "problem", "x"),
    "no processor": (
        lambda c: c.airflow.health.update(dag_processor=None),
        "health",
        "problem",
        "dag-processor",
    ),
    "scheduler": (
        lambda c: c.airflow.health.update(scheduler={"status": "unhealthy"}),
        "health",
        "problem",
        "Not healthy: scheduler",
    ),
    "triggerer": (
        lambda c: c.airflow.health.update(triggerer=None) or c.pods(defer=True),
        "health",
        "problem",
        "pods are waited for by it",
    ),
    "triggerer by default": (
        lambda c: c.airflow.health.update(triggerer={"status": "unhealthy"}) or c.pods(),
        "health",
        "warning",
        "default_deferrable",
    ),
    "clock": (lambda c: setattr(c.airflow, "ahead_s", 60), "clock", "problem", "s ahead of"),
    "clock a little": (lambda c: setattr(c.airflow, "ahead_s", -7), "clock", "warning", "s behind"),
    "no sentinel": (lambda c: c.airflow.flows.pop(SENTINEL), "bundle", "problem", "is not there"),
    "stale sentinel": (
        lambda c: c.airflow.flows[SENTINEL].update(is_stale=True),
        "bundle",
        "problem",
        "not in any file",
    ),
    "old package": (
        lambda c: setattr(c, "user_agent", "airberg-airflow/0.0.9 airflow/3.3.2 host/old-one"),
        "hosts",
        "warning",
        "old-one (0.0.9)",
    ),
    "two versions": (
        lambda c: setattr(c, "user_agent", f"airberg-airflow/{__version__} airflow/3.2.2 host/other"),
        "hosts",
        "warning",
        "other (3.2.2)",
    ),
    "import error": (
        lambda c: c.airflow.import_errors.append(
            {"filename": "airberg_00000.py", "bundle_name": "airberg", "stack_trace": "x\nKeyError: 'y'\n"}
        ),
        "import-errors",
        "problem",
        "airberg_00000.py. KeyError: 'y'",
    ),
    "no flow": (lambda c: c.airflow.flows.pop(c.job.flow_id), "flows", "problem", "is not in Airflow"),
    "stale flow": (lambda c: c.flow.update(is_stale=True), "flows", "problem", "is in no file"),
    "broken flow": (
        lambda c: c.flow.update(tags=[{"name": "airberg-broken"}]),
        "flows",
        "problem",
        "cannot be built",
    ),
    "other spec": (lambda c: c.flow.update(doc_md="by hand"), "flows", "problem", "has another spec"),
    "never seen": (lambda c: c.store.set_flow_hash(c.job.id, None), "flows", "problem", "has another spec"),
    "paused": (lambda c: c.flow.update(is_paused=True), "flows", "warning", "paused or resumed in Airflow"),
    "asleep": (
        lambda c: c.flow.update(next_dagrun_run_after=None),
        "schedules",
        "warning",
        "without a next run",
    ),
    "no upkeep": (lambda c: c.airflow.flows.pop(UPKEEP_ID), "flows", "problem", UPKEEP_ID),
    "wrong token": (lambda c: setattr(c, "bundle_token", "wrong"), "pull", "problem", "wrong machine token"),
    "no pull": (
        lambda c: setattr(c.airflow, "on_parse", lambda: None),
        "pull",
        "problem",
        "goes on with an old copy",
    ),
    "no parse": (
        lambda c: c.airflow.answers.update({("GET", f"/dags/{SENTINEL}"): (200, a_flow(SENTINEL))}),
        "pull",
        "problem",
        "has not parsed them",
    ),
    "no right": (
        lambda c: c.airflow.answers.update({("DELETE", "/dags/airberg_doctor__no_such_flow"): (403, {})}),
        "rights",
        "problem",
        "may not delete",
    ),
    "not airflow": (
        lambda c: c.airflow.answers.update({("GET", "/version"): (200, b"<html>")}),
        "airflow",
        "problem",
        "is not what Airflow answers",
    ),
    "somewhere else": (
        lambda c: c.airflow.answers.update({("GET", "/version"): (404, {})}),
        "airflow",
        "problem",
        "answers 404",
    ),
    "airflow fails": (
        lambda c: c.airflow.answers.update({("GET", "/dags"): (500, {})}),
        "login",
        "problem",
        "answers 500",
    ),
}


@pytest.mark.parametrize(("fall_ill", "check", "status", "told"), ILL.values(), ids=ILL)
def test_what_is_wrong_is_told_where_it_is(
    case: Case, fall_ill: Callable[[Case], None], check: str, status: str, told: str
) -> None:
    """Each illness has its check, which says what was found and what to do."""
    fall_ill(case)
    finding = case.examined()[check]
    assert (finding.status, told in finding.found) == (status, True), finding
    assert finding.advice
    assert PASSWORD not in json.dumps(finding.found + finding.advice)


def test_pools_that_jobs_use_are_looked_for(case: Case) -> None:
    """A missing one is named; one that is there is fine."""
    airflow = case.settings.airflow.model_copy(update={"source_pools": {"source-faker": "a/b"}})
    case.options["settings"] = case.settings.model_copy(update={"airflow": airflow})
    assert case.examined()["pools"].found.startswith("1 pool missing: a/b.")
    case.airflow.answers[("GET", "/pools/a%2Fb")] = (200, {"name": "a/b"})
    assert case.examined()["pools"].status == "ok"


def test_parts_that_are_away_are_told_and_the_rest_is_looked_at(case: Case) -> None:
    """A store that does not answer and a service that is not there leave the checks that need neither."""

    def away() -> JobStore:
        raise Unavailable("The job store does not answer.", guidance="Start it.")

    found = case.examined(open_store=away, api_url="http://127.0.0.1:9")
    assert (found["store"].status, found["store"].advice) == ("problem", "Start it.")
    assert "does not answer (ConnectError)" in found["service"].found
    assert {n for n, f in found.items() if f.status == "skipped"} == {
        *("pull", "hosts", "flows", "schedules", "pools", "worker")
    }
    assert found["bundle"].status == "ok"


def test_why_a_bundle_is_missing(case: Case) -> None:
    """It is told whether somebody asked, with a wrong token, or nobody did."""
    del case.airflow.flows[SENTINEL]
    case.pull()
    assert "It does ask Airberg's API" in case.examined()["bundle"].found


# ---- what a worker says ----------------------------------------------------------------------------------


def finding(**members: str) -> str:
    """What a worker prints."""
    return json.dumps({"check": "worker-store", "status": "ok", "found": "answers"} | members)


@pytest.mark.parametrize(
    "value",
    [None, 7, "text", [], [1], ["{"], ["[]"], [finding(check="pull")], [finding(status="fine")], {"a": 1}],
)
def test_words_that_are_no_findings(value: object) -> None:
    """Whatever a task has returned: what is not of the known form is not believed."""
    with pytest.raises(NotFit):
        read_findings(value)


def test_a_worker_of_another_version() -> None:
    """Its version is in what it says of its command."""
    [seen] = read_findings([finding(check="worker-command", found="Airberg 0.0.9, Python 3.11.7, in /x")])
    with pytest.raises(NotFit) as caught:
        own_version([seen])
    assert caught.value.status == "warning"
    assert own_version(read_findings([finding()])) == "a worker ran the task"


@pytest.mark.parametrize("date", [None, "", "yesterday", "Fri, 27 Nov 2026 22:00:00"])
def test_dates_that_tell_nothing(date: str | None) -> None:
    """A proxy may take the header out, or write its own."""
    assert clock_ahead(date, NOON, 0.1) is None
