"""Changing jobs over real HTTP: what can be changed, what is refused, and who wins."""

from __future__ import annotations

import json
import threading
from typing import Any
from uuid import UUID

import httpx
import pytest

from airberg.errors import Unavailable
from airberg.flows.model import flow_spec
from airberg.jobs.model import Job, RunStatus
from airberg.sources.redact import MASK
from support.api_service import BODY, STREAM, Service

ORDERS = STREAM | {"name": "orders"}


class Changed:
    """A job that is changed."""

    def __init__(self, service: Service, **members: Any) -> None:
        self.service = service
        answer = service.post(**({"schedule": "@daily", "run_now": False} | members))
        assert answer.status_code == 201, answer.text
        self.id = UUID(answer.json()["job_id"])
        self.url = f"/api/jobs/{self.id}"

    @property
    def stored(self) -> Job:
        """As it is stored."""
        return self.service.store.job(self.id)

    def patch(self, change: dict[str, Any], *, etag: str | None = None, **query: Any) -> httpx.Response:
        """Change it."""
        headers = {} if etag is None else {"If-Match": etag}
        return self.service.api.patch(self.url, json=change, headers=headers, params=query)


@pytest.fixture
def job(service: Service) -> Changed:
    """A job with one stream of two."""
    service.planner.streams = [STREAM, ORDERS]
    return Changed(service, streams=["users"])


