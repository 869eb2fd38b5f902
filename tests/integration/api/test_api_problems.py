"""Errors over real HTTP: every answer that is not a success is a problem document."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from airberg import errors
from airberg.api import problems
from airberg.api.problems import PROBLEM_RESPONSES, body_problems, read_json_object
from airberg.errors import InvalidRequest, Problem
from support.served import served

MAX_BODY = 2000
PLANTED = "planted-s3cret-4711"
MEMBERS = {"type", "title", "status", "detail", "errors", "flow_url", "job_id", "error"}


class Inner(BaseModel):
    """A nested body."""

    model_config = ConfigDict(extra="forbid")
    column: str
    new_name: str | None = None


class Body(BaseModel):
    """A body."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: Annotated[str, Field(min_length=1, max_length=5)]
    mode: Literal["append", "merge"] = "append"
    schedule: str | None = None
    inner: list[Inner] | None = None
    config: dict[str, Any] | None = None


ERRORS: dict[str, Exception] = {
    "invalid": InvalidRequest(
        [Problem("/name", "bad-name", "It is bad.", "Choose another."), Problem("/a~1b", "bad", "Also.")]
    ),
    "missing": errors.NotFound("There is no job 7.", guidance="Check the id."),
    "conflict": errors.Conflict("It is there.", code="name-taken"),
    "denied": errors.NotAllowed("Only for administrators."),
    "busy": errors.TooManyRequests(),
    "down": errors.Unavailable("The store is down.", retry_after=7, code="store-unavailable"),
    "run": errors.ConfigurationFailed("A run's error."),
    "bug": ValueError(f"could not use {PLANTED}"),
}


async def raw_body(request: Request) -> bytes:
    """The body."""
    return await request.body()


def an_app() -> FastAPI:
    """An application with all ways to fail."""
    app = FastAPI(redirect_slashes=False)
    problems.install(app, max_body_bytes=MAX_BODY)
    router = APIRouter(responses=PROBLEM_RESPONSES)

    @router.post("/typed")
    def typed(body: Body) -> dict[str, int]:
        return {"size": len(body.name)}

    @router.post("/raw")
    def raw(content: Annotated[bytes, Depends(raw_body)]) -> dict[str, int]:
        try:
            Body.model_validate(read_json_object(content))
        except ValueError as e:
            raise InvalidRequest(body_problems(e, Body)) from None  # type: ignore[arg-type]  # pydantic's
        return {"size": len(content)}

    @router.get("/things/{thing_id}")
    def thing(thing_id: UUID, limit: Annotated[int, Query(le=5)] = 1) -> dict[str, str]:
        return {"id": str(thing_id), "limit": str(limit)}

    @router.get("/fail/{how}")
    def fail(how: str) -> None:
        if how == "chained":
            try:
                json.loads(PLANTED)
            except ValueError as e:
                raise KeyError(PLANTED) from e
        raise ERRORS[how]

    @router.get("/breaks-off")
    def breaks_off() -> StreamingResponse:
        def content() -> Iterator[bytes]:
            yield b"first"
            raise ValueError(PLANTED)

        return StreamingResponse(content())

    app.include_router(router)
    return app


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A client of the served application."""
    with served(an_app()) as url, httpx.Client(base_url=url) as c:
        yield c


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem that the answer must be."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body.keys() - {"instance"} == MEMBERS
    assert (body["type"], body["status"]) == (f"/problems/{code}", status)
    assert (body["flow_url"], body["job_id"]) == ("", None)
    assert isinstance(body["error"], str)
    assert body["error"]
    assert all(e.keys() == {"pointer", "code", "message", "guidance"} for e in body["errors"])
    assert body["errors"]
    assert PLANTED not in answer.text
    return body


# ---- our own errors --------------------------------------------------------------------------------------


def test_all_problems_of_a_request_are_shown(client: httpx.Client) -> None:
    """Each has pointer, code, message and guidance; `error` is a sentence that says there are more."""
    body = problem(client.get("/fail/invalid"), 422, "invalid-request")
    assert body["errors"] == [
        {"pointer": "/name", "code": "bad-name", "message": "It is bad.", "guidance": "Choose another."},
        {"pointer": "/a~1b", "code": "bad", "message": "Also.", "guidance": ""},
    ]
    assert body["error"] == "It is bad. (1 more problems)"
    assert body["detail"] == "It is bad. (1 more problems) Choose another."


@pytest.mark.parametrize(
    ("how", "status", "code", "headers"),
    [
        ("missing", 404, "not-found", {}),
        ("conflict", 409, "name-taken", {}),
        ("denied", 403, "not-allowed", {}),
        ("busy", 429, "too-many-requests", {"Retry-After": "5"}),
        ("down", 503, "store-unavailable", {"Retry-After": "7"}),
    ],
)
def test_request_errors(
    client: httpx.Client, how: str, status: int, code: str, headers: dict[str, str]
) -> None:
    """Status, type and headers follow from the branch and code of the error."""
    answer = client.get(f"/fail/{how}")
    body = problem(answer, status, code)
    raised = ERRORS[how]
    assert isinstance(raised, errors.AirbergError)
    assert (body["error"], body["detail"]) == (raised.message, raised.sentence())
    assert body["errors"][0]["pointer"] == ""
    assert all(answer.headers[name] == value for name, value in headers.items())
    assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize("how", ["bug", "chained", "run"])
def test_what_nobody_expected_shows_a_number_only(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """500 with an incident; the log has the place under that number, and no message that may quote values."""
    with caplog.at_level(logging.DEBUG):
        body = problem(client.get(f"/fail/{how}"), 500, "internal-error")
    assert body["instance"].startswith("urn:uuid:")
    record = next(r for r in caplog.records if body["instance"] in r.getMessage())
    assert "test_api_problems.py" in record.getMessage()
    assert PLANTED not in caplog.text
    if how == "chained":
        assert "KeyError" in record.getMessage()
        assert "caused by" in record.getMessage()
        assert "JSONDecodeError" in record.getMessage()


def test_an_answer_that_breaks_off_is_broken_off(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Once the answer has begun, the connection ends early, and the log still has no value in it."""
    with caplog.at_level(logging.DEBUG), pytest.raises(httpx.RemoteProtocolError):
        client.get("/breaks-off")
    assert "incident" in caplog.text
    assert PLANTED not in caplog.text


