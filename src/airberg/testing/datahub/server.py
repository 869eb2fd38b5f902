"""The double on a port: rest.li, OpenAPI v3 and GraphQL, as far as DataHub's client calls them."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from airberg.testing.datahub import validation
from airberg.testing.datahub.faults import Fault
from airberg.testing.datahub.refusal import Refused
from airberg.testing.datahub.service import DataHubDouble
from airberg.testing.datahub.untyped import Json

MAX_BODY = 16_000_000
"""Bytes that the service takes in one request, by DataHub's client."""

V3 = "/openapi/v3/entity/"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the answer waits 40 ms behind its own headers
    server: Server
    log: Callable[[str], None]

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        datahub = self.server.datahub
        datahub.calls.append(f"{self.command} {self.path}")
        body = self._body()
        fault = datahub.breakage.hits(self.path, len(body))
        if self.server.closing or (fault is not None and fault.cut == "before"):
            self._hang_up()
            return
        headers: dict[str, str] = {}
        try:
            if fault is not None and fault.status is not None:
                if fault.retry_after is not None:
                    headers["Retry-After"] = str(fault.retry_after)
                raise Refused(fault.status, "out of order")
            status, answer = 200, self._answer(datahub, body)
        except Refused as error:
            status, answer = error.status, {"message": error.message, "status": error.status}
        self._send(status, answer, headers, fault)
        self.server.report(f"{self.command} {self.path} {status} {len(body)} B")

    def _body(self) -> bytes:
        try:
            length = int(self.headers["Content-Length"] or 0)
        except ValueError:
            length = 0
        return self.rfile.read(min(length, MAX_BODY + 1))

    def _send(self, status: int, answer: Json, headers: dict[str, str], fault: Fault | None) -> None:
        text = json.dumps(answer).encode()
        self.send_response(status)
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(text))}
        for name, value in headers.items():
            self.send_header(name, value)
        with suppress(ConnectionError):  # who asked did not wait
            self.end_headers()
            if fault is not None and fault.cut == "after":
                self.wfile.write(text[: len(text) // 2])
                self.wfile.flush()
                self._hang_up()
                return
            self.wfile.write(text)

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, datahub: DataHubDouble, raw: bytes) -> Json:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/config":
            return configuration(datahub.version)
        if len(raw) > MAX_BODY:
            raise Refused(413, f"the body is over {MAX_BODY} bytes")
        if datahub.token and self.headers["Authorization"] != f"Bearer {datahub.token}":
            raise Refused(401, "Unauthorized")
        try:
            body = json.loads(raw) if raw else {}
        except ValueError as error:
            raise Refused(400, f"the body is no JSON: {error}") from error
        if url.path.startswith(V3) and not datahub.old:
            parts = [unquote(p) for p in url.path.removeprefix(V3).split("/")]
            return _openapi(datahub, self.command, parts, query, body)
        return _rest_li(datahub, self.command, url.path, query, body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet; `Server.report` tells each request."""


def _rest_li(datahub: DataHubDouble, method: str, path: str, query: dict[str, str], body: Json) -> Json:
    match method, path, query.get("action"):
        case "POST", "/aspects", "ingestProposal":
            with datahub.whole():
                datahub.propose(_member(body, "proposal"))
        case "POST", "/aspects", "ingestProposalBatch":
            with datahub.whole():
                for proposal in _member(body, "proposals"):
                    datahub.propose(proposal)
        case "POST", "/entities", "delete":
            datahub.delete(_member(body, "urn"))
        case "POST", "/api/graphql", None:
            return datahub.graphql(body)
        case "GET", _, None if path.startswith("/aspects/"):
            urn, name = unquote(path.removeprefix("/aspects/")), query.get("aspect", "")
            value = _stored(datahub, urn, name)
            return {"version": 0, "aspect": {validation.full_name(name): value}}
        case _:
            raise Refused(404, f"no such endpoint: {method} {path}")
    return {"value": "ok"}


def _openapi(
    datahub: DataHubDouble, method: str, parts: list[str], query: dict[str, str], body: Json
) -> Json:
    match method, parts:
        case "POST", [entity_type]:
            return _write_entities(datahub, entity_type, body, datahub.upsert)
        case "PATCH", [entity_type]:
            return _write_entities(datahub, entity_type, body, lambda u, n, v, _h: datahub.patch(u, n, v))
        case "DELETE", [entity_type, urn]:
            validation.parsed_urn(urn, entity_type)
            datahub.delete(urn)
            return {}
        case "GET", [entity_type, urn]:
            validation.parsed_urn(urn, entity_type)
            if not (names := datahub.names(urn)):
                raise Refused(404, f"no entity {urn}")
            return {"urn": urn} | {n: _wrapped(datahub, urn, n, query) for n in names}
        case "GET", [entity_type, urn, name]:
            validation.parsed_urn(urn, entity_type)
            return _wrapped(datahub, urn, name, query)
        case _:
            raise Refused(404, f"no such endpoint: {method} {V3}{'/'.join(parts)}")


def _write_entities(datahub: DataHubDouble, entity_type: str, body: Json, write: Callable[..., None]) -> Json:
    """Entities with aspects in the envelopes of OpenAPI v3, as a whole or not at all."""
    if not isinstance(body, list) or not all(isinstance(entity, dict) for entity in body):
        raise Refused(400, "the body is no list of entities")
    with datahub.whole():
        for entity in body:
            urn = entity.get("urn")
            validation.parsed_urn(urn, entity_type)
            for name, aspect in entity.items():
                if name != "urn":
                    write(urn, name, _member(aspect, "value"), aspect.get("headers") or {})
                    datahub.system_metadata.append(aspect.get("systemMetadata") or {})
    return [{"urn": entity["urn"]} for entity in body]


def _wrapped(datahub: DataHubDouble, urn: str, name: str, query: dict[str, str]) -> dict[str, Any]:
    """One aspect as OpenAPI v3 answers it."""
    wrapped: dict[str, Any] = {"value": _stored(datahub, urn, name)}
    if query.get("systemMetadata") == "true":
        wrapped["systemMetadata"] = {"version": datahub.version_of(urn, name)}
    return wrapped


def _stored(datahub: DataHubDouble, urn: str, name: str) -> Json:
    value = datahub.aspect(urn, name)
    if value is None and (events := datahub.events(urn, name)):
        value = events[-1]
    if value is None:
        raise Refused(404, f"no aspect {name} of {urn}")
    return value


def _member(body: Json, name: str) -> Json:
    if not isinstance(body, dict) or name not in body:
        raise Refused(400, f"the body has no {name}")
    return body[name]


def configuration(version: str) -> dict[str, Any]:
    """What `/config` answers."""
    return {
        "noCode": "true",
        "patchCapable": True,
        "statefulIngestionCapable": True,
        "versions": {"acryldata/datahub": {"version": version, "commit": "0000000"}},
        "managedIngestion": {"enabled": True, "defaultCliVersion": version.removeprefix("v")},
        "datahub": {"serverType": "prod", "serverEnv": "core"},
        "telemetry": {"enabledCli": False, "enabledIngestion": False},
    }


class Server(ThreadingHTTPServer):
    """The double behind a socket.

    Args:
        datahub: What it serves.
        host: To listen on.
        port: To listen on; 0: a free one.
        report: Told a line for each request that was answered.
    """

    daemon_threads = True

    def __init__(
        self,
        datahub: DataHubDouble,
        host: str = "127.0.0.1",
        port: int = 0,
        report: Callable[[str], None] = lambda _line: None,
    ) -> None:
        super().__init__((host, port), _Handler)
        self.datahub = datahub
        self.report = report
        self.closing = False
        datahub.url = f"http://{host}:{self.server_address[1]}"

    def handle_error(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: Json
    ) -> None:
        """A client that went away is no fault of the double; anything else is, and is shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def _listening(datahub: DataHubDouble, port: int) -> Iterator[None]:
    with Server(datahub, port=port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.closing = True
            datahub.fault = None
            server.shutdown()
            thread.join()


@contextmanager
def serve_datahub(
    datahub: DataHubDouble | None = None, *, port: int = 0, token: str | None = None
) -> Iterator[DataHubDouble]:
    """A double that listens on the loopback while the block runs; its address is `url`.

    Args:
        datahub: The double; default a new one. Served again on its port, it is a service that came back:
            between two blocks connections are refused, and nothing is forgotten.
        port: To listen on; default that which the double had, else a free one.
        token: That a new double wants; default made up.
    """
    datahub = datahub or DataHubDouble(token)
    known = urlsplit(datahub.url).port if datahub.url else None
    with _listening(datahub, port or known or 0):
        yield datahub
