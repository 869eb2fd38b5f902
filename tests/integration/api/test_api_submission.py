"""Submissions over real HTTP, on the in-memory twins: what happens when parts are away or busy."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from airberg import __version__
from airberg.api.app import create_app
from airberg.errors import ConfigurationFailed, Unavailable
from airberg.flows.model import DOCTOR_ID, UPKEEP_ID
from airberg.identity.development import DevelopmentIssuer
from airberg.jobs.model import RunStatus
from airberg.settings import AirflowSettings, Settings, UpkeepSettings
from airberg.sources.registry import ConnectorRegistry
from airberg.worker_process import as_error, as_failure
from support.api_service import BODY, Service, until
from support.served import served


@pytest.mark.parametrize("preflight", ["run", "skip"])
def test_job_keeps_its_connector(service: Service, preflight: str) -> None:
    """As it is known when the job is made; people see the version, and nothing of our machines."""
    answer = service.api.post("/api/airbyte/ingest", params={"preflight": preflight}, json=BODY)
    job = service.store.job(UUID(answer.json()["job_id"]))
    assert job.request.connector == ConnectorRegistry().find("source-faker")
    shown = json.loads(service.api.get(f"/api/jobs/{job.id}").json()["properties_json"])
    assert shown["source_version"] == "7.2.1"
    assert "connector" not in shown
    refused = service.post(name="other", source_version="1.2.3")
    assert refused.status_code == 422
    assert [e["pointer"] for e in refused.json()["errors"]] == ["/source_version"]


def test_created(service: Service) -> None:
    """201 with the location, a registered flow, a started run; the owner is the caller's e-mail."""
    answer = service.post()
    assert answer.status_code == 201, answer.text
    body = answer.json()
    job = service.api.get(answer.headers["location"]).json()
    assert body == {"flow_url": job["flow_url"], "job_id": job["id"], "error": None}
    assert (job["owner_id"], job["status"], job["flow_registered"]) == ("ann@example.com", "new", True)
    run = service.store.runs(service.store.jobs()[0].id)[0]
    assert service.orchestrator.run_state(job["flow_id"], run.flow_run_id) is not None
    assert "never-shown-9" not in service.api.get(answer.headers["location"]).text


def test_orchestrator_away(service: Service) -> None:
    """The job is stored, the answer says so; when Airflow answers again, the flow is made and started."""
    service.orchestrator.available = False
    answer = service.post()
    assert answer.status_code == 201
    body = answer.json()
    assert body["flow_url"].endswith(f"/dags/airberg_{body['job_id']}")
    assert "as soon as Airflow answers" in body["error"]
    service.orchestrator.available = True
    url = f"/api/jobs/{body['job_id']}"
    until(lambda: service.api.get(url).json()["flow_registered"], "the registration")
    [run] = service.store.runs(service.store.jobs()[0].id)
    flow_id = f"airberg_{body['job_id']}"
    until(lambda: service.orchestrator.run_state(flow_id, run.flow_run_id) is not None, "the run's start")


def test_changes_while_the_orchestrator_is_away(service: Service) -> None:
    """A change, a pause and a delete are taken, and follow later; the job says whether they have."""
    job_id = service.post().json()["job_id"]
    flow_id, url = f"airberg_{job_id}", f"/api/jobs/{job_id}"
    assert service.api.get(url).json()["flow_registered"] is True
    service.orchestrator.available = False
    assert service.api.patch(url, json={"name": "another"}).json()["flow_registered"] is False
    service.orchestrator.available = True
    until(lambda: service.api.get(url).json()["flow_registered"], "the new name")
    service.orchestrator.available = False
    assert service.api.post(f"/api/jobs/{job_id}/pause").json()["paused"] is True
    service.orchestrator.available = True
    until(lambda: service.orchestrator.is_paused(flow_id), "the pause")
    service.orchestrator.available = False
    assert service.api.delete(f"/api/jobs/{job_id}").status_code == 204
    service.orchestrator.available = True
    until(lambda: service.orchestrator.is_paused(flow_id) is None, "the flow's end")


def test_a_schedule_without_run_now_does_not_start(service: Service) -> None:
    """`run_now: false` waits for the schedule; without a schedule the job always starts."""
    waits = service.post(name="a", schedule="@daily", run_now=False).json()["job_id"]
    starts = service.post(name="b", run_now=False).json()["job_id"]
    count = {str(j.id): len(service.store.runs(j.id)) for j in service.store.jobs()}
    assert count == {waits: 0, starts: 1}