# ---- the framework's errors ------------------------------------------------------------------------------


def test_unknown_address_and_method(client: httpx.Client) -> None:
    """404 and 405 of the router are problems too; 405 says which methods there are."""
    problem(client.get("/nothing"), 404, "not-found")
    answer = client.delete("/typed")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == "POST"


def test_wrong_parameters(client: httpx.Client) -> None:
    """Path and query: the message names the parameter, the pointer stays empty (it is not in the body)."""
    body = problem(client.get(f"/things/{PLANTED}?limit={PLANTED}"), 422, "invalid-request")
    assert [(e["pointer"], e["code"]) for e in body["errors"]] == [("", "wrong-type"), ("", "wrong-type")]
    assert body["errors"][0]["message"] == "In the path: `thing_id` must be a UUID."
    body = problem(client.get(f"/things/{UUID(int=1)}?limit=6"), 422, "invalid-request")
    assert body["errors"][0]["message"] == "In the query: `limit` must have a value of at most 5."


BODIES: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({}, [("/name", "required-field")]),
    ({"name": ""}, [("/name", "out-of-range")]),
    ({"name": PLANTED}, [("/name", "out-of-range")]),
    ({"name": 7}, [("/name", "wrong-type")]),
    ({"name": {"a": PLANTED}}, [("/name", "wrong-type")]),
    ({"name": "a", "mode": PLANTED}, [("/mode", "not-one-of")]),
    ({"name": "a", "inner": [{"new_name": "x"}]}, [("/inner/0/column", "required-field")]),
    ({"name": "a", "inner": {"x": PLANTED}}, [("/inner", "wrong-type")]),
    ({"name": "a", "x/y~z": PLANTED}, [("/x~1y~0z", "unknown-field")]),
    (
        {"name": 1, "mode": 2, "schedule": 3},
        [("/name", "wrong-type"), ("/mode", "not-one-of"), ("/schedule", "wrong-type")],
    ),
]


@pytest.mark.parametrize("path", ["/typed", "/raw"])
@pytest.mark.parametrize(("sent", "found"), BODIES)
def test_wrong_bodies(
    client: httpx.Client, path: str, sent: dict[str, Any], found: list[tuple[str, str]]
) -> None:
    """Fields by pointer, all of them, the same whoever parses; values are never repeated."""
    body = problem(client.post(path, json=sent), 422, "invalid-request")
    assert [(e["pointer"], e["code"]) for e in body["errors"]] == found


@pytest.mark.parametrize("path", ["/typed", "/raw"])
@pytest.mark.parametrize(
    ("sent", "pointer", "guidance"),
    [
        ({"name": "a", "schedul": "@daily"}, "/schedul", "Did you mean `schedule`?"),
        ({"name": "a", "Mode": "merge"}, "/Mode", "Did you mean `mode`?"),
        (
            {"name": "a", "zzz": 1},
            "/zzz",
            "Known fields are config, inner, mode, name, schedule.",
        ),
        (
            {"name": "a", "inner": [{"column": "a"}, {"column": "b", "newname": "c"}]},
            "/inner/1/newname",
            "Did you mean `new_name`?",
        ),
    ],
)
def test_unknown_fields(
    client: httpx.Client, path: str, sent: dict[str, Any], pointer: str, guidance: str
) -> None:
    """A misspelt field is refused with the nearest one that there is at that place."""
    (only,) = problem(client.post(path, json=sent), 422, "invalid-request")["errors"]
    assert (only["pointer"], only["code"], only["guidance"]) == (pointer, "unknown-field", guidance)


