"""What a caller may ask for and see, over real HTTP: owners, sharing, schemas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from msgspec.structs import replace as replaced

from airberg.identity.access_settings import AccessSettings, SchemaRule
from support.api_service import BODY, Service, running_service

INGEST = "/api/airbyte/ingest"


def submit(client: httpx.Client, **changes: Any) -> httpx.Response:
    """Submit the body, changed, under a name of its own."""
    return client.post(INGEST, json=BODY | {"name": f"job {uuid4()}"} | changes)


def listed(client: httpx.Client) -> set[str]:
    """Ids of the jobs that a caller sees."""
    answer = client.get("/api/jobs")
    assert answer.status_code == 200, answer.text
    return {job["id"] for job in answer.json()}


def codes(answer: httpx.Response) -> list[tuple[str, str]]:
    """Pointers and codes of a refusal."""
    assert answer.status_code == 422, answer.text
    return [(e["pointer"], e["code"]) for e in answer.json()["errors"]]


# ---- whose jobs one sees ---------------------------------------------------------------------------------


def test_an_address_decides_nothing(service: Service) -> None:
    """Who comes to have the e-mail address of an owner does not come to have the jobs."""
    job_id = service.post().json()["job_id"]
    with service.client("mallory", email="ann@example.com") as mallory:
        assert listed(mallory) == set()
        for method, path in [("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("GET", "/runs")]:
            assert mallory.request(method, f"/api/jobs/{job_id}{path}").status_code == 404
        taken = mallory.post(INGEST, json=BODY)
    assert taken.status_code == 409
    assert job_id not in taken.text
    with service.client("ann", email="ann@new.example") as moved:
        assert listed(moved) == {job_id}
    assert service.admin.get(f"/api/jobs/{job_id}").status_code == 200
    assert job_id in service.post().json()["error"]


def test_an_owner_sees_what_an_administrator_shares(service: Service) -> None:
    """A job made for somebody is not seen by its owner, unless it is shared with the person."""
    made = submit(service.admin, owner_id="bob@example.com", share_with=["user:bob-7"])
    hidden = submit(service.admin, owner_id="bob@example.com")
    assert (made.status_code, hidden.status_code) == (201, 201), made.text
    with service.client("bob-7", email="bob@example.com") as bob:
        assert listed(bob) == {made.json()["job_id"]}
        assert bob.post(f"/api/jobs/{made.json()['job_id']}/pause").status_code == 200
    assert listed(service.admin) == {made.json()["job_id"], hidden.json()["job_id"]}


def test_members_of_a_group_see_and_change_what_is_shared_with_it(service: Service) -> None:
    """Nobody else does; the scope still counts."""
    with (
        service.client("cid", roles=["sales", "lab"]) as cid,
        service.client("dan", groups=["sales"]) as dan,
        service.client("eve", groups=["sale", "user:cid"]) as eve,
        service.client("fay", "ingest:read", groups=["sales"]) as fay,
    ):
        job_id = submit(cid, share_with=["sales"]).json()["job_id"]
        assert listed(cid) == listed(dan) == listed(fay) == {job_id}
        assert listed(eve) == set()
        assert eve.get(f"/api/jobs/{job_id}").status_code == 404
        assert fay.post(f"/api/jobs/{job_id}/pause").status_code == 403
        assert dan.post(f"/api/jobs/{job_id}/pause").status_code == 200
        shown = json.loads(cid.get(f"/api/jobs/{job_id}").json()["properties_json"])
        assert shown["share_with"] == ["sales"]


def test_one_shares_with_groups_of_ones_own(service: Service) -> None:
    """Each other group is named with its place, and nothing is created; an administrator may name any."""
    with service.client("cid", roles=["sales"]) as cid:
        refused = submit(cid, share_with=["sales", "hr", "user:dan", "user:cid"])
        assert codes(refused) == [("/share_with/1", "group-not-yours"), ("/share_with/2", "group-not-yours")]
        assert listed(cid) == set()
        assert submit(cid, share_with=["sales", "user:cid"]).status_code == 201
    assert submit(service.admin, share_with=["hr", "user:dan"]).status_code == 201


@pytest.mark.parametrize(
    ("groups", "pointer", "code"),
    [
        ("sales", "/share_with", "wrong-type"),
        ([1], "/share_with/0", "wrong-type"),
        (["sales", " "], "/share_with/1", "bad-group"),
        (["a\nb"], "/share_with/0", "bad-group"),
        (["a" * 256], "/share_with/0", "out-of-range"),
        (["sales"] * 51, "/share_with", "out-of-range"),
    ],
)
def test_groups_that_are_none(service: Service, groups: Any, pointer: str, code: str) -> None:
    """The form is checked before anything else."""
    assert codes(submit(service.admin, share_with=groups)) == [(pointer, code)]


# ---- owners ----------------------------------------------------------------------------------------------


def test_a_group_owns_jobs_of_its_members(service: Service) -> None:
    """Its members see them; keys are opened for the group alone, not for the member who made the job."""
    with (
        service.client("cid", roles=["sales", "lawyers"]) as cid,
        service.client("dan", roles=["sales"]) as dan,
    ):
        made = submit(cid, owner_id="group:sales")
        assert made.status_code == 201, made.text
        assert listed(dan) == {made.json()["job_id"]}
        assert dan.get(f"/api/jobs/{made.json()['job_id']}").json()["owner_id"] == "group:sales"
        assert service.planner.roles == [{"sales"}]
        assert submit(cid, owner_id="group:hr").status_code == 403
        assert submit(cid, owner_id="sales").status_code == 403
        assert submit(cid, owner_id="user:dan").status_code == 403


def test_a_name_that_looks_like_a_group_owns_nothing_of_it(service: Service) -> None:
    """A claim or a subject with `group:` in front does not make somebody the owner of the group's jobs."""
    for who, claims in [("kim", {"email": "group:sales"}), ("group:sales", {"email": None})]:
        with service.client(who, **claims) as client:
            assert submit(client, owner_id="group:sales").status_code == 403
            job = client.get(submit(client).headers["location"]).json()
            assert job["owner_id"] == ("kim" if who == "kim" else "user:group:sales")


