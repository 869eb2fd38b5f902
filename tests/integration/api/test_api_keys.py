"""`/api/keys` over real HTTP, on the real key store."""

from __future__ import annotations

import base64
import json
import logging
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import sqlalchemy as sa

from airberg.api.app import AppParts, create_app
from airberg.flows.memory import MemoryOrchestrator
from airberg.governance.memory import MemoryDirectory
from airberg.identity.development import DevelopmentIssuer
from airberg.identity.verifier import build_verifier
from airberg.jobs.engine import engine_of
from airberg.jobs.memory import MemoryJobStore
from airberg.jobs.migrate import upgrade
from airberg.keys.cipher import ColumnCipher
from airberg.keys.open import open_keys
from airberg.keys.sql import SqlKeyStore
from airberg.plan.child import ChildPlanner
from airberg.settings import KeySettings, Settings
from support.at_once import at_once
from support.served import served

MASTER_KEY = base64.b64encode(bytes(range(32))).decode()
ANN = "ann@example.com (urn:airberg:development|ann)"


@dataclass
class Service:
    """The application on a new database, and a client that may do everything with keys."""

    settings: Settings
    api: httpx.Client
    issuer: DevelopmentIssuer

    @property
    def store(self) -> SqlKeyStore:
        """The store that the application works on, opened by us."""
        return open_keys(self.settings)

    def post(self, path: str, body: Any = None) -> httpx.Response:
        """POST, without a body when there is none."""
        return self.api.post(f"/api/keys{path}", **({} if body is None else {"json": body}))

    def key(self, name: str) -> dict[str, Any]:
        """A key as the API shows it."""
        answer = self.api.get(f"/api/keys/{name}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def states(self, name: str) -> list[str]:
        """The states of a key's versions, oldest first."""
        return [v["state"] for v in self.key(name)["versions"]]

    def token(self, scopes: str) -> dict[str, str]:
        """A header with a token of ann."""
        return {"Authorization": f"Bearer {self.issuer.mint('ann', scopes.split(), email='ann@example.com')}"}


def parts_of(settings: Settings) -> AppParts:
    """Parts of which only the settings matter here."""
    return AppParts(
        settings=settings,
        store=MemoryJobStore(),
        planner=ChildPlanner(settings),
        orchestrator=MemoryOrchestrator(),
        directory=MemoryDirectory({}),
        verifier=build_verifier(settings),
        machine_token="machine-token-of-the-test",
    )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One for all tests; each makes keys of its own."""
    home = tmp_path_factory.mktemp("keys")
    settings = Settings(home=home, keys=KeySettings(master_key=MASTER_KEY))
    upgrade(settings.database_url)
    issuer = DevelopmentIssuer(settings)
    with served(create_app(parts_of(settings))) as url, httpx.Client(base_url=url, trust_env=False) as api:
        found = Service(settings, api, issuer)
        api.headers.update(found.token("keys:admin"))
        yield found


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem that the answer must be."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"/problems/{code}"
    return body


# ---- what it does ----------------------------------------------------------------------------------------


def test_a_key_is_made_and_shown(service: Service) -> None:
    """201 with its address; what is shown is what the store has, and nothing of the key itself."""
    made = service.post("", {"name": "made", "owners": ["bob", "ann"], "roles": ["crm"]})
    assert (made.status_code, made.headers["Location"]) == (201, "/api/keys/made")
    [stored] = service.store.versions("made")
    shown = made.json()
    [version] = shown.pop("versions")
    assert shown == {
        "name": "made",
        "state": "enabled",
        "primary": 1,
        "restricted": True,
        "owners": ["ann", "bob"],
        "roles": ["crm"],
    }
    ciphertext = ColumnCipher(stored, b"", "random").encrypt_value(b"")
    assert bytes.fromhex(version["key_id"]) == ciphertext[1:5]
    assert (version["version"], version["state"], version["kek"]) == (1, "primary", "local://master")
    assert service.key("made") == made.json()
    assert made.json() in service.api.get("/api/keys").json()


def test_without_owners_and_roles_everybody_may_use_it(service: Service) -> None:
    """And access can be closed and opened again."""
    assert service.post("", {"name": "access"}).json()["restricted"] is False
    path = "/api/keys/access/access"
    closed = service.api.put(path, json={"owners": ["bob"], "roles": []}).json()
    assert (closed["restricted"], closed["owners"]) == (True, ["bob"])
    closed = service.api.put(path, json={"owners": [], "roles": ["crm", "crm"]}).json()
    assert (closed["restricted"], closed["owners"], closed["roles"]) == (True, [], ["crm"])
    assert service.api.put(path, json={"owners": [], "roles": []}).json()["restricted"] is False


def test_rotation_disabling_and_enabling(service: Service) -> None:
    """The whole key, or one version; the store follows."""
    service.post("", {"name": "states"})
    assert service.post("/states/rotate").json()["primary"] == 2
    assert service.states("states") == ["active", "primary"]
    assert service.post("/states/disable", {"version": 1}).status_code == 200
    assert service.states("states") == ["disabled", "primary"]
    assert [k.version for k in service.store.versions("states")] == [2]
    assert service.post("/states/disable").json()["state"] == "disabled"
    problem(service.post("/states/rotate"), 409, "key-disabled")
    assert service.post("/states/enable", {"version": None}).json()["state"] == "enabled"
    assert service.states("states") == ["active", "primary"]


def test_destroying_asks_twice(service: Service) -> None:
    """Without the name nothing happens, and the answer says what would, and what to send."""
    service.post("", {"name": "doomed"})
    service.post("/doomed/rotate")
    for sent in (None, {}, {"confirm": None}, {"confirm": "Doomed"}, {"confirm": "yes"}, {"confirm": ""}):
        said = problem(service.post("/doomed/destroy", sent), 409, "confirmation-needed")
        assert "erase 2 versions (1, 2) of the encryption key 'doomed'" in said["error"]
        assert 'Send {"confirm": "doomed"}' in said["detail"]
    assert service.states("doomed") == ["active", "primary"]
    said = problem(service.post("/doomed/destroy", {"version": 1}), 409, "confirmation-needed")
    assert "erase 1 version (1)" in said["error"]
    told = json.loads(said["detail"].split("Send ")[1].split(" if")[0])
    assert service.post("/doomed/destroy", told).status_code == 200
    assert service.states("doomed") == ["destroyed", "primary"]
    assert service.post("/doomed/destroy", {"confirm": "doomed"}).json()["state"] == "destroyed"
    assert service.post("/doomed/destroy").status_code == 200  # nothing is left that could be erased
    with engine_of(service.settings.database_url).connect() as c:
        left = c.execute(sa.text("SELECT wrapped FROM data_keys WHERE name = 'doomed'")).scalars().all()
    assert left == [b"", b""]


def test_a_destroyed_key_stays_destroyed(service: Service) -> None:
    """No verb brings it back, and its name is not given away again."""
    service.post("", {"name": "gone"})
    service.post("/gone/destroy", {"confirm": "gone"})
    for verb in ("rotate", "enable", "disable"):
        problem(service.post(f"/gone/{verb}"), 409, "key-destroyed")
    problem(service.post("", {"name": "gone"}), 409, "key-exists")
    assert service.states("gone") == ["destroyed"]


def test_the_newest_version_is_not_destroyed_alone(service: Service) -> None:
    """It says so instead of asking to confirm what it would not do."""
    service.post("", {"name": "newest"})
    service.post("/newest/rotate")
    sent = {"version": 2, "confirm": "newest"}
    problem(service.post("/newest/destroy", sent), 409, "key-version-newest")
    problem(service.post("/newest/destroy", {"version": 2}), 409, "key-version-newest")


def test_everything_is_in_the_audit_log(service: Service) -> None:
    """Newest first, with who did it: the name and the identity. What was refused is not there."""
    service.post("", {"name": "seen"})
    service.post("/seen/rotate")
    service.api.put("/api/keys/seen/access", json={"owners": ["bob"], "roles": []})
    service.post("/seen/disable", {"version": 1})
    service.post("/seen/enable")
    service.post("/seen/destroy")
    service.post("/seen/destroy", {"confirm": "seen"})
    log = service.api.get("/api/keys/seen/audit").json()
    assert [(e["action"], e["versions"], e["detail"]) for e in log] == [
        ("destroy", [1, 2], ""),
        ("enable", [1], ""),
        ("disable", [1], ""),
        ("allow", [], "owners bob"),
        ("rotate", [2], ""),
        ("create", [1], "everybody"),
    ]
    assert {(e["actor"], e["key"]) for e in log} == {(ANN, "seen")}
    assert service.api.get("/api/keys/seen/audit?limit=2").json() == log[:2]


def test_the_default_key_is_there(service: Service) -> None:
    """Opening the store made it; nobody asked for it, so the system did."""
    assert service.key("default")["primary"] == 1
    [entry] = service.api.get("/api/keys/default/audit").json()
    assert (entry["action"], entry["actor"]) == ("create", "system")


def test_no_answer_has_key_material(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """Neither raw nor wrapped, in hex or base64, whatever is asked; the log neither."""
    name = "secret"
    with caplog.at_level(logging.DEBUG):
        answers = [service.post("", {"name": name}), service.post(f"/{name}/rotate")]
        raws = [k.raw for k in service.store.versions(name)]
        with engine_of(service.settings.database_url).connect() as c:
            wrapped = c.execute(sa.text("SELECT wrapped FROM data_keys")).scalars().all()
        answers += [service.api.get(f"/api/keys{p}") for p in ("", f"/{name}", f"/{name}/audit")]
        answers += [service.post(f"/{name}/{verb}") for verb in ("disable", "enable", "destroy")]
        answers += [service.post(f"/{name}/destroy", {"confirm": name})]
    text = "".join(a.text + str(a.headers) for a in answers) + caplog.text
    assert len(raws) == 2
    assert len([w for w in wrapped if w]) >= 2
    for raw in [*raws, *filter(None, wrapped), bytes(range(32))]:
        assert raw.hex() not in text
        assert base64.b64encode(raw).decode().rstrip("=") not in text


# ---- what it refuses -------------------------------------------------------------------------------------

ROUTES = [
    ("GET", ""),
    ("POST", ""),
    ("GET", "/default"),
    ("PUT", "/default/access"),
    ("POST", "/default/rotate"),
    ("POST", "/default/disable"),
    ("POST", "/default/enable"),
    ("POST", "/default/destroy"),
    ("GET", "/default/audit"),
]
NAMED = [route for route in ROUTES if route[1]]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_needs_the_scope(service: Service, method: str, path: str) -> None:
    """No token, and one with all other scopes and the administrators' role, do nothing."""
    url = f"/api/keys{path}"
    body = {"json": {"name": "default", "owners": [], "roles": [], "confirm": "default"}}
    sent = body if method != "GET" else {}
    with httpx.Client(base_url=service.api.base_url, trust_env=False) as nobody:
        problem(nobody.request(method, url, **sent), 401, "not-authenticated")
    token = service.issuer.mint("ann", ["ingest:read", "ingest:write"], roles=["ingest-admin"])
    headers = {"Authorization": f"Bearer {token}"}
    refused = service.api.request(method, url, headers=headers, **sent)
    problem(refused, 403, "not-allowed")
    assert 'scope="keys:admin"' in refused.headers["WWW-Authenticate"]
    assert service.states("default") == ["primary"]


@pytest.mark.parametrize("name", ["nope", "NOPE", "a b", "%00", "é", "a" * 65, "a" * 5000, "'; DROP"])
def test_unknown_keys_are_not_found(service: Service, name: str) -> None:
    """Whatever stands in the address of whichever route; what could not be a name is not repeated."""
    escaped = name if name == "%00" else quote(name, safe="")
    for method, path in NAMED:
        url = f"/api/keys/{escaped}" + path.removeprefix("/default")
        body = {"owners": [], "roles": []} if method == "PUT" else {"version": 1}
        answer = service.api.request(method, url, **({"json": body} if method != "GET" else {}))
        text = json.dumps(problem(answer, 404, "unknown-key"), ensure_ascii=False)
        assert name == "nope" or name not in text


@pytest.mark.parametrize("name", ["", "A", "-a", ".a", "a b", "a/b", "ä", "a\n", "a" * 65, "a\x00"])
def test_names_that_a_key_cannot_have(service: Service, name: str) -> None:
    """422 with a pointer to the name."""
    [found] = problem(service.post("", {"name": name}), 422, "invalid-request")["errors"]
    assert (found["pointer"], found["code"]) == ("/name", "invalid-key-name")


BODIES: list[tuple[str, str, Any, str, str]] = [
    ("POST", "", {}, "/name", "required-field"),
    ("POST", "", {"name": 7}, "/name", "wrong-type"),
    ("POST", "", {"name": "b", "owner": ["x"]}, "/owner", "unknown-field"),
    ("POST", "", {"name": "b", "owners": "x"}, "/owners", "wrong-type"),
    ("POST", "", {"name": "b", "owners": [""]}, "/owners/0", "out-of-range"),
    ("POST", "", {"name": "b", "roles": ["x", 7]}, "/roles/1", "wrong-type"),
    ("POST", "", {"name": "b", "roles": ["x" * 256]}, "/roles/0", "out-of-range"),
    ("POST", "", {"name": "b", "roles": ["x"] * 1001}, "/roles", "out-of-range"),
    ("POST", "", [], "", "not-an-object"),
    ("PUT", "/default/access", {"owners": []}, "/roles", "required-field"),
    ("PUT", "/default/access", {"owners": [], "roles": None}, "/roles", "wrong-type"),
    ("POST", "/default/disable", {"version": 0}, "/version", "out-of-range"),
    ("POST", "/default/disable", {"version": "1"}, "/version", "wrong-type"),
    ("POST", "/default/enable", {"version": True}, "/version", "wrong-type"),
    ("POST", "/default/destroy", {"version": 2**40, "confirm": "default"}, "/version", "out-of-range"),
    ("POST", "/default/destroy", {"verison": 1, "confirm": "default"}, "/verison", "unknown-field"),
    ("POST", "/default/destroy", {"confirm": ["default"]}, "/confirm", "wrong-type"),
]


@pytest.mark.parametrize(("method", "path", "body", "pointer", "code"), BODIES)
def test_wrong_bodies_change_nothing(
    service: Service, method: str, path: str, body: Any, pointer: str, code: str
) -> None:
    """422 with the field; a misspelt field is never taken for one that was left out."""
    answer = service.api.request(method, f"/api/keys{path}", json=body)
    [found] = problem(answer, 422, "invalid-request")["errors"]
    assert (found["pointer"], found["code"]) == (pointer, code)
    assert service.states("default") == ["primary"]
    assert "b" not in [key["name"] for key in service.api.get("/api/keys").json()]


def test_other_refusals(service: Service) -> None:
    """A name twice, a version that is not there, a body that is too large or no JSON, a limit, a method."""
    service.post("", {"name": "twice"})
    problem(service.post("", {"name": "twice"}), 409, "key-exists")
    for verb in ("disable", "enable", "destroy"):
        problem(service.post(f"/twice/{verb}", {"version": 2}), 404, "unknown-key-version")
    limit = service.settings.api.max_body_bytes
    problem(service.api.post("/api/keys", content=b" " * (limit + 1)), 413, "too-large")
    broken = service.api.post(
        "/api/keys/twice/destroy", content=b'{"confirm": ', headers={"Content-Type": "application/json"}
    )
    assert problem(broken, 422, "invalid-request")["errors"][0]["code"] == "bad-json"
    problem(service.api.get("/api/keys/twice/audit?limit=1001"), 422, "invalid-request")
    problem(service.api.delete("/api/keys/twice"), 405, "method-not-allowed")
    assert service.states("twice") == ["primary"]


# ---- at once ---------------------------------------------------------------------------------------------


def test_one_of_many_creators_gets_the_key(service: Service) -> None:
    """201 once, 409 for the others, one version."""
    codes = at_once(*[lambda: service.post("", {"name": "raced"}).status_code] * 8)
    assert sorted(map(str, codes)) == ["201"] + ["409"] * 7
    assert service.states("raced") == ["primary"]
    assert len(service.api.get("/api/keys/raced/audit").json()) == 1


def test_rotations_and_destruction_at_once_end_well(service: Service) -> None:
    """Each rotation is there in full or refused; after the destruction nothing is left that decrypts."""
    service.post("", {"name": "storm"})

    def rotate() -> int:
        return service.post("/storm/rotate").status_code

    def destroy() -> int:
        return service.post("/storm/destroy", {"confirm": "storm"}).status_code

    codes = at_once(rotate, rotate, rotate, destroy, rotate, rotate)
    assert codes[3] == 200
    assert set(codes) <= {200, 409}
    assert set(service.states("storm")) == {"destroyed"}
    log = service.api.get("/api/keys/storm/audit").json()
    assert [e["action"] for e in log].count("rotate") == codes.count(200) - 1
    assert len(service.states("storm")) == codes.count(200)
    assert log[0]["action"] == "destroy"


# ---- a deployment that is not well -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("master_key", "code"), [(None, "no-master-key"), ("bm90IDMyIGJ5dGVz", "bad-master-key")]
)
def test_a_wrong_master_key_is_told_and_kills_nothing(
    tmp_path: Path, master_key: str | None, code: str
) -> None:
    """503 with the reason; everything else is answered, and keys too once there is a master key."""
    settings = Settings(home=tmp_path, keys=KeySettings(master_key=master_key))
    upgrade(settings.database_url)
    token = DevelopmentIssuer(settings).mint("ann", ["keys:admin"])
    with (
        served(create_app(parts_of(settings))) as url,
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as api,
    ):
        for _ in range(2):
            refused = api.get("/api/keys")
            assert "master" in problem(refused, 503, code)["error"].lower()
            assert refused.headers["Retry-After"] == "60"
            problem(api.post("/api/keys", json={"name": "a"}), 503, code)
        assert api.get("/api/health/ready").status_code == 200
        if master_key is None:
            file = settings.secrets_dir / "master.key"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(base64.b64encode(secrets.token_bytes(32)))
            assert api.post("/api/keys", json={"name": "a"}).status_code == 201


