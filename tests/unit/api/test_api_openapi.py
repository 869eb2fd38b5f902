"""The OpenAPI document says everything about every operation, also about those that are still to come."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openapi_spec_validator
import pytest
from fastapi.routing import APIRoute

from airberg.api.app import create_app
from airberg.api.auth import SCOPES
from airberg.api.openapi_examples import EXAMPLES
from airberg.api.openapi_operations import ANSWER_HEADERS, LEADS_TO, NAMES_OF_PROBLEMS, TAGS
from airberg.api.openapi_parameters import PARAMETERS
from airberg.api.problems import TITLES
from airberg.settings import Settings
from support.contract_service import memory_parts

SAYS_WHAT = {"type", "$ref", "enum", "const", "anyOf", "oneOf", "allOf"}
ANYTHING = {
    *("ConfigFieldView/default", "ConfigFieldView/enum/items"),
    *("StateView/value", "ChangeView/before", "ChangeView/after", "MemberView/value"),
}
"""What a connector's specification can have as default or choice, and what is in its states: any JSON."""
FREE_OBJECTS = {
    "IngestBody/source_config",
    "JobPatch/source_config",
    "SourceBody/source_config",
    "PlanView/source_config",
    "FoundStream/json_schema",
    "SourceDetails/spec",
    "SourceDetails/config_template",
    "ActView/detail",
    "StatesBody/states/items",
    "JobStateView/states/items",
    "StreamStateView/state",
    "TableRewindView/state_before",
    "TableRewindView/state_after",
    "TableView/preview/items",
}
"""Objects that a connector or a table says the form of, and what differs by the kind of an act."""
Operation = tuple[str, str, dict[str, Any]]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The application, on the in-memory twins."""
    return create_app(memory_parts(Settings(home=tmp_path_factory.mktemp("home"))))


@pytest.fixture(scope="module")
def document(app: Any) -> dict[str, Any]:
    """What the application says of itself."""
    found: dict[str, Any] = app.openapi()
    return found


def operations(document: dict[str, Any]) -> list[Operation]:
    """Path, method and operation of all."""
    return [(p, m, o) for p, item in document["paths"].items() for m, o in item.items()]


def resolved(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """What a reference leads to."""
    while "$ref" in node:
        found: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
        node = found
    return node


def gaps(document: dict[str, Any], look: Any) -> list[str]:
    """What `look` finds to be missing, with the operation that it is missing of."""
    return [f"{m.upper()} {p}: {gap}" for p, m, o in operations(document) for gap in look(p, m, o)]


def test_document_is_valid(document: dict[str, Any]) -> None:
    """By the schema of OpenAPI 3.1, and by the rules beyond it: unique ids, parameters of paths, examples."""
    assert document["openapi"].startswith("3.1")
    openapi_spec_validator.validate(document)
    assert document["info"].keys() >= {"title", "summary", "description", "version", "license"}


def test_every_route_is_documented(app: Any, document: dict[str, Any]) -> None:
    """But for the feed of Airflow's DAG bundle, which is between parts of a deployment."""
    documented = {(p, m.upper()) for p, m, _ in operations(document)}
    found = {(r.path, m) for r in routes(app.routes) for m in r.methods}
    assert {(p, m) for p, m in found - documented if not p.startswith("/internal/")} == set()
    assert len(found) > 25


def routes(found: Any) -> Iterator[APIRoute]:
    """All routes, those of included routers too."""
    for route in found:
        if isinstance(route, APIRoute):
            yield route
        else:
            inner = getattr(route, "original_router", None) or getattr(route, "app", None)
            yield from routes(getattr(inner, "routes", []))


def test_every_operation_has_words(document: dict[str, Any]) -> None:
    """A summary, a description of its own, a tag that is explained, an id that makes a name of a method."""

    def look(path: str, method: str, o: dict[str, Any]) -> Iterator[str]:
        if not 3 <= len(o.get("summary", "")) <= 60 or o["summary"].endswith("."):
            yield f"summary {o.get('summary')!r}"
        own = o.get("description", "").partition("\n\nScope:")[0]
        if len(own) < 15 or not own.endswith("."):
            yield f"description {own!r}"
        if len(o.get("tags", [])) != 1 or o["tags"][0] not in {t["name"] for t in TAGS}:
            yield f"tags {o.get('tags')}"
        if not re.fullmatch(r"[a-z]+(_[a-z]+)*", o.get("operationId", "")):
            yield f"operationId {o.get('operationId')}"

    assert gaps(document, look) == []
    assert [i for i, n in Counter(o["operationId"] for *_, o in operations(document)).items() if n > 1] == []