def test_too_many_at_once(service: Service) -> None:
    """Beyond the limit of checks at once: 429 with Retry-After; afterwards it is taken."""
    service.planner.gate.clear()
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(service.post(name=f"job {n}").status_code))
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert service.planner.entered.acquire(timeout=10)
    refused = service.post(name="one too many")
    skips = {"preflight": "skip"}
    unasked = service.api.post("/api/airbyte/ingest", params=skips, json=BODY | {"name": "asks no source"})
    service.planner.gate.set()
    for thread in threads:
        thread.join(20)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    assert answers == [201, 201]
    assert unasked.status_code == 201
    assert service.post(name="one too many").status_code == 201


def test_a_source_that_does_not_answer(service: Service) -> None:
    """503 with Retry-After, and nothing is stored."""
    service.planner.error = Unavailable(
        "The source did not answer in time.", retry_after=30, code="preflight-timeout"
    )
    answer = service.post()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert answer.json()["error"]
    assert service.store.jobs() == []


@pytest.mark.parametrize(
    ("domain", "status", "code"), [("Sale", 422, "unknown-domain"), ("Twice", 409, "ambiguous-domain")]
)
def test_domains(service: Service, domain: str, status: int, code: str) -> None:
    """No domain is a 422 with the nearest names, several a 409."""
    answer = service.post(domain=domain)
    assert answer.status_code == status
    assert answer.json()["errors"][0]["code"] == code


def test_domain_is_stored_as_urn(service: Service) -> None:
    """By name in, by urn kept."""
    assert service.post(domain="Sales").status_code == 201
    plan = service.store.jobs()[0].plan
    assert plan is not None
    assert plan.governance.domain == "urn:li:domain:1"


def test_the_key_of_an_encryption_is_frozen(service: Service) -> None:
    """The default key's name is stored with the job, so that another default changes nothing."""
    rule = {"column": "email", "transformation_type": "encrypt"}
    assert service.post(column_transformations=[rule]).status_code == 201
    [stored] = service.store.jobs()[0].request.column_transformations
    assert stored.encryption_key_name == "default"


def test_one_key_at_the_same_time(service: Service) -> None:
    """Two requests with one Idempotency-Key: one job, and both get its answer."""
    service.planner.gate.clear()
    answers: list[httpx.Response] = []

    def send() -> None:
        headers = {"Idempotency-Key": "k-1"}
        answers.append(service.api.post("/api/airbyte/ingest", json=BODY, headers=headers))

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert service.planner.entered.acquire(timeout=10)
    service.planner.gate.set()
    for thread in threads:
        thread.join(20)
    assert len(service.store.jobs()) == 1
    assert {a.json()["job_id"] for a in answers} == {str(service.store.jobs()[0].id)}
    assert sorted(a.status_code for a in answers) == [200, 201]


def test_feed_of_flows(service: Service) -> None:
    """Airflow's feed needs the machine token, has an ETag, and holds no configuration."""
    service.post()
    assert service.api.get("/internal/airflow/flows").status_code == 401
    headers = {"Authorization": "Bearer machine-token-of-the-test"}
    answer = service.api.get("/internal/airflow/flows", headers=headers)
    flow, upkeep, doctor = answer.json()["flows"]
    assert doctor["flow_id"] == DOCTOR_ID
    assert (flow["name"], upkeep["flow_id"]) == (BODY["name"], UPKEEP_ID)
    assert [job["job_name"] for job in service.api.get("/api/jobs").json()] == [BODY["name"]]
    assert "never-shown-9" not in answer.text
    headers["If-None-Match"] = answer.headers["etag"]
    assert service.api.get("/internal/airflow/flows", headers=headers).status_code == 304
    job = service.store.jobs()[0]
    service.store.set_paused(job.id, True)
    assert service.api.get("/internal/airflow/flows", headers=headers).status_code == 200


def test_who_asks_for_flows_is_noted(service: Service) -> None:
    """Hosts with what they say of themselves, and requests without the token, for those that have it."""
    machine = {"Authorization": "Bearer machine-token-of-the-test"}
    feed, pulls = "/internal/airflow/flows", "/internal/airflow/pulls"
    assert service.api.get(pulls).status_code == 401
    before = service.api.get(pulls, headers=machine).json()
    assert (before["version"], before["pulls"], before["refused"]["count"]) == (__version__, [], 0)
    assert service.api.get(feed, headers={"Authorization": "Bearer wrong"}).status_code == 401
    said = {
        "User-Agent": "airberg-airflow/0.1.0 airflow/3.3.2 python/3.11.7 host/worker-1",
        "Date": format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True),
    }
    for headers in (machine | said, machine | said, machine | {"User-Agent": "curl/8"}):
        assert service.api.get(feed, headers=headers).status_code == 200
    seen = service.api.get(pulls, headers=machine).json()
    other, worker = seen["pulls"]
    assert (other["host"], other["package"], other["clock_s"]) == (None, None, None)
    assert {n: worker[n] for n in ("host", "airflow", "package", "python", "count")} == {
        "host": "worker-1",
        "airflow": "3.3.2",
        "package": "0.1.0",
        "python": "3.11.7",
        "count": 2,
    }
    assert 60 < worker["clock_s"] < 120
    assert (seen["refused"]["count"], seen["refused"]["address"]) == (1, "127.0.0.1")