def test_a_database_that_is_not_migrated_is_told(tmp_path: Path) -> None:
    """As for every part of the service: what to do is in the answer."""
    settings = Settings(home=tmp_path, keys=KeySettings(master_key=MASTER_KEY))
    token = DevelopmentIssuer(settings).mint("ann", ["keys:admin"])
    with (
        served(create_app(parts_of(settings))) as url,
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as api,
    ):
        said = problem(api.get("/api/keys"), 503, "schema-out-of-date")
        assert "airberg db upgrade" in said["detail"]


def test_the_key_store_is_opened_when_it_is_needed(tmp_path: Path) -> None:
    """Not by making the application, nor by other requests; once for all that need it."""
    settings = Settings(home=tmp_path, keys=KeySettings(master_key=MASTER_KEY))
    upgrade(settings.database_url)
    opened: list[SqlKeyStore] = []

    def opening() -> SqlKeyStore:
        opened.append(open_keys(settings))
        return opened[-1]

    token = DevelopmentIssuer(settings).mint("ann", ["keys:admin"])
    app = create_app(replace(parts_of(settings), open_keys=opening))
    with (
        served(app) as url,
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as api,
    ):
        assert api.get("/api/health/ready").status_code == 200
        assert api.get("/api/keys", headers={"Authorization": "Bearer x"}).status_code == 401
        assert opened == []
        codes = at_once(*[lambda: api.get("/api/keys").status_code] * 6)
        assert codes == [200] * 6
    assert len(opened) == 1