def test_every_operation_says_who_may(document: dict[str, Any]) -> None:
    """Scopes that there are; without a token only health, metrics and where to get one."""
    schemes = document["components"]["securitySchemes"]

    def look(path: str, method: str, o: dict[str, Any]) -> Iterator[str]:
        if o["security"] == [] and o["tags"][0] not in ("health", "authorization"):
            yield "no security"
        for way in o["security"]:
            for scheme, scopes in way.items():
                if scheme not in schemes or not scopes or not set(scopes) <= set(SCOPES):
                    yield f"security {scheme} {scopes}"

    assert gaps(document, look) == []
    assert all(scheme.get("description") for scheme in schemes.values())


def test_every_parameter_is_explained(document: dict[str, Any]) -> None:
    """What it means, its type, an example that fits it."""

    def look(path: str, method: str, o: dict[str, Any]) -> Iterator[str]:
        for p in o.get("parameters", []):
            what = f"{p['in']} {p['name']}"
            if len(p.get("description", "")) < 5:
                yield f"{what} has no description"
            examples = [p["example"]] if "example" in p else p["schema"].get("examples", [])
            if not examples:
                yield f"{what} has no example"
            for example in examples:
                yield from (f"{what}: {fault}" for fault in faults(document, p["schema"], example))

    assert gaps(document, look) == []
    used = {(p["in"], p["name"]) for *_, o in operations(document) for p in o.get("parameters", [])}
    assert set(PARAMETERS) - used == set()


def test_every_answer_is_described(document: dict[str, Any]) -> None:
    """Its meaning, the schema of its body, an example that fits it, headers that are components."""

    def look(path: str, method: str, o: dict[str, Any]) -> Iterator[str]:
        for status, answer in o["responses"].items():
            found = resolved(document, answer)
            if len(found.get("description", "")) < 5:
                yield f"{status} has no description"
            if status not in ("204", "304") and not found.get("content"):
                yield f"{status} has no body"
            for media, content in found.get("content", {}).items():
                yield from (f"{status} {media} {gap}" for gap in content_gaps(document, content))
            headers = found.get("headers", {}).values()
            yield from (f"{status} header {h}" for h in headers if "$ref" not in h)

    assert gaps(document, look) == []


def test_every_body_has_examples(document: dict[str, Any]) -> None:
    """That fit it."""

    def look(path: str, method: str, o: dict[str, Any]) -> Iterator[str]:
        for media, content in o.get("requestBody", {}).get("content", {}).items():
            yield from (f"{media} {gap}" for gap in content_gaps(document, content))

    assert gaps(document, look) == []