def test_feed_of_flows_after_a_change_of_settings(service: Service, tmp_path: Path) -> None:
    """A service with other settings does not answer 304 to an ETag from before: retries are in the flows."""
    service.post()
    machine = {"Authorization": "Bearer machine-token-of-the-test"}
    before = service.api.get("/internal/airflow/flows", headers=machine)
    asked = machine | {"If-None-Match": before.headers["etag"]}
    settings = Settings(
        home=tmp_path, airflow=AirflowSettings(retries=9), upkeep=UpkeepSettings(enabled=False)
    )
    with served(create_app(replace(service.parts, settings=settings))) as url:
        answer = httpx.get(f"{url}/internal/airflow/flows", headers=asked, trust_env=False)
    [flow, _doctor] = answer.json()["flows"]
    assert (answer.status_code, flow["retries"]) == (200, 9)


def test_a_run_that_died_without_a_word_is_ended(service: Service) -> None:
    """Airflow says failed, nobody holds the lease, nothing was heard for long: the run is failed."""
    job_id = service.post().json()["job_id"]
    job = service.store.jobs()[0]
    [run] = service.store.runs(job.id)
    service.store.start_run(job.id, run.flow_run_id, 1, datetime.now(UTC) - timedelta(minutes=10))
    service.orchestrator.set_run_state(f"airberg_{job_id}", run.flow_run_id, "failed")
    until(lambda: service.store.run(run.id).status is RunStatus.FAILED, "the end of the run")
    assert service.store.run(run.id).error_code == "run-lost"


def test_cancelling_a_run_that_has_not_begun(service: Service) -> None:
    """Known to Airflow or not yet: the run is cancelled, and never started later."""
    job_id = service.post().json()["job_id"]
    [known] = service.store.runs(service.store.jobs()[0].id)
    assert service.api.post(f"/api/runs/{known.id}/cancel").json()["status"] == "cancelled"
    service.orchestrator.available = False
    unknown = service.api.post(f"/api/jobs/{job_id}/trigger").json()
    assert service.api.post(f"/api/runs/{unknown['id']}/cancel").status_code == 503
    assert service.store.run(UUID(unknown["id"])).status is RunStatus.QUEUED
    service.orchestrator.available = True
    assert service.api.post(f"/api/runs/{known.id}/cancel").status_code == 409


def test_a_dry_run_is_refused_as_the_call_would_be(service: Service) -> None:
    """A table that another job overwrites is told before anything is created."""
    assert service.post(mode="overwrite").status_code == 201
    answer = service.api.post(
        "/api/airbyte/ingest",
        params={"dry_run": "true"},
        json=BODY | {"name": "another", "mode": "overwrite"},
    )
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/table-taken")


def test_a_dry_run_shows_how_a_job_merges(service: Service) -> None:
    """In the mode merge; the job's request says what was sent, and no more."""
    options = {"mode": "merge", "merge": "id", "readers": ["spark"], "skip_unchanged": True}
    answer = service.api.post("/api/airbyte/ingest", params={"dry_run": "true"}, json=BODY | options)
    assert answer.json()["plan"]["merging"] == {
        "delete_format": "position",
        "soft_deletes": False,
        "skip_unchanged": True,
    }
    plain = service.api.post("/api/airbyte/ingest", params={"dry_run": "true"}, json=BODY)
    assert plain.json()["plan"]["merging"] is None
    assert service.post(**options).status_code == 201
    [job] = service.api.get("/api/jobs").json()
    sent = json.loads(service.api.get(f"/api/jobs/{job['id']}").json()["properties_json"])
    assert (sent["readers"], sent["skip_unchanged"], sent["deletes"]) == (["spark"], True, None)


def test_a_dry_run_shows_the_options_of_the_flow(service: Service) -> None:
    """As they are decided: asked for, or the deployment's; a pool that is not there is refused."""
    service.orchestrator.set_pool("github", 2)
    pager = {"type": "webhook", "connection": "pager"}
    flow = {"pool": "github", "retries": 0, "on_failure": [pager]}
    answer = service.api.post("/api/airbyte/ingest", params={"dry_run": "true"}, json=BODY | {"flow": flow})
    assert answer.json()["plan"]["flow"]["options"] == {
        "parallelism": 1,
        "pool": "github",
        "queue": None,
        "priority": 10,
        "retries": 0,
        "retry_delay_s": 60,
        "timeout_s": 21600,
        "deadline_s": None,
        "on_failure": [pager | {"channel": None, "to": None}],
        "cpu": None,
        "memory": None,
    }
    refused = service.post(flow={"pool": "gitub"})
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "unknown-pool")


