"""Service keys over real HTTP: making, using, listing, revoking them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from airberg.api.app import create_app
from airberg.identity.service_keys import MAX_LIVING, digest_of
from airberg.jobs.engine import engine_of
from airberg.jobs.migrate import upgrade
from airberg.jobs.sql import SqlJobStore
from airberg.keys.seal import Sealer
from airberg.settings import AuthSettings
from support.api_service import BODY, Service, running_service
from support.served import served

PATH = "/api/service-keys"


def make(client: httpx.Client, **changes: Any) -> httpx.Response:
    """Ask for a key that may read and write."""
    return client.post(PATH, json={"name": "loader", "scopes": ["ingest:read", "ingest:write"]} | changes)


def sender(service: Service, key: str) -> httpx.Client:
    """A client that sends a service key and no token."""
    return httpx.Client(base_url=service.url, headers={"Authorization-PSK": key}, trust_env=False)


def problems(answer: httpx.Response) -> list[tuple[str, str]]:
    """Pointers and codes of a refusal."""
    assert answer.status_code == 422, answer.text
    return [(e["pointer"], e["code"]) for e in answer.json()["errors"]]


# ---- making ----------------------------------------------------------------------------------------------


def test_the_answer_shows_the_key_once(service: Service) -> None:
    """No cache keeps it, no list has it, the store has its digest, and the log of acts has neither."""
    answer = make(service.api, days=30)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    made = answer.json()
    text = made.pop("key")
    assert made["state"] == "active"
    assert (made["scopes"], made["groups"]) == (["ingest:read", "ingest:write"], [])
    assert (made["owner_id"], made["created_by"]) == ("ann@example.com", "urn:airberg:development|ann")
    assert (made["last_used_at"], made["revoked_at"]) == (None, None)
    life = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert life == timedelta(days=30)
    listed = service.api.get(PATH)
    assert listed.json() == [made]
    found = service.store.service_keys.find(UUID(made["id"]))
    assert found is not None
    assert found[1] == digest_of(text)
    acts = service.admin.get("/api/audit", params={"target": made["id"]})
    [act] = acts.json()
    assert (act["action"], act["kind"]) == ("service-key.create", "service-key")
    assert act["detail"] == {"name": "loader", "scopes": made["scopes"], "groups": []}
    assert text[37:] not in listed.text + acts.text


def test_without_days_it_lives_as_long_as_it_may(service: Service) -> None:
    """Ninety days, unless the deployment says otherwise; no longer."""
    made = make(service.api).json()
    life = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert life == timedelta(days=90)
    assert make(service.api, days=90).status_code == 201
    assert problems(make(service.api, days=91)) == [("/days", "out-of-range")]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"scopes": ["ingest:read", "keys:admin"]}, ("/scopes/1", "scope-not-yours")),
        ({"scopes": []}, ("/scopes", "out-of-range")),
        ({"scopes": None}, ("/scopes", "wrong-type")),
        ({"scopes": ["ingest:*"]}, ("/scopes/0", "scope-not-yours")),
        ({"groups": ["ingest-admin"]}, ("/groups/0", "group-not-yours")),
        ({"groups": ["user:bob"]}, ("/groups/0", "group-not-yours")),
        ({"groups": ["user:ann"]}, ("/groups/0", "group-not-yours")),
        ({"name": " "}, ("/name", "bad-name")),
        ({"name": "a\nb"}, ("/name", "bad-name")),
        ({"name": "a" * 101}, ("/name", "out-of-range")),
        ({"days": 0}, ("/days", "out-of-range")),
        ({"days": "30"}, ("/days", "wrong-type")),
        ({"key": "abk_mine"}, ("/key", "unknown-field")),
        ({"owner_id": "bob@example.com"}, ("/owner_id", "unknown-field")),
    ],
)
def test_what_is_refused(service: Service, changes: dict[str, Any], wanted: tuple[str, str]) -> None:
    """More than the access token has, or what has no sense; then there is no key."""
    assert problems(make(service.api, **changes)) == [wanted]
    assert service.api.get(PATH).json() == []


def test_making_one_needs_the_scope_to_write(service: Service) -> None:
    """A token that only reads makes none, not even one that only reads."""
    with service.client("cid", "ingest:read") as reader:
        assert make(reader, scopes=["ingest:read"]).status_code == 403
        assert reader.get(PATH).status_code == 200
    assert httpx.post(f"{service.url}{PATH}", json={}).status_code == 401


def test_an_identity_has_so_many(service: Service) -> None:
    """Then it is told to revoke some."""
    for _ in range(MAX_LIVING):
        assert make(service.api).status_code == 201
    answer = make(service.api)
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/too-many-service-keys")
    with service.client("bob") as bob:
        assert make(bob).status_code == 201


# ---- using -----------------------------------------------------------------------------------------------


def test_a_key_sees_and_makes_its_makers_jobs(service: Service) -> None:
    """What either makes is the other's; the acts name the key."""
    by_token = service.post().json()["job_id"]
    made = make(service.api).json()
    with sender(service, made["key"]) as program:
        by_key = program.post("/api/airbyte/ingest", json=BODY | {"name": "by key"})
        assert by_key.status_code == 201, by_key.text
        assert by_key.json()["job_id"] != by_token
        assert {j["id"] for j in program.get("/api/jobs").json()} == {by_token, by_key.json()["job_id"]}
    assert service.api.get(by_key.headers["location"]).json()["owner_id"] == "ann@example.com"
    [act] = service.admin.get("/api/audit", params={"target": by_key.json()["job_id"]}).json()
    assert act["actor"] == f"ann@example.com (urn:airberg:development|ann) by service key {made['id']}"
    [shown] = service.api.get(PATH).json()
    assert shown["last_used_at"] is not None