# ---- schemas ---------------------------------------------------------------------------------------------


@pytest.fixture
def ruled(tmp_path: Path) -> Iterator[Service]:
    """A service where sales writes to its schemas, and ann to one more."""
    rules = (
        SchemaRule(groups=("sales",), schemas=("sales_*",)),
        SchemaRule(owners=("ann@example.com", "urn:airberg:development|kim"), schemas=("lab",)),
    )
    with running_service(tmp_path, access=AccessSettings(schemas=rules)) as service:
        yield service


def test_schemas_are_for_whom_the_rules_say(ruled: Service) -> None:
    """By owner, identity and group; of a refusal, the caller's own choices are told, and nobody else's."""
    refused = ruled.post(schema_name="sales_emea")
    assert codes(refused) == [("/schema_name", "schema-not-allowed")]
    assert '"lab"' in refused.json()["detail"]
    assert "sales_*" not in refused.text
    assert ruled.post(schema_name="lab").status_code == 201
    with ruled.client("kim", email="k@example.com") as kim, ruled.client("cid", groups=["sales"]) as cid:
        assert submit(kim, schema_name="lab").status_code == 201
        assert submit(cid, schema_name="sales_emea").status_code == 201
        assert codes(submit(cid, schema_name="lab")) == [("/schema_name", "schema-not-allowed")]
        assert submit(cid, schema_name="sales_emea", owner_id="group:sales").status_code == 201
    with ruled.client("zoe") as zoe:
        nothing = submit(zoe, schema_name="shop")
        assert codes(nothing) == [("/schema_name", "schema-not-allowed")]
        assert "Ask who runs this service" in nothing.json()["detail"]
        dry = zoe.post(f"{INGEST}?dry_run=true", json=BODY)
        assert codes(dry) == [("/schema_name", "schema-not-allowed")]


def test_an_administrator_opens_no_schema_to_an_owner(ruled: Service) -> None:
    """The owner decides: neither an administrator's groups nor the identity count for others' jobs."""
    with ruled.client("kim", roles=["ingest-admin", "sales"]) as admin:
        assert submit(admin, schema_name="sales_x").status_code == 201
        for schema in ("sales_x", "lab"):
            refused = submit(admin, schema_name=schema, owner_id="zoe@example.com")
            assert codes(refused) == [("/schema_name", "schema-not-allowed")]
        assert submit(admin, schema_name="lab", owner_id="ann@example.com").status_code == 201
        assert submit(admin, schema_name="sales_x", owner_id="group:sales").status_code == 201


def test_jobs_that_were_stored_before_sharing_are_their_makers(service: Service) -> None:
    """A job of an earlier version, made by an administrator for ann, is the administrator's."""
    service.post()
    [job] = service.store.jobs()
    other = replace(
        job, id=uuid4(), created_by="issuer|root", request=replaced(job.request, name="made for ann")
    )
    service.store.add_job(other, {})
    assert listed(service.api) == {str(job.id)}
