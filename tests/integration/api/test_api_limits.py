"""What one client may take of the service: over real sockets, with limits that tests can wait for."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from airberg.api.body_limit import MAX_DEPTH, check_structure
from airberg.errors import InvalidRequest
from support.conditions import eventually
from support.memory_service import MemoryService, read_all, running_memory_service

LIMITS = {
    "max_body_members": 100,
    "max_headers": 20,
    "max_head_bytes": 4096,
    "head_timeout_s": 0.3,
    "body_timeout_s": 0.3,
    "write_timeout_s": 0.3,
    "request_timeout_s": 0.3,
    "max_connections": 5,
}
GO_ON = threading.Event()
STARTED = threading.Event()
ENDED = threading.Event()


def with_slow_routes(app: FastAPI) -> None:
    """Routes that take long, and one that gives more than any buffer holds."""

    @app.get("/slow")
    def slow() -> dict[str, str]:
        STARTED.set()
        GO_ON.wait(20)
        ENDED.set()
        return {"late": "answer"}

    @app.get("/fails-late")
    def fails_late() -> None:
        GO_ON.wait(20)
        raise ValueError("late")

    @app.get("/stream")
    def stream() -> StreamingResponse:
        def content() -> Iterator[bytes]:
            yield b"first "
            GO_ON.wait(20)
            yield b"last"

        return StreamingResponse(content())

    @app.get("/endless")
    def endless() -> StreamingResponse:
        def content() -> Iterator[bytes]:
            while True:
                yield b"x" * 65_536

        return StreamingResponse(content())


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryService]:
    """The service with small limits."""
    home = tmp_path_factory.mktemp("limits")
    with running_memory_service(home, change=with_slow_routes, limits=LIMITS) as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh_events() -> Iterator[None]:
    for event in (GO_ON, STARTED, ENDED):
        event.clear()
    yield
    GO_ON.set()


def problem_of(raw: bytes) -> dict[str, Any]:
    """The problem document in a raw answer."""
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    found: dict[str, Any] = json.loads(body)
    return found


# ---- bodies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[" * 65 + b"]" * 65, "too-deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "too-deep"),
        (b"[" + b"0," * 100 + b"0]", "too-many-members"),
        (b"[" + b"[]," * 60 + b"[]]", "too-many-members"),
        (b"{" + b",".join(b'"%d":{}' % n for n in range(60)) + b"}", "too-many-members"),
    ],
)
@pytest.mark.parametrize("path", ["/api/airbyte/ingest", "/api/airbyte/check", "/api/keys"])
def test_bodies_that_are_too_much_are_refused_before_they_are_parsed(
    service: MemoryService, path: str, body: bytes, code: str
) -> None:
    """Whichever way a route reads its body, with guidance."""
    answer = service.api.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/invalid-request"
    [found] = answer.json()["errors"]
    assert (found["pointer"], found["code"]) == ("", code)
    assert found["guidance"]


@pytest.mark.parametrize(
    "body",
    [
        b'"' + b'\\"' * 500_000,  # a string that never ends
        b'{"a": "' + b"[{," * 200_000 + b'"}',  # what stands in a string is no structure
        b'{"a": "\\\\", "b": "[[[\\"[["}',
        json.dumps({"deep": [[[[1]]]], "text": '"[,{' * 100}).encode(),
        b"]" * 500_000,
        b"\\" * 500_000,
        b'"' * 500_001,
    ],
    ids=["endless", "brackets", "escapes", "deep", "closing", "backslashes", "quotes"],
)
def test_strings_are_no_structure(body: bytes) -> None:
    """And the longest strings that a body may have are passed once, whether they end or not."""
    check_structure(body, 100)


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
def test_depth_is_counted_as_the_parser_does(depth: int) -> None:
    """The last level that is allowed, and the first that is not."""
    body = b"[" * depth + b'"]"' + b"]" * depth
    if depth > MAX_DEPTH:
        with pytest.raises(InvalidRequest):
            check_structure(body, 1000)
    else:
        check_structure(body, 1000)


# ---- headers ---------------------------------------------------------------------------------------------


def test_many_headers_are_refused(service: MemoryService) -> None:
    """431, and the connection goes on."""
    answer = service.api.get("/api/jobs", headers={f"X-{n}": "1" for n in range(30)})
    assert (answer.status_code, answer.json()["type"]) == (431, "/problems/too-many-headers")
    assert service.api.get("/api/jobs").status_code == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 10_000,
        b"GET /" + b"x" * 10_000,
        b"NOT HTTP AT ALL\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\nX : 1\r\n\r\n",
    ],
    ids=["header", "address", "no http", "smuggling"],
)
def test_what_is_no_http_or_too_much_of_it_is_a_problem(service: MemoryService, head: bytes) -> None:
    """400 with guidance, then the connection is closed."""
    with service.connect() as connection:
        connection.sendall(head)
        raw = read_all(connection)
    assert raw.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in raw
    assert "4096 bytes" in problem_of(raw)["detail"]


@pytest.mark.parametrize(
    "head",
    [b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 5_000, b"GET /" + b"x" * 5_000 + b" HTTP/1.1\r\nHost: a"],
)
def test_a_head_that_comes_at_once_is_limited_too(service: MemoryService, head: bytes) -> None:
    """431: the server's own limit is for heads that have not come to their end."""
    with service.connect() as connection:
        connection.sendall(head + b"\r\nConnection: close\r\n\r\n")
        raw = read_all(connection)
    assert raw.startswith(b"HTTP/1.1 431 ")
    assert "4096 bytes" in problem_of(raw)["detail"]