def test_a_key_has_the_groups_that_were_asked_for(service: Service) -> None:
    """And no others of its maker's: what is shared with those it does not see."""
    with service.client("cid", roles=["sales", "hr", "lawyers"]) as cid:
        made = cid.post(
            "/api/airbyte/ingest", json=BODY | {"name": "for sales", "share_with": ["sales"]}
        ).json()["job_id"]
    with service.client("dan", roles=["sales", "hr"]) as dan:
        sales, plain = (make(dan, groups=groups).json()["key"] for groups in (["sales"], []))
    with sender(service, sales) as in_sales, sender(service, plain) as alone:
        assert [j["id"] for j in in_sales.get("/api/jobs").json()] == [made]
        assert alone.get("/api/jobs").json() == []
        dry = in_sales.post("/api/airbyte/ingest?dry_run=true", json=BODY)
        assert dry.status_code == 200, dry.text
    assert service.planner.roles[-1] == {"sales"}


def test_an_administrators_key_is_none_unless_asked_for(service: Service) -> None:
    """Then it sees all; it still cannot make keys."""
    job_id = service.post().json()["job_id"]
    plain, admin = (make(service.admin, groups=groups).json()["key"] for groups in ([], ["ingest-admin"]))
    with sender(service, plain) as as_plain, sender(service, admin) as as_admin:
        assert as_plain.get(f"/api/jobs/{job_id}").status_code == 404
        assert as_plain.get("/api/audit").status_code == 403
        assert as_admin.get(f"/api/jobs/{job_id}").status_code == 200
        assert as_admin.get("/api/audit").status_code == 200
        refused = make(as_admin)
        assert (refused.status_code, refused.json()["type"]) == (403, "/problems/access-token-needed")


def test_a_key_has_the_scopes_that_were_asked_for(service: Service) -> None:
    """And no others of its maker's token."""
    made = make(service.api, scopes=["ingest:read"]).json()
    assert made["scopes"] == ["ingest:read"]
    with sender(service, made["key"]) as program:
        assert program.get("/api/jobs").status_code == 200
        assert program.post("/api/airbyte/ingest", json=BODY).status_code == 403


def test_a_key_neither_makes_nor_revokes_keys(service: Service) -> None:
    """It may look at the list."""
    made = make(service.api).json()
    with sender(service, made["key"]) as program:
        assert make(program).status_code == 403
        assert program.delete(f"{PATH}/{made['id']}").json()["type"] == "/problems/access-token-needed"
        assert [k["id"] for k in program.get(PATH).json()] == [made["id"]]


