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

from support.contract_ground import KEYS, PEOPLE, READ, WRITE, Ground, parameters_of
from support.contract_service import running_contract_service


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
    (READ, ("schema", "table")): Rule.SHARED,
    (READ, ("job_id",)): Rule.SHARED,
    (WRITE, ("job_id",)): Rule.SHARED,
    (READ, ("run_id",)): Rule.SHARED,
    (WRITE, ("run_id",)): Rule.SHARED,
    (WRITE, ("key_id",)): Rule.PERSONAL,
    (KEYS, ()): Rule.ANYBODY,
    (KEYS, ("name",)): Rule.ANYBODY,
}
"""By the scope and the parameters of the path."""
OTHER_RULES = {"list_acts": Rule.ADMINISTRATORS, "read_metrics": Rule.ADMINISTRATORS}
"""By id: operations that ask for more than a scope."""
FOR_PEOPLE = {"create_service_key", "revoke_service_key"}
"""By id: operations that take no service key."""

OWN, TEAM, ALL = {"ann"}, {"ann", "cid"}, {"eve"}
NOBODY = (
    "no token",
    "a token of another issuer",
    "two tokens",
    "a token and a service key",
    "a wrong service key",
)


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
    with running_contract_service(home, database) as service, Ground(service) as ground:
        yield ground


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


@pytest.mark.parametrize("person", PEOPLE)
def test_service_keys(ground: Ground, person: str) -> None:
    """A key with the scopes and roles of a person is let in where that is, but makes and ends no keys."""
    who, scopes, roles = PEOPLE[person]
    asked = {"name": person, "scopes": list(scopes), "groups": list(roles)}
    with ground.service.client(who, *{WRITE, *scopes}, roles=roles) as maker:
        key = maker.post("/api/service-keys", json=asked).json()["key"]
    wrong = {}
    psk = {"Authorization-PSK": key}
    with httpx.Client(base_url=ground.service.url, headers=psk, trust_env=False) as program:
        for name, (_, path, operation) in ground.operations().items():
            scope = scope_of(operation)
            wanted = expected(rule_of(name, path, operation), scope, who, scopes)
            if name in FOR_PEOPLE and wanted is not Outcome.LACKS_SCOPE:
                wanted = Outcome.FORBIDDEN
            got = outcome(program.request(**ground.request(name)), scope)
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
    elif credentials == "a token and a service key":
        headers = [("Authorization", f"Bearer {token}"), ("Authorization-PSK", "abk_any")]
        wanted = 400
    elif credentials == "a wrong service key":
        headers = [("Authorization-PSK", f"abk_{'0' * 32}_{'A' * 43}")]
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
        [own_id] = re.findall(r"[0-9a-f-]{36}|s[0-9a-f]{32}", foreign["url"])  # else the schema of a table
        absent = foreign | {"url": foreign["url"].replace(own_id, str(uuid4()))}
        answers = [stranger.request(**asked) for asked in (foreign, absent)]
        texts = [re.sub(r"[0-9a-f-]{36}", "ID", json.dumps(a.json())) for a in answers]
        assert texts[0] == texts[1], name
        assert {a.status_code for a in answers} == {404}, name