# ---- time ------------------------------------------------------------------------------------------------


def dribble(connection: socket.socket, pieces: Iterator[bytes], pause_s: float = 0.02) -> bytes:
    """Send slowly until the other side has answered or closed; what it said."""
    connection.settimeout(pause_s)
    for piece in pieces:
        try:
            connection.sendall(piece)
            found = connection.recv(65_536)
        except TimeoutError:
            continue
        except ConnectionError:
            return b""
        connection.settimeout(20)
        return found + read_all(connection) if found else b""
    raise AssertionError("the service took it all")


def bytes_of(text: bytes) -> Iterator[bytes]:
    """One byte after the other, for some thirty seconds."""
    head = text[:1_500]
    return (head[n : n + 1] for n in range(len(head)))


def test_a_connection_without_headers_is_closed(service: MemoryService) -> None:
    """Nothing is sent at all."""
    with service.connect() as connection:
        assert read_all(connection) == b""


def test_headers_that_dribble_are_cut_off(service: MemoryService) -> None:
    """The limit is for all of them: a byte now and then does not extend it."""
    with service.connect() as connection:
        head = b"GET /api/health/live HTTP/1.1\r\nHost: a\r\nX-Slow: " + b"x" * 1_500
        assert dribble(connection, bytes_of(head)) == b""


def test_headers_that_dribble_on_a_used_connection_are_cut_off(service: MemoryService) -> None:
    """Also after an answer, where uvicorn stops its own timer with the first byte."""
    with service.connect() as connection:
        connection.sendall(b"GET /api/health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 200 ")
        head = b"GET /api/health/live HTTP/1.1\r\nHost: a\r\nX-Slow: " + b"x" * 1_500
        assert dribble(connection, bytes_of(head)) == b""


def test_a_body_that_dribbles_is_cut_off(service: MemoryService) -> None:
    """408, with what to do, and the connection is closed."""
    with service.connect() as connection:
        connection.sendall(b"POST /api/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n")
        raw = dribble(connection, bytes_of(b" " * 1_500))
    assert raw.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in raw.lower()
    assert problem_of(raw)["type"] == "/problems/slow-request"


def test_an_answer_that_takes_too_long_is_given_up(
    service: MemoryService, caplog: pytest.LogCaptureFixture
) -> None:
    """503 with Retry-After; what the route answers or raises later reaches nobody, and no later answer."""
    for path in ("/slow", "/fails-late"):
        answer = service.api.get(path)
        assert answer.status_code == 503
        assert answer.json()["type"] == "/problems/request-timeout"
        assert int(answer.headers["Retry-After"]) > 0
    assert STARTED.is_set()
    assert not ENDED.is_set()
    GO_ON.set()
    assert eventually(lambda: "a request that was answered for has failed" in caplog.text)
    assert ENDED.wait(20)
    assert service.api.get("/api/health/live").json()["status"] == "ok"


def test_a_stream_that_has_begun_goes_on(service: MemoryService) -> None:
    """Live logs last as long as a run does."""
    timer = threading.Timer(1.0, GO_ON.set)  # three times the limit
    timer.start()
    assert service.api.get("/stream").text == "first last"
    timer.join()


def test_a_client_that_takes_nothing_is_cut_off(
    service: MemoryService, caplog: pytest.LogCaptureFixture
) -> None:
    """Else it would keep its connection, and what makes its answer, for ever."""
    caplog.set_level(logging.INFO, "airberg.access")
    with service.connect() as connection:
        connection.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        assert eventually(lambda: "GET /endless 200" in caplog.text)


# ---- how many --------------------------------------------------------------------------------------------


def test_one_connection_too_many_is_refused(tmp_path: Path) -> None:
    """503 with Retry-After, at once; the place of one that has gone is free again."""
    limits = LIMITS | {"max_connections": 3, "head_timeout_s": 20.0, "request_timeout_s": 20.0}
    with running_memory_service(tmp_path, limits=limits) as service:
        idle = [service.connect() for _ in range(3)]
        server_side = eventually(lambda: _refused(service))
        assert server_side, "a fourth connection was taken"
        for connection in idle:
            connection.close()
        assert eventually(lambda: not _refused(service))


def _refused(service: MemoryService) -> bool:
    with service.connect() as connection:
        try:
            connection.sendall(b"GET /api/health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        except ConnectionError:
            return True
        raw = read_all(connection)
    if raw.startswith(b"HTTP/1.1 503 "):
        assert problem_of(raw)["type"] == "/problems/too-many-connections"
        assert b"retry-after: 5" in raw.lower()
        return True
    return not raw.startswith(b"HTTP/1.1 200 ")
