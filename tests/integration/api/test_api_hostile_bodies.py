"""Any bytes as the body of the ingest call: a problem with a pointer, never a breakdown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from support.contract_service import running_contract_service

GOOD: dict[str, Any] = {
    "name": "n",
    "source_name": "source-faker",
    "source_config": {},
    "schema_name": "shop",
    "mode": "append",
}
INNER = '"source_config":{%s}'


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client that may make jobs."""
    with (
        running_contract_service(tmp_path_factory.mktemp("hostile")) as service,
        service.client("ann", "ingest:read", "ingest:write", "keys:admin") as api,
    ):
        yield api


def refused(api: httpx.Client, body: bytes) -> dict[str, Any]:
    """The problem that a body is answered with; each of its errors points into the body."""
    answer = api.post("/api/airbyte/ingest?dry_run=true", content=body)
    assert 400 <= answer.status_code < 500, (answer.status_code, body[:200])
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["errors"]
    for error in problem["errors"]:
        assert error["pointer"] == "" or error["pointer"].startswith("/")
        assert error["code"]
        assert error["message"]
    return problem


def body_with(inner: str) -> bytes:
    """A body that would be fine but for what its configuration has in it."""
    text = json.dumps(GOOD).replace('"source_config": {}', INNER % inner)
    return text.encode("utf-8", "surrogatepass")


ATTACKS = {
    "nesting": body_with('"a":' + "[" * 500 + "]" * 500),
    "nesting beyond the parser": body_with('"a":' + "[" * 100_000 + "]" * 100_000),
    "nesting of objects": body_with('"a":' * 200 + "1" + ""),
    "unclosed nesting": b"[" * 200_000,
    "a number of many digits": body_with('"a":' + "9" * 10_000),
    "an exponent beyond doubles": body_with('"a":1e999'),
    "not a number": body_with('"a":NaN'),
    "infinity": body_with('"a":-Infinity'),
    "a name twice": body_with('"a":1,"a":2'),
    "a member twice": b'{"name":"x",' + json.dumps(GOOD).encode()[1:],
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps(GOOD).encode(),
    "UTF-16": json.dumps(GOOD).encode("utf-16"),
    "UTF-32": json.dumps(GOOD).encode("utf-32"),
    "half a surrogate pair as bytes": body_with('"a":"\ud800"'),
    "NUL between": json.dumps(GOOD).encode() + b"\0",
    "two documents": json.dumps(GOOD).encode() * 2,
    "a comment": json.dumps(GOOD).encode() + b"// x",
    "nothing": b"",
    "spaces": b" \n\t",
    "a list": b"[]",
    "a string": b'"x"',
    "single quotes": b"{'name': 'x'}",
}


@pytest.mark.parametrize("body", ATTACKS.values(), ids=ATTACKS.keys())
def test_what_is_no_interoperable_json_is_refused(api: httpx.Client, body: bytes) -> None:
    """As a whole: the pointer is empty, the message says what is wrong."""
    [error] = refused(api, body)["errors"]
    assert error["pointer"] == ""
    assert error["guidance"]


@pytest.mark.parametrize("body", ATTACKS.values(), ids=ATTACKS.keys())
def test_bodies_that_the_framework_reads_are_read_as_strictly(api: httpx.Client, body: bytes) -> None:
    """Of every operation that takes one; but that an empty body is none where none is needed."""
    document = api.get("/openapi.json").json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if not operation.get("requestBody", {}).get("required"):
                continue
            url = re.sub(r"\{\w+_id\}", "8f14e45f-ceea-467f-ab0e-5b6a1f0e4b1d", path).replace("{name}", "pii")
            answer = api.request(method, url, content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == 422, (method, path, answer.status_code)
            assert "" in {e["pointer"] for e in answer.json()["errors"]}, (method, path)


@pytest.mark.parametrize(
    "field",
    ["name", "source_name", "schema_name", "mode", "schedule", "timezone", "owner_id", "domain", "merge"],
)
@pytest.mark.parametrize("text", ["\\ud800", "\\u0000", "a\\udc00b", "\\u0000" * 50])
def test_texts_that_no_store_takes_are_refused(api: httpx.Client, field: str, text: str) -> None:
    """Half a surrogate pair, and NUL, in any field that is a text; the field is named."""
    fields = {name: json.dumps(value) for name, value in GOOD.items()} | {field: f'"{text}"'}
    body = "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"
    pointers = {e["pointer"] for e in refused(api, body.encode())["errors"]}
    assert pointers <= {f"/{field}", "/merge"}, pointers


FIELDS = (*GOOD, "streams", "tags", "tables", "column_transformations", "new")
BYTES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ANY_TEXT = st.text(
    st.characters(exclude_categories=()) | st.sampled_from("\ud800\udfff\0\u202e\ufeff"), max_size=20
)
"""Halves of surrogate pairs, too."""
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(body=st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
@example(body=b"\xff\xfe{\x00}\x00")
@BYTES
def test_any_bytes(api: httpx.Client, body: bytes) -> None:
    """No random bytes are a job."""
    refused(api, body)


@given(
    value=JSON, field=st.sampled_from([*GOOD, "streams", "tags", "tables", "column_transformations", "new"])
)
@BYTES
def test_any_value_in_any_field(api: httpx.Client, value: Any, field: str) -> None:
    """Is taken or refused; what is refused names that field."""
    body = json.dumps(GOOD | {field: value}).encode("utf-8", "surrogatepass")
    answer = api.post("/api/airbyte/ingest?dry_run=true", content=body)
    assert answer.status_code in (200, 409, 422), (answer.status_code, body)
    if answer.status_code == 422:
        for error in answer.json()["errors"]:
            assert error["pointer"] == "" or error["pointer"].split("/")[1] == field, (error, body)


@given(inner=JSON)
@example(inner="\ud800")
@example(inner={"\udfff": 1})
@example(inner="\0")
@example(inner=2**64)
@settings(BYTES, max_examples=60)
def test_any_configuration(api: httpx.Client, inner: Any) -> None:
    """A configuration is the connector's: what JSON ever it is, a job that is made of it can be shown."""
    body = json.dumps(GOOD | {"source_config": {"a": inner}}).encode("utf-8", "surrogatepass")
    answer = api.post("/api/airbyte/ingest", content=body)
    assert answer.status_code in (201, 422), (answer.status_code, body)
    if answer.status_code == 422:
        assert {e["pointer"].split("/")[1] for e in answer.json()["errors"] if e["pointer"]} <= {
            "source_config"
        }
        return
    job = api.get(answer.headers["Location"])
    assert job.status_code == 200, body
    assert set(json.loads(job.json()["properties_json"])["source_config"]) == {"a"}
    assert api.get("/api/jobs").status_code == 200
    assert api.delete(answer.headers["Location"]).status_code == 204