def test_a_fault_of_the_deployment_is_not_the_callers(service: Service) -> None:
    """A catalog that is not configured well is a 503, not a 422 about the caller's configuration."""
    failure = as_failure(ConfigurationFailed("The catalog cannot be opened.", code="bad-catalog"))
    service.planner.error = as_error(failure)
    answer = service.post()
    assert answer.status_code == 503
    assert "catalog" in answer.json()["error"]


TABLES = [
    ({"tables": {"users": {"partition_by": ["bucket(4, id)"], "sort_by": ["email desc"]}}}, None, None),
    ({"tables": {"users": {"partition_by": None, "sort_by": []}}}, None, None),
    ({"tables": None}, None, None),
    ({"tables": []}, "/tables", "wrong-type"),
    ({"tables": {"users": ["id"]}}, "/tables/users", "wrong-type"),
    ({"tables": {"users": {"partitions": ["id"]}}}, "/tables/users/partitions", "unknown-field"),
    ({"tables": {"users": {"partition_by": "id"}}}, "/tables/users/partition_by", "wrong-type"),
    ({"tables": {"users": {"partition_by": [1]}}}, "/tables/users/partition_by/0", "wrong-type"),
    ({"tables": {"users": {"partition_by": [""]}}}, "/tables/users/partition_by/0", "out-of-range"),
    ({"tables": {"users": {"sort_by": ["id"] * 21}}}, "/tables/users/sort_by", "out-of-range"),
    ({"tables": {"user": {"partition_by": ["id"]}}}, "/tables/user", "unknown-stream"),
    (
        {"tables": {"users": {"partition_by": ["day(id)"]}}},
        "/tables/users/partition_by/0",
        "transform-does-not-fit",
    ),
    (
        {"tables": {"users": {"partition_by": ["id", "mail"]}}},
        "/tables/users/partition_by/1",
        "unknown-column",
    ),
    ({"tables": {"users": {"sort_by": ["bukcet(2, id)"]}}}, "/tables/users/sort_by/0", "unknown-transform"),
    ({"tables": {"users": {"sort_by": ["bucket(id)"]}}}, "/tables/users/sort_by/0", "bad-expression"),
]


@pytest.mark.parametrize(("members", "pointer", "code"), TABLES)
def test_tables(service: Service, members: dict[str, Any], pointer: str | None, code: str | None) -> None:
    """Partitions and order of new tables: stored as sent, or refused with the place and the reason."""
    answer = service.post(**members)
    if pointer is None:
        assert answer.status_code == 201, answer.text
        plan = service.store.jobs()[0].plan
        assert plan is not None
        asked = (members["tables"] or {}).get("users", {})
        assert [str(t) for t in plan.streams[0].partition_by] == (asked.get("partition_by") or [])
        return
    assert answer.status_code == 422, answer.text
    problem = answer.json()["errors"][0]
    assert (problem["pointer"], problem["code"]) == (pointer, code)
    if code == "unknown-field":
        assert problem["guidance"] == "Did you mean `partition_by`?"


def test_tables_are_shown_as_they_were_sent(service: Service) -> None:
    """A job's properties are in the contract's words."""
    tables = {"users": {"partition_by": ["bucket(4, id)"], "sort_by": ["id desc"]}}
    answer = service.post(tables=tables)
    job = service.api.get(answer.headers["location"]).json()
    assert json.loads(job["properties_json"])["tables"] == tables


def test_roles_count_for_jobs_of_ones_own_only(service: Service) -> None:
    """Keys are opened by the roles of the owner: an administrator brings none along for somebody else."""

    def ask(**changes: Any) -> int:
        claims: dict[str, Any] = {"email": "root@example.com", "roles": ["ingest-admin", "lawyers"]}
        token = DevelopmentIssuer(service.parts.settings).mint("root", ["ingest:write"], **claims)
        headers = {"Authorization": f"Bearer {token}"}
        return service.api.post(
            "/api/airbyte/ingest?dry_run=true", json=BODY | changes, headers=headers
        ).status_code

    assert ask() == ask(owner_id="root@example.com") == ask(owner_id="root") == 200
    assert ask(owner_id="bob@example.com") == 200
    mine = {"ingest-admin", "lawyers"}
    assert service.planner.roles == [mine, mine, mine, frozenset()]