def problem(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, pointer and code of a refusal."""
    first = answer.json()["errors"][0]
    return answer.status_code, first["pointer"], first["code"]


# ---- what can be changed -----------------------------------------------------------------------------------


def test_what_does_not_concern_the_source(service: Service, job: Changed) -> None:
    """Schedule, name, tags, domain, sharing, pause: at once, without asking the source; the flow follows."""
    asked = len(service.planner.asked)
    change = {
        "name": "new name",
        "schedule": "0 6 * * *",
        "timezone": "Europe/Berlin",
        "tags": ["a", "b"],
        "domain": "Sales",
        "paused": True,
        "share_with": ["user:ann"],
    }
    answer = job.patch(change)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["job_name"], shown["schedule"], shown["timezone"], shown["paused"]) == (
        *("new name", "0 6 * * *", "Europe/Berlin", True),
    )
    assert (shown["version"], answer.headers["etag"]) == (2, '"2"')
    assert len(service.planner.asked) == asked
    stored = job.stored
    assert stored.plan is not None
    assert (stored.plan.governance.domain, stored.plan.governance.tags) == ("urn:li:domain:1", ("a", "b"))
    assert stored.plan.discovered_at > 0
    assert stored.flow_hash == flow_spec(stored, service.parts.settings).spec_hash()
    assert service.orchestrator.is_paused(stored.flow_id)
    [entry, _] = service.store.audit.entries(target=str(job.id))
    assert (entry.action, entry.detail) == (
        "job.change",
        {"changed": sorted(change)},
    )


def test_options_of_the_flow_are_all_replaced(service: Service, job: Changed) -> None:
    """At once, without asking the source; what is shown can be sent back, and null is none of them."""
    asked = len(service.planner.asked)
    service.orchestrator.set_pool("github", 2)
    assert job.patch({"flow": {"retries": 0, "pool": "github"}}).status_code == 200
    answer = job.patch({"flow": {"priority": 3, "on_failure": [{"type": "webhook", "connection": "p"}]}})
    shown = json.loads(answer.json()["properties_json"])["flow"]
    assert shown == {"priority": 3, "on_failure": [{"type": "webhook", "connection": "p"}]}
    spec = flow_spec(job.stored, service.parts.settings)
    assert (spec.priority, spec.pool, spec.on_failure[0].connection) == (3, None, "p")
    assert job.stored.flow_hash == spec.spec_hash()
    assert job.patch({"flow": shown}).json()["version"] == answer.json()["version"]
    assert json.loads(job.patch({"flow": None}).json()["properties_json"])["flow"] is None
    assert problem(job.patch({"flow": {"pool": "a,b"}})) == (422, "/flow/pool", "bad-name")
    assert problem(job.patch({"flow": {"pool": "githob"}})) == (422, "/flow/pool", "unknown-pool")
    assert len(service.planner.asked) == asked


def test_null_is_what_a_new_job_has(job: Changed) -> None:
    """No schedule, no tags, UTC."""
    job.patch({"timezone": "Europe/Berlin", "tags": ["x"]})
    answer = job.patch({"schedule": None, "timezone": None, "tags": None})
    assert (answer.json()["schedule"], answer.json()["timezone"]) == (None, "UTC")
    assert job.stored.request.tags == ()


def test_streams_are_planned_anew(service: Service, job: Changed) -> None:
    """The source is asked with the stored configuration, secrets and all; the new tables are shown."""
    answer = job.patch({"streams": ["users", "orders"]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["tables"] == ["shop.users", "shop.orders"]
    request, config = service.planner.asked[-1]
    assert request.streams == ("users", "orders")
    assert config == BODY["source_config"]
    assert problem(job.patch({"streams": ["odd"]})) == (422, "/streams/0", "unknown-stream")
    assert job.stored.request.streams == ("users", "orders")


def test_what_is_shown_can_be_sent_back(service: Service, job: Changed) -> None:
    """All of `properties_json`: nothing changes, and nobody is asked."""
    shown = json.loads(service.api.get(job.url).json()["properties_json"])
    asked, before = len(service.planner.asked), job.stored
    answer = job.patch(shown)
    assert answer.status_code == 200, answer.text
    assert job.stored == before
    assert len(service.planner.asked) == asked
    answer = job.patch(shown | {"streams": ["orders"]})
    assert answer.json()["tables"] == ["shop.orders"]
    assert service.store.source_config(job.id) == BODY["source_config"]


def test_transformations(job: Changed) -> None:
    """With the key of an encryption named, as when a job is made."""
    answer = job.patch({"column_transformations": [{"column": "email", "transformation_type": "encrypt"}]})
    assert answer.status_code == 200, answer.text
    [stored] = job.stored.request.column_transformations
    assert stored.encryption_key_name == "default"
    wrong = [{"column": "mail", "transformation_type": "drop"}]
    assert problem(job.patch({"column_transformations": wrong}))[1:] == (
        *("/column_transformations/0/column", "unknown-column"),
    )


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("source_name", "source-github"),
        ("source_version", "1.0.0"),
        ("schema_name", "elsewhere"),
        ("mode", "merge"),
        ("run_now", True),
        ("add_ingestion_metadata", False),
    ],
)
def test_what_a_job_keeps(job: Changed, member: str, value: object) -> None:
    """Is refused by name, and the guidance says what to do instead."""
    answer = job.patch({member: value, "schedule": None})
    assert problem(answer) == (422, f"/{member}", "cannot-change")
    assert answer.json()["errors"][0]["guidance"]
    assert job.stored.version == 1


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"schedule": "never"}, "/schedule", "bad-schedule"),
    ({"timezone": "Mars"}, "/timezone", "bad-timezone"),
    ({"name": None}, "/name", "wrong-type"),
    ({"name": " "}, "/name", "bad-name"),
    ({"paused": None}, "/paused", "wrong-type"),
    ({"paused": "yes"}, "/paused", "wrong-type"),
    ({"merge": "id"}, "/merge", "merge-without-merge-mode"),
    ({"source_config": None}, "/source_config", "wrong-type"),
    ({"source_config": []}, "/source_config", "wrong-type"),
    ({"shedule": "@daily"}, "/shedule", "unknown-field"),
    ({"share_with": ["of others"]}, "/share_with/0", "group-not-yours"),
    ({"domain": "Sale"}, "/domain", "unknown-domain"),
]


@pytest.mark.parametrize(("change", "pointer", "code"), WRONG)
def test_wrong_changes(job: Changed, change: dict[str, Any], pointer: str, code: str) -> None:
    """Are refused as they are when a job is made, and nothing is stored."""
    before = job.stored
    assert problem(job.patch(change)) == (422, pointer, code)
    assert job.stored == before


def test_the_key_of_tables_that_are_there_stays(service: Service) -> None:
    """Rows would not be found again; before there is a table the key can be changed."""
    service.planner.streams = [STREAM]
    job = Changed(service, mode="merge", merge="id")
    assert job.patch({"merge": "email"}).status_code == 200
    service.planner.existing = {"shop.users"}
    assert problem(job.patch({"merge": "id"})) == (422, "/merge", "merge-key-differs")
    assert job.patch({"skip_unchanged": True}).status_code == 200
    assert job.stored.request.merge == ("email",)


def test_a_table_that_another_job_replaces(service: Service, job: Changed) -> None:
    """Is not taken by a change, either; a job is not in its own way."""
    other = Changed(service, name="other", mode="overwrite", streams=["orders"])
    answer = job.patch({"streams": ["users", "orders"]})
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/table-taken")
    assert other.patch({"archive_staging": True}).status_code == 200


def test_names_and_owners(service: Service, job: Changed) -> None:
    """A name is the owner's only once; owners are changed by administrators."""
    Changed(service, name="other")
    assert job.patch({"name": "other"}).json()["type"] == "/problems/name-taken"
    assert job.patch({"owner_id": "bob@example.com"}).status_code == 403
    answer = service.admin.patch(job.url, json={"owner_id": "bob@example.com", "name": "other"})
    assert answer.status_code == 200, answer.text
    assert (job.stored.owner_id, job.stored.request.owner_id) == ("bob@example.com", "bob@example.com")
    assert job.stored.plan is not None
    assert job.stored.plan.governance.owner == "bob@example.com"


# ---- without the source, without a change ------------------------------------------------------------------


def test_a_change_without_preflight(service: Service, job: Changed) -> None:
    """Is taken as it is; the next run plans anew; what was masked stays so."""
    asked = len(service.planner.asked)
    answer = job.patch({"streams": ["anything"], "tags": ["t"]}, preflight="skip")
    assert answer.status_code == 200, answer.text
    stored = job.stored
    assert stored.plan is not None
    assert (stored.plan.discovered_at, stored.plan.governance.tags) == (0.0, ("t",))
    assert stored.request.streams == ("anything",)
    assert len(service.planner.asked) == asked


def test_a_dry_run_changes_nothing(service: Service, job: Changed) -> None:
    """It says what would: members, streams, columns, tables."""
    before = job.stored
    rule = {"column": "email", "transformation_type": "mask"}
    change = {"streams": ["users", "orders"], "column_transformations": [rule], "schedule": None}
    answer = job.patch(change, dry_run="true")
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert shown["changed"] == ["column_transformations", "schedule", "streams"]
    assert shown["streams"] == ["+ orders, into a new table orders"]
    assert shown["columns"] == ["users: ~ email string becomes string, masked"]
    assert shown["tables"] == ["shop.users: is made", "shop.orders: is made"]
    assert [s["stream"] for s in shown["plan"]["streams"]] == ["users", "orders"]
    assert job.patch({"schedule": None}, dry_run="true").json()["plan"] is None
    skipped = job.patch({"streams": ["x"]}, dry_run="true", preflight="skip").json()
    assert skipped["plan"]["preflight"] == "skipped"
    assert job.stored == before
    assert [e.action for e in service.store.audit.entries()] == ["job.create"]


def test_a_source_that_does_not_answer(service: Service, job: Changed) -> None:
    """503 and nothing changed; what does not concern it is changed all the same."""
    service.planner.error = Unavailable("The source did not answer in time.", code="preflight-timeout")
    assert job.patch({"streams": ["orders"]}).status_code == 503
    assert job.stored.version == 1
    assert job.patch({"schedule": None}).status_code == 200


# ---- secrets -----------------------------------------------------------------------------------------------


def test_masked_secrets(service: Service, job: Changed) -> None:
    """Stay while nothing changes that could lead them elsewhere; else they are asked for."""
    answer = job.patch({"source_config": {"count": 5, "password": MASK}})
    assert answer.status_code == 200, answer.text
    assert service.store.source_config(job.id) == {"count": 5, "password": "never-shown-9"}
    moved = {"count": 5, "password": MASK, "host": "evil.example"}
    answer = job.patch({"source_config": moved})
    assert problem(answer) == (422, "/source_config/password", "secret-needed")
    assert "never-shown-9" not in answer.text
    answer = job.patch({"source_config": moved | {"password": "another-secret-8"}})
    assert answer.status_code == 200
    assert "another-secret-8" not in answer.text
    assert service.store.source_config(job.id) == moved | {"password": "another-secret-8"}
    assert "never-shown-9" not in str(service.store.audit.entries())


def test_a_token_that_the_source_renews(service: Service, job: Changed) -> None:
    """While it is asked: kept even by a dry run and by a refused change, as the old one is of no use."""
    service.planner.renewed = {"count": 3, "password": "renewed-1"}
    assert job.patch({"streams": ["orders"]}, dry_run="true").status_code == 200
    assert service.store.source_config(job.id) == service.planner.renewed
    Changed(service, name="other", mode="overwrite", streams=["orders"], schema_name="shop")
    service.planner.renewed = {"count": 3, "password": "renewed-2"}
    assert job.patch({"streams": ["orders"]}).status_code == 409
    assert service.store.source_config(job.id) == {"count": 3, "password": "renewed-2"}


def test_a_group_does_not_borrow_the_owners_secrets(service: Service) -> None:
    """Who may change a job only because it is shared, cannot send the owner's secrets elsewhere."""
    job = Changed(service)
    service.admin.patch(job.url, json={"share_with": ["sales"]})
    with service.client("carl", roles=["sales"]) as carl:
        assert carl.patch(job.url, json={"schedule": "@hourly"}).status_code == 200
        config = {"count": 3, "password": MASK}
        assert carl.patch(job.url, json={"source_config": config}).status_code == 200
        answer = carl.patch(job.url, json={"source_config": config | {"host": "evil"}})
        assert problem(answer) == (422, "/source_config/password", "secret-needed")
    with service.client("dora") as dora:
        assert dora.patch(job.url, json={"schedule": None}).status_code == 404


# ---- several at once ---------------------------------------------------------------------------------------


def test_a_change_of_what_was_seen(job: Changed) -> None:
    """`If-Match` with the ETag of then: 412 once somebody else has changed the job."""
    etag = job.service.api.get(job.url).headers["etag"]
    assert job.patch({"tags": ["a"]}, etag=etag).status_code == 200
    answer = job.patch({"tags": ["b"]}, etag=etag)
    assert (answer.status_code, answer.json()["type"]) == (412, "/problems/job-changed")
    for other in ('W/"2"', '"x"', "2", '""'):
        assert job.patch({"tags": ["b"]}, etag=other).status_code == 412
    assert job.patch({"tags": ["b"]}, etag='"9", "2"').status_code == 200
    assert job.patch({"tags": ["c"]}, etag="*").status_code == 200
    delete = job.service.api.delete
    assert delete(job.url, headers={"If-Match": etag}).status_code == 412
    assert delete(job.url, headers={"If-Match": '"4"'}).status_code == 204


def test_a_change_during_another_loses_neither(service: Service, job: Changed) -> None:
    """The later one is made again from what is there then; with `If-Match` it is refused."""

    def change(wanted: str, etag: str | None) -> int:
        """The status of a change of streams, during which another one changes the tags."""
        service.planner.gate.clear()
        while service.planner.entered.acquire(blocking=False):
            pass
        answers: list[httpx.Response] = []
        slow = threading.Thread(target=lambda: answers.append(job.patch({"streams": [wanted]}, etag=etag)))
        slow.start()
        assert service.planner.entered.acquire(timeout=10)
        assert job.patch({"tags": [f"during {wanted}"]}).status_code == 200
        service.planner.gate.set()
        slow.join(20)
        return answers[0].status_code

    assert change("orders", None) == 200
    assert (job.stored.request.streams, job.stored.request.tags) == (("orders",), ("during orders",))
    assert change("users", f'"{job.stored.version}"') == 412
    assert (job.stored.request.streams, job.stored.request.tags) == (("orders",), ("during users",))


# ---- the rest of a job's life ------------------------------------------------------------------------------


def test_all_runs_of_a_job_are_cancelled(service: Service, job: Changed) -> None:
    """Those that wait at once, one at work by the orchestrator; without any it is a 409."""
    assert service.api.post(f"{job.url}/cancel").json()["type"] == "/problems/no-open-run"
    for _ in range(2):
        service.api.post(f"{job.url}/trigger")
    running, waiting = service.store.runs(job.id)
    service.store.start_run(job.id, running.flow_run_id, 1, running.created_at)
    answer = service.api.post(f"{job.url}/cancel")
    assert answer.status_code == 202
    assert {run["id"] for run in answer.json()} == {str(running.id), str(waiting.id)}
    assert service.store.run(waiting.id).status is RunStatus.CANCELLED
    assert service.orchestrator.run_state(job.stored.flow_id, running.flow_run_id) == "failed"
    assert service.store.audit.entries()[0].action == "job.cancel"


def test_a_deleted_job_does_not_change(service: Service, job: Changed) -> None:
    """It can be looked at."""
    service.api.delete(job.url)
    assert service.api.get(job.url).json()["is_deleted"] is True
    calls = [
        job.patch({"tags": []}),
        *(service.api.post(f"{job.url}/{what}") for what in ("cancel", "trigger")),
    ]
    assert [c.json()["type"] for c in calls] == ["/problems/job-deleted"] * 3
