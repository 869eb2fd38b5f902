"""Domains, tags and owners are looked for in DataHub when a job is made or changed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from airberg.governance.datahub_settings import DataHubSettings
from airberg.governance.directory import open_directory
from airberg.plan.model import GovernancePlan
from airberg.settings import Settings
from airberg.testing.datahub import DataHubDouble, Fault, serve_datahub
from support.api_service import BODY, Service, running_service

STRICT = {"owner_policy": "must-exist", "tag_policy": "must-exist"}
GOLD = "urn:li:tag:1c4e"


@contextlib.contextmanager
def governed(home: Path, **policies: Any) -> Iterator[tuple[Service, DataHubDouble]]:
    """A service, and the DataHub that it asks: with ann, a group, two tags and a domain."""
    with serve_datahub() as datahub:
        datahub.add_domain("urn:li:domain:6f1d", "Sales")
        datahub.upsert("urn:li:tag:pii", "tagKey", {"name": "pii"})
        datahub.upsert(GOLD, "tagProperties", {"name": "Gold"})
        for urn in ("urn:li:corpuser:ann", "urn:li:corpuser:anna", "urn:li:corpGroup:crm"):
            datahub.upsert(urn, "status", {"removed": False})
        about = {"server": datahub.url, "token": datahub.token, "user_claim_regex": "([^@]+)"} | policies
        settings = DataHubSettings.model_validate(about)
        directory = open_directory(Settings(home=home, datahub=settings))
        with running_service(home, directory, datahub=settings) as service:
            yield service, datahub


def stored(service: Service, job_id: str) -> tuple[GovernancePlan | None, GovernancePlan | None]:
    """What the request and the plan of a job have."""
    job = service.store.job(UUID(job_id))
    return job.request.governance, job.plan.governance if job.plan else None


@pytest.mark.parametrize("preflight", ["run", "skip"])
def test_what_is_there_is_stored_as_datahub_calls_it(tmp_path: Path, preflight: str) -> None:
    """Also without a plan, which the first run makes; the body is shown as it was sent."""
    with governed(tmp_path, **STRICT) as (service, _):
        asked = BODY | {"domain": "Sales", "tags": ["pii", "Gold"]}
        job_id = service.api.post("/api/airbyte/ingest", params={"preflight": preflight}, json=asked).json()[
            "job_id"
        ]
        found = GovernancePlan(domain="urn:li:domain:6f1d", tags=("pii", "1c4e"), owner="ann")
        assert stored(service, job_id) == (found, found if preflight == "run" else None)
        shown = service.api.get(f"/api/jobs/{job_id}").json()
        assert (shown["owner_id"], '"Gold"' in shown["properties_json"]) == ("ann@example.com", True)
        assert '"domain":"Sales"' in shown["properties_json"]
        assert "1c4e" not in shown["properties_json"]


@pytest.mark.parametrize("dry", ["true", "false"])
def test_what_is_missing_is_told_at_once(tmp_path: Path, dry: str) -> None:
    """Before anything is asked of the source, with what was perhaps meant."""
    with governed(tmp_path, **STRICT) as (service, _):
        asked = BODY | {"domain": "Sale", "tags": ["pij", "Golt"]}
        with service.client("anne") as anne:
            answer = anne.post("/api/airbyte/ingest", params={"dry_run": dry}, json=asked)
        assert answer.status_code == 422
        problems = [(p["pointer"], p["code"], p["guidance"].split("?")[0]) for p in answer.json()["errors"]]
        assert problems == [
            ("/owner_id", "unknown-owner", 'Did you mean "ann"'),
            ("/tags", "unknown-tag", 'Did you mean "pii"'),
            ("/tags", "unknown-tag", 'Did you mean "Gold"'),
            ("/domain", "unknown-domain", 'Did you mean "Sales"'),
        ]
        assert service.planner.asked == []
        assert service.store.jobs() == []


def test_a_change_asks_for_what_is_new(tmp_path: Path) -> None:
    """By the same policies; the rest is not looked for again, also while DataHub is away."""
    with governed(tmp_path, **STRICT) as (service, datahub):
        job_id = service.post(domain="Sales", tags=["pii"]).json()["job_id"]
        address = f"/api/jobs/{job_id}"
        refused = service.api.patch(address, json={"tags": ["pij"]})
        assert [p["code"] for p in refused.json()["errors"]] == ["unknown-tag"]
        refused = service.admin.patch(address, json={"owner_id": "bob@example.com"})
        assert [p["code"] for p in refused.json()["errors"]] == ["unknown-owner"]
        assert service.admin.patch(address, json={"owner_id": "group:crm"}).status_code == 200
        assert service.admin.patch(address, json={"tags": ["Gold"]}).status_code == 200
        datahub.fault = Fault(status=503)
        assert service.admin.patch(address, json={"streams": ["users"]}).status_code == 200
        assert service.admin.patch(address, json={"schedule": "@daily"}).status_code == 200
        away = service.admin.patch(address, json={"domain": None, "tags": ["pii"]})
        assert (away.status_code, away.json()["errors"][0]["code"]) == (503, "datahub-unavailable")
        assert service.admin.patch(address, json={"domain": None}).status_code == 200
        found = GovernancePlan(domain=None, tags=("1c4e",), owner="group:crm")
        assert stored(service, job_id) == (found, found)


@pytest.mark.parametrize(
    ("policies", "changes", "status"),
    [
        ({}, {}, 201),
        ({}, {"tags": ["new"]}, 201),
        ({}, {"domain": "Sales"}, 503),
        ({"domain_policy": "create"}, {"domain": "New"}, 503),
        ({"tag_policy": "must-exist"}, {}, 201),
        ({"tag_policy": "must-exist"}, {"tags": ["pii"]}, 503),
        ({"owner_policy": "must-exist"}, {}, 503),
    ],
)
def test_datahub_is_away(
    tmp_path: Path, policies: dict[str, Any], changes: dict[str, Any], status: int
) -> None:
    """A job that needs nothing of it is taken; one that does is not, and may come again."""
    with governed(tmp_path, **policies) as (service, datahub):
        datahub.fault = Fault(status=503)
        answer = service.post(**changes)
        assert answer.status_code == status, answer.text
        assert len(service.store.jobs()) == (status == 201)
        if status == 503:
            assert int(answer.headers["retry-after"]) > 0
            datahub.fault = None
            assert service.post(**changes).status_code == 201


def test_a_domain_that_is_to_be_made(tmp_path: Path) -> None:
    """Is stored under the urn that it will have; the dry run shows it."""
    with governed(tmp_path, domain_policy="create") as (service, datahub):
        asked = BODY | {"domain": "Human Resources"}
        plan = service.api.post("/api/airbyte/ingest", params={"dry_run": "true"}, json=asked).json()["plan"]
        assert plan["governance"]["domain"] == "urn:li:domain:human-resources"
        [found, _] = stored(service, service.post(domain="Human Resources").json()["job_id"])
        assert found is not None
        assert found.domain == "urn:li:domain:human-resources"
        assert datahub.names("urn:li:domain:human-resources") == []


def test_users_of_datahub_are_named_by_a_claim(tmp_path: Path) -> None:
    """The owner of the job stays who he is; who is named by somebody else has no claims."""
    with governed(tmp_path, user_claim="upn", owner_policy="must-exist") as (service, _):
        with service.client("zoe", upn="anna@corp.example.com", roles=["ingest-admin"]) as caller:
            own = caller.post("/api/airbyte/ingest", json=BODY).json()["job_id"]
            for_ann = BODY | {"owner_id": "ann@example.com"}
            other = caller.post("/api/airbyte/ingest", json=for_ann).json()["job_id"]
        assert stored(service, own)[0] == GovernancePlan(owner="anna")
        assert service.store.job(UUID(own)).owner_id == "zoe@example.com"
        assert stored(service, other)[0] == GovernancePlan(owner="ann")