RAW_BODIES: list[tuple[bytes, str]] = [
    (b"", "empty-body"),
    (b" \n", "empty-body"),
    (b"{", "bad-json"),
    (b'{"name": "' + PLANTED.encode(), "bad-json"),
    (b"[]", "not-an-object"),
    (b'"x"', "not-an-object"),
    (b"null", "not-an-object"),
    (b'{"name": NaN}', "bad-json"),
    (b'{"name": -Infinity}', "bad-json"),
    (b'{"name": 1e999}', "bad-json"),
    (b'{"name": ' + b"9" * 1900 + b"}", "wrong-type"),
    (b'{"name": "\xff"}', "bad-json"),
    ('{"name": "a"}'.encode("utf-16"), "bad-json"),
    (b'{"name": "a", "name": "b"}', "duplicate-field"),
    (b'{"name": "a", "config": {"k": 1, "k": 2}}', "duplicate-field"),
    (b'{"name": "a", "config": ' + b'{"a":' * 70 + b"1" + b"}" * 71, "too-deep"),
    (b'{"name": "a", "config": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}", "too-deep"),
    (b"[" * 1990, "too-deep"),
    (b'{"name": "a", "\\ud800": 1}', "wrong-type"),
    (b'{"name": "\\ud800"}', "wrong-type"),
]


@pytest.mark.parametrize(("content", "code"), RAW_BODIES)
def test_bodies_that_are_no_json_object(client: httpx.Client, content: bytes, code: str) -> None:
    """What is not interoperable JSON is refused; nothing crashes, and half a surrogate can be answered."""
    body = problem(client.post("/raw", content=content), 422, "invalid-request")
    assert body["errors"][0]["code"] == code


@pytest.mark.parametrize("content", [c for c, _ in RAW_BODIES])
def test_bodies_that_the_framework_parses_never_crash(client: httpx.Client, content: bytes) -> None:
    """FastAPI's own parsing of the same bodies ends in success or a 4xx problem, whatever they hold."""
    answer = client.post("/typed", content=content, headers={"Content-Type": "application/json"})
    if answer.status_code != 200:
        problem(answer, answer.status_code, {422: "invalid-request", 400: "bad-request"}[answer.status_code])


def test_a_body_of_another_media_type(client: httpx.Client) -> None:
    """A form where JSON is expected says what to send."""
    body = problem(client.post("/typed", data={"name": PLANTED}), 422, "invalid-request")
    assert body["errors"][0]["code"] == "not-an-object"
    assert "application/json" in body["errors"][0]["guidance"]


# ---- size ------------------------------------------------------------------------------------------------


def chunks(total: int) -> Iterator[bytes]:
    """A body without announced length."""
    for _ in range(total // 500):
        yield b" " * 500


@pytest.mark.parametrize("path", ["/typed", "/raw", "/nothing"])
def test_large_bodies_are_refused(client: httpx.Client, path: str) -> None:
    """With or without Content-Length, just over the limit or far: 413, wherever it is sent."""
    problem(client.post(path, content=b" " * (MAX_BODY + 1)), 413, "too-large")
    problem(client.post(path, content=chunks(MAX_BODY + 500)), 413, "too-large")


def test_far_too_large_bodies_are_not_read_to_the_end(client: httpx.Client) -> None:
    """An endless body is answered while it is still being sent."""
    url = urlsplit(str(client.base_url))
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=20) as s:
        s.sendall(
            b"POST /raw HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" + b" " * MAX_BODY * 9
        )
        assert s.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_asks_first_is_told_at_once(client: httpx.Client) -> None:
    """`Expect: 100-continue` with too large a length: refused before anything is sent."""
    url = urlsplit(str(client.base_url))
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=20) as s:
        s.sendall(b"POST /raw HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\nExpect: 100-continue\r\n\r\n")
        assert s.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_body_at_the_limit_gets_through(client: httpx.Client) -> None:
    """Exactly the limit is allowed, announced or in chunks, and arrives whole."""
    content = b'{"name": "a"}'.ljust(MAX_BODY)
    pieces = (content[i : i + 100] for i in range(0, MAX_BODY, 100))
    assert client.post("/raw", content=content).json() == {"size": MAX_BODY}
    assert client.post("/raw", content=pieces).json() == {"size": MAX_BODY}


def test_a_client_that_leaves_disturbs_nobody(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    """Half a body and then nothing: no incident, the next request is answered."""
    url = urlsplit(str(client.base_url))
    with caplog.at_level(logging.ERROR):
        with socket.create_connection((url.hostname or "", url.port or 0), timeout=20) as s:
            s.sendall(b"POST /raw HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert client.post("/raw", json={"name": "a"}).status_code == 200
    assert "incident" not in caplog.text


def test_the_openapi_document_has_the_problems(client: httpx.Client) -> None:
    """Routes document their errors with the media type of problems."""
    responses = client.get("/openapi.json").json()["paths"]["/typed"]["post"]["responses"]
    assert {"400", "401", "403", "404", "409", "413", "422", "429", "500", "503"} <= responses.keys()
    for status in ("404", "422"):
        schema = responses[status]["content"]["application/problem+json"]["schema"]
        assert set(schema["required"]) == MEMBERS