def content_gaps(document: dict[str, Any], content: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the schema and the examples of one media type."""
    schema = content.get("schema", {})
    if not SAYS_WHAT & schema.keys():
        yield "has no schema"
        return
    shown = [content["example"]] if "example" in content else []
    shown += [resolved(document, e)["value"] for e in content.get("examples", {}).values()]
    shown += examples_of(document, schema)
    if not shown:
        yield "has no example"
    for example in shown:
        yield from faults(document, schema, example)


def examples_of(document: dict[str, Any], schema: dict[str, Any]) -> list[Any]:
    """Examples that a schema itself has, or that those of its items or of its alternatives make."""
    found = resolved(document, schema)
    if "examples" in found:
        return list(found["examples"])
    if found.get("type") == "array":
        inner = examples_of(document, found["items"])
        return [inner] if inner else []
    return [e for one in found.get("anyOf", []) for e in examples_of(document, one)]


def faults(document: dict[str, Any], schema: dict[str, Any], value: Any) -> list[str]:
    """Why a value does not fit a schema, formats included."""
    whole = schema | {"components": document["components"]}
    formats = jsonschema.Draft202012Validator.FORMAT_CHECKER
    checker = jsonschema.Draft202012Validator(whole, format_checker=formats)
    return [f"{list(e.absolute_path)}: {e.message[:200]}" for e in checker.iter_errors(value)]


def test_problems_follow_from_what_an_operation_takes(document: dict[str, Any]) -> None:
    """Who may call, what is looked for, what can be wrong, what can be too large: each has its status."""

    def look(path: str, method: str, o: dict[str, Any]) -> Iterator[str]:
        wanted = {"500", "503"}
        wanted |= {"400", "401", "403", "429"} if o["security"] else set()
        wanted |= {"404"} if "{" in path else set()
        wanted |= {"422"} if "requestBody" in o or o.get("parameters") else set()
        wanted |= {"413"} if method != "get" else set()
        yield from (f"lacks {status}" for status in sorted(wanted - o["responses"].keys()))
        for status, answer in o["responses"].items():
            if status >= "4" and list(resolved(document, answer)["content"]) != ["application/problem+json"]:
                yield f"{status} is no problem"
        if not any(status < "4" for status in o["responses"]):
            yield "never succeeds"

    assert gaps(document, look) == []


def test_headers_of_problems(document: dict[str, Any]) -> None:
    """Challenges (RFC 6750), and when to try again."""
    answers = document["components"]["responses"]
    assert set(answers) == {NAMES_OF_PROBLEMS[s] for s in TITLES if s not in (405, 415)}
    headers = {name: set(answer["headers"]) for name, answer in answers.items()}
    for name in ("NotAuthenticated", "NotAllowed", "BadRequest"):
        assert "WWW-Authenticate" in headers[name]
    for name in ("TooManyRequests", "Unavailable"):
        assert "Retry-After" in headers[name]


def test_every_schema_is_of_a_type(document: dict[str, Any]) -> None:
    """And every object is closed, or says what else may be in it."""
    untyped, open_, undescribed = [], [], []

    def look(schema: Any, place: str) -> None:
        if not SAYS_WHAT & schema.keys() and place not in ANYTHING:
            untyped.append(place)
        if schema.get("type") == "object":
            rest = schema.get("additionalProperties")
            if rest is None or (rest is True and place not in FREE_OBJECTS):
                open_.append(place)
        for name, member in schema.get("properties", {}).items():
            look(member, f"{place}/{name}")
        for key in ("items", "additionalProperties"):
            if isinstance(schema.get(key), dict):
                look(schema[key], f"{place}/{key}")
        for one in schema.get("anyOf", []):
            look(one, place)

    for name, schema in document["components"]["schemas"].items():
        look(schema, name)
        if not schema.get("description") and schema["type"] == "object":
            undescribed.append(name)
    assert (untyped, open_, undescribed) == ([], [], [])


def test_formats(document: dict[str, Any]) -> None:
    """Members that are moments, addresses or ids say so, whatever they are in."""
    wanted = {"_at": {"date-time"}, "_url": {"uri", "uri-reference"}}
    missing = []
    for name, schema in document["components"]["schemas"].items():
        for member, of in schema.get("properties", {}).items():
            forms = {one.get("format") for one in [of, *of.get("anyOf", [])]} - {None}
            for ending, fitting in wanted.items():
                if member.endswith(ending) and "const" not in of and not forms & fitting:
                    missing.append(f"{name}.{member}")
    assert missing == []


def test_nothing_is_said_of_what_is_not_there(document: dict[str, Any]) -> None:
    """Examples, headers and links of operations that have gone, or have another name."""
    names = {o["operationId"] for *_, o in operations(document)}
    assert set(EXAMPLES) - set(document["components"]["schemas"]) == set()
    assert {name for name, _ in ANSWER_HEADERS} - names == set()
    assert {name for name, *_ in LEADS_TO} - names == set()


def test_ids_lead_on(document: dict[str, Any]) -> None:
    """A job that was made leads to all that can be done with it."""
    links = document["paths"]["/api/airbyte/ingest"]["post"]["responses"]["201"]["links"]
    of_jobs = {o["operationId"] for p, _, o in operations(document) if p.startswith("/api/jobs/{job_id}")}
    assert set(links) == of_jobs
    assert len(of_jobs) > 5


def test_a_service_without_a_home_shows_the_same(tmp_path: Path, document: dict[str, Any]) -> None:
    """The document depends on nothing but the address of the deployment."""
    other = create_app(memory_parts(Settings(home=tmp_path / "elsewhere"))).openapi()
    assert other == document
