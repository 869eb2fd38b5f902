"""Every operation of the document × everybody: who is let in, who is not, and how that is told.

The rules are keyed by what the document says of an operation: the scope it needs and the kinds of ids in its
path. An operation of another kind has no rule, and fails until it is given one.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from support.contract_service import ContractService, running_contract_service

READ, WRITE, KEYS = "ingest:read", "ingest:write", "keys:admin"


class Rule(StrEnum):
    """Who is let in, of those who have the scope."""

    PUBLIC = "everybody, without a token too"
    ANYBODY = "everybody"
    SHARED = "who made it, the groups that it is shared with, administrators; it is not there for others"
    PERSONAL = "who made it, and administrators; it is not there for others"
    ADMINISTRATORS = "administrators"


class Outcome(StrEnum):
    """What somebody gets."""

    CHALLENGE = "401 with a challenge"
    LACKS_SCOPE = "403 with a challenge that names the scope"
    FORBIDDEN = "403"
    NOT_FOUND = "404"
    LET_IN = "2xx"


RULES: dict[tuple[str | None, tuple[str, ...]], Rule] = {
    (None, ()): Rule.PUBLIC,
    (READ, ()): Rule.ANYBODY,
    (WRITE, ()): Rule.ANYBODY,
    (READ, ("source_name",)): Rule.ANYBODY,
    (READ, ("job_id",)): Rule.SHARED,
    (WRITE, ("job_id",)): Rule.SHARED,
    (READ, ("run_id",)): Rule.SHARED,
    (WRITE, ("run_id",)): Rule.SHARED,
    (KEYS, ()): Rule.ANYBODY,
    (KEYS, ("name",)): Rule.ANYBODY,
}
"""By the scope and the parameters of the path."""
OTHER_RULES = {"list_acts": Rule.ADMINISTRATORS}
"""By id: operations that ask for more than a scope."""

PEOPLE: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "maker": ("ann", (READ, WRITE), ("sales",)),
    "maker who may read": ("ann", (READ,), ("sales",)),
    "maker who may write": ("ann", (WRITE,), ("sales",)),
    "teammate": ("cid", (READ, WRITE), ("sales",)),
    "stranger": ("bob", (READ, WRITE), ("marketing",)),
    "keeper of keys": ("kim", (KEYS,), ()),
    "administrator": ("eve", (READ, WRITE, KEYS), ("ingest-admin",)),
    "administrator who may read": ("eve", (READ,), ("ingest-admin",)),
}
"""Who they are, scopes, roles."""
OWN, TEAM, ALL = {"ann"}, {"ann", "cid"}, {"eve"}
NOBODY = ("no token", "a token of another issuer", "two tokens")


class Ground:
    """The service with something of each kind that belongs to ann, new each time it is asked for."""

    def __init__(self, service: ContractService) -> None:
        self.service = service
        self.document: dict[str, Any] = httpx.get(f"{service.url}/openapi.json", trust_env=False).json()
        self.clients = {
            name: service.client(who, *scopes, roles=roles) for name, (who, scopes, roles) in PEOPLE.items()
        }
        self.admin = self.clients["administrator"]
        self.maker = self.clients["maker"]

    def operations(self) -> dict[str, tuple[str, str, dict[str, Any]]]:
        """Method, path and operation by id."""
        return {
            o["operationId"]: (m, p, o) for p, item in self.document["paths"].items() for m, o in item.items()
        }

    def job(self) -> str:
        """A job, shared with a group."""
        answer = self.maker.post("/api/airbyte/ingest", json=self.submission() | {"share_with": ["sales"]})
        assert answer.status_code == 201, answer.text
        found: str = answer.json()["job_id"]
        return found

    def submission(self) -> dict[str, Any]:
        """A body of the ingest call that is unlike those before."""
        body: dict[str, Any] = self.document["components"]["schemas"]["IngestBody"]["examples"][0]
        number = uuid4().hex
        return body | {"name": number, "schema_name": f"s{number}"}

    def made(self, parameter: str) -> str:
        """Something new of the kind that a parameter of a path names."""
        match parameter:
            case "job_id":
                return self.job()
            case "run_id":
                return self._made(self.maker.post(f"/api/jobs/{self.job()}/trigger"), "id")
            case "name":
                name = f"k{uuid4().hex}"
                return self._made(self.admin.post("/api/keys", json={"name": name}), "name")
            case "key_id":
                asked = {"name": "loader", "scopes": [READ]}
                return self._made(self.maker.post("/api/service-keys", json=asked), "id")
            case "source_name":
                return "source-faker"
        raise AssertionError(f"what a {parameter} is, nobody has told this test")

    @staticmethod
    def _made(answer: httpx.Response, member: str) -> str:
        assert answer.status_code < 300, answer.text
        return str(answer.json()[member])

    def request(self, name: str) -> dict[str, Any]:
        """A request that would be carried out if its sender is let in."""
        method, path, operation = self.operations()[name]
        made = {parameter: self.made(parameter) for parameter in parameters_of(path)}
        query = {
            p["name"]: p["example"]
            for p in operation.get("parameters", [])
            if p.get("required") and p["in"] == "query"
        }
        out: dict[str, Any] = {"method": method.upper(), "url": path.format(**made), "params": query}
        if "requestBody" in operation:
            out["json"] = self.body(name, operation, made)
        return out

    def body(self, name: str, operation: dict[str, Any], made: dict[str, str]) -> Any:
        """The example of the document, of something that is new where it has to be."""
        own = {
            "create_ingestion": self.submission,
            "create_key": lambda: {"name": f"k{uuid4().hex}"},
            "destroy_key": lambda: {"confirm": made["name"]},
            "create_service_key": lambda: {"name": "loader", "scopes": [READ]},
        }
        if name in own:
            return own[name]()
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        return self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["examples"][0]


def parameters_of(path: str) -> tuple[str, ...]:
    """The parameters of a path."""
    return tuple(re.findall(r"\{(\w+)\}", path))


def scope_of(operation: dict[str, Any]) -> str | None:
    """The scope that an operation asks for, whichever credentials are sent; one at most."""
    found = {scope for way in operation["security"] for scopes in way.values() for scope in scopes}
    assert len(found) <= 1, "a rule for operations with several scopes has to be found first"
    return next(iter(found), None)


def rule_of(name: str, path: str, operation: dict[str, Any]) -> Rule:
    """The rule of an operation. There has to be one."""
    kind = (scope_of(operation), parameters_of(path))
    assert name in OTHER_RULES or kind in RULES, f"{name} has no rule: say who may call what needs {kind}"
    return OTHER_RULES.get(name) or RULES[kind]


def expected(rule: Rule, scope: str | None, who: str, scopes: tuple[str, ...]) -> Outcome:
    """What somebody with a good token gets."""
    if rule is Rule.PUBLIC:
        return Outcome.LET_IN
    if scope not in scopes:
        return Outcome.LACKS_SCOPE
    if rule is Rule.ADMINISTRATORS and who not in ALL:
        return Outcome.FORBIDDEN
    if rule is Rule.SHARED and who not in TEAM | ALL:
        return Outcome.NOT_FOUND
    if rule is Rule.PERSONAL and who not in OWN | ALL:
        return Outcome.NOT_FOUND
    return Outcome.LET_IN


def outcome(answer: httpx.Response, scope: str | None) -> Outcome | str:
    """What an answer means; a text that says what is wrong with it if it means nothing.

    A connector would be installed for who may write, for which the service of this test lacks PyAirbyte.
    """
    challenge = answer.headers.get("WWW-Authenticate", "")
    parts = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    match answer.status_code:
        case 401:
            told = challenge.startswith("Bearer ") and "resource_metadata" in parts
            return Outcome.CHALLENGE if told else f"401 with {challenge!r}"
        case 403 if challenge:
            told = parts.get("error") == "insufficient_scope" and parts.get("scope") == scope
            return Outcome.LACKS_SCOPE if told else f"403 with {challenge!r}"
        case 403:
            return Outcome.FORBIDDEN
        case 404:
            return Outcome.NOT_FOUND
        case 200 | 201 | 202 | 204:
            return Outcome.LET_IN
        case 503 if "PyAirbyte's environment" in answer.text:
            return Outcome.LET_IN
    return f"{answer.status_code} {answer.text[:300]}"


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> Iterator[Ground]:
    """The service on SQLite."""
    home = tmp_path_factory.mktemp("authorisation")
    database = Path(shutil.copy(migrated_sqlite, home / "jobs.db"))
    with running_contract_service(home, database) as service:
        ground = Ground(service)
        yield ground
        for client in ground.clients.values():
            client.close()


def test_every_operation_has_a_rule(ground: Ground) -> None:
    """And there is no rule for what is not there."""
    found = {name: rule_of(name, path, o) for name, (_, path, o) in ground.operations().items()}
    assert set(found.values()) >= {Rule.PUBLIC, Rule.ANYBODY, Rule.SHARED, Rule.ADMINISTRATORS}
    assert set(OTHER_RULES) <= set(found)
    kinds = {(scope_of(o), parameters_of(path)) for _, path, o in ground.operations().values()}
    assert set(RULES) <= kinds


@pytest.mark.parametrize("person", PEOPLE)
def test_people(ground: Ground, person: str) -> None:
    """With tokens that hold: scope first, then whose it is."""
    who, scopes, _ = PEOPLE[person]
    wrong = {}
    for name, (_, path, operation) in ground.operations().items():
        scope = scope_of(operation)
        wanted = expected(rule_of(name, path, operation), scope, who, scopes)
        got = outcome(ground.clients[person].request(**ground.request(name)), scope)
        if got != wanted:
            wrong[name] = f"{got}, not {wanted}"
    assert wrong == {}


@pytest.mark.parametrize("credentials", NOBODY)
def test_who_is_nobody(ground: Ground, credentials: str) -> None:
    """Without a token, with one that does not hold, with two: nothing but what is public."""
    token = ground.service.token("ann", READ, WRITE, KEYS)
    headers: list[tuple[str, str]] = []
    wanted: Outcome | int = Outcome.CHALLENGE
    if credentials == "a token of another issuer":
        headers = [("Authorization", f"Bearer {token[:-8]}AAAAAAAA")]
    elif credentials == "two tokens":
        headers = [("Authorization", f"Bearer {token}")] * 2
        wanted = 400
    wrong = {}
    with httpx.Client(base_url=ground.service.url, headers=headers, trust_env=False) as nobody:
        for name, (_, path, operation) in ground.operations().items():
            answer = nobody.request(**ground.request(name))
            public = rule_of(name, path, operation) is Rule.PUBLIC
            got = answer.status_code if isinstance(wanted, int) and not public else outcome(answer, None)
            if got != (Outcome.LET_IN if public else wanted):
                wrong[name] = got
    assert wrong == {}


def test_what_is_not_there_is_told_like_what_is_foreign(ground: Ground) -> None:
    """Word for word, but for the id: that something exists is not told to strangers."""
    stranger = ground.clients["stranger"]
    for name, (_, path, operation) in ground.operations().items():
        if rule_of(name, path, operation) not in (Rule.SHARED, Rule.PERSONAL):
            continue
        foreign = ground.request(name)
        [own_id] = re.findall(r"[0-9a-f-]{36}", foreign["url"])
        absent = foreign | {"url": foreign["url"].replace(own_id, str(uuid4()))}
        answers = [stranger.request(**asked) for asked in (foreign, absent)]
        texts = [re.sub(r"[0-9a-f-]{36}", "ID", json.dumps(a.json())) for a in answers]
        assert texts[0] == texts[1], name
        assert {a.status_code for a in answers} == {404}, name