def test_a_key_is_not_shown_in_the_log(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """Neither when it is made nor when it is sent, good or not."""
    caplog.set_level(logging.DEBUG)
    key = make(service.api).json()["key"]
    with sender(service, key) as program, sender(service, key[:-1]) as wrong:
        assert program.get("/api/jobs").status_code == 200
        assert wrong.get("/api/jobs").status_code == 401
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    assert not any(key[37:-1] in text for text in ours)


# ---- listing and revoking --------------------------------------------------------------------------------


def test_ones_own_keys_are_listed(service: Service) -> None:
    """Newest first, with those that are out of use; an administrator sees everybody's."""
    mine = [make(service.api, name=name).json()["id"] for name in ("a", "b", "c")]
    with service.client("bob") as bob:
        bobs = make(bob).json()["id"]
        assert [k["id"] for k in bob.get(PATH).json()] == [bobs]
    service.api.delete(f"{PATH}/{mine[1]}")
    listed = service.api.get(PATH).json()
    assert [(k["id"], k["state"]) for k in listed] == [
        (mine[2], "active"),
        (mine[1], "revoked"),
        (mine[0], "active"),
    ]
    assert [k["id"] for k in service.api.get(PATH, params={"limit": 1}).json()] == [mine[2]]
    assert [k["id"] for k in service.admin.get(PATH).json()] == [bobs, *mine[::-1]]


def test_a_revoked_key_is_refused_at_once(service: Service) -> None:
    """Also when it is revoked twice; the act is recorded once."""
    made = make(service.api).json()
    with sender(service, made["key"]) as program:
        assert program.get("/api/jobs").status_code == 200
        for _ in range(2):
            assert service.api.delete(f"{PATH}/{made['id']}").status_code == 204
            refused = program.get("/api/jobs")
            assert refused.status_code == 401
            assert "revoked" in refused.json()["error"]
    acts = service.admin.get("/api/audit", params={"target": made["id"]}).json()
    assert [a["action"] for a in acts] == ["service-key.revoke", "service-key.create"]


def test_an_expired_key_is_refused(service: Service) -> None:
    """By the time of the service."""
    made = make(service.api).json()
    keys = service.store.service_keys
    found = keys.find(UUID(made["id"]))
    assert found is not None
    over = replace(found[0], id=uuid4(), expires_at=datetime.now(UTC) - timedelta(seconds=1))
    text = made["key"].replace(UUID(made["id"]).hex, over.id.hex)
    keys.add(over, digest_of(text))
    with sender(service, text) as program:
        assert "expired" in program.get("/api/jobs").json()["error"]
    assert {k["state"] for k in service.api.get(PATH).json()} == {"active", "expired"}


def test_others_keys_are_not_there(service: Service) -> None:
    """A foreign key is not found, nor one that never was; an administrator may revoke any."""
    made = make(service.api).json()
    with service.client("bob") as bob:
        assert bob.delete(f"{PATH}/{made['id']}").json()["type"] == "/problems/unknown-service-key"
    assert service.api.delete(f"{PATH}/{uuid4()}").status_code == 404
    assert service.api.delete(f"{PATH}/x").status_code == 422
    assert service.api.get(PATH).json()[0]["state"] == "active"
    assert service.admin.delete(f"{PATH}/{made['id']}").status_code == 204
    assert service.api.get(PATH).json()[0]["state"] == "revoked"


# ---- the deployment --------------------------------------------------------------------------------------


@pytest.fixture
def without(tmp_path: Path) -> Iterator[Service]:
    """A service that takes no service keys."""
    with running_service(tmp_path, auth=AuthSettings(service_key_days=0)) as service:
        yield service


def test_a_deployment_without_service_keys(without: Service) -> None:
    """None can be made, and none that there are can be used; they can be revoked."""
    refused = make(without.api)
    assert (refused.status_code, refused.json()["type"]) == (403, "/problems/service-keys-off")
    with sender(without, f"abk_{uuid4().hex}_{'A' * 43}") as program:
        assert "turned off" in program.get("/api/jobs").json()["error"]
    assert without.api.get(PATH).json() == []


def test_a_key_is_revoked_in_all_processes_at_once(service: Service, migrated_sqlite: Path) -> None:
    """Two services on one database: what one revokes, the next request to the other is refused for."""
    url = f"sqlite:///{migrated_sqlite.parent / 'two-services.db'}"
    upgrade(url)
    stores = [SqlJobStore(engine_of(url), Sealer([bytes(32)])) for _ in range(2)]
    apps = [create_app(replace(service.parts, store=store)) for store in stores]
    token = {"Authorization": service.api.headers["Authorization"]}
    with served(apps[0]) as one, served(apps[1]) as two:
        body = {"name": "loader", "scopes": ["ingest:read"]}
        made = httpx.post(f"{one}{PATH}", json=body, headers=token).json()
        psk = {"Authorization-PSK": made["key"]}
        assert httpx.get(f"{two}/api/jobs", headers=psk).status_code == 200
        assert httpx.delete(f"{one}{PATH}/{made['id']}", headers=token).status_code == 204
        assert httpx.get(f"{two}/api/jobs", headers=psk).status_code == 401
    for store in stores:
        store.close()
