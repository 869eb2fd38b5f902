"""A stand-in for the API's feed of flows, over HTTP on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import msgspec

from airberg.flows.model import FlowSpec, Spec


class FlowFeed:
    """Serves `GET /internal/airflow/flows` as the API does; can be closed and opened again on its port.

    Attributes:
        api_url: Address of a real API, whose flows are served beside its own: one Airflow for all tests.
        answers: Status of every answer, in order.
        redirect: When set, the address that every request is sent to.
    """

    def __init__(self, port: int, token: str) -> None:
        self.port = port
        self.answers: list[int] = []
        self.redirect: str | None = None
        self.api_url: str | None = None
        self.authorizations: list[str | None] = []
        self._token = token
        self._entries: dict[str, Any] = {}
        self._version = 0
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Base address."""
        return f"http://127.0.0.1:{self.port}"

    def offer(self, *specs: Spec) -> None:
        """Add or change flows."""
        self.offer_raw({spec.flow_id: msgspec.to_builtins(spec) for spec in specs})

    def offer_raw(self, entries: dict[str, Any]) -> None:
        """Add entries of any form."""
        with self._lock:
            self._entries |= entries
            self._version += 1

    def remove(self, *flow_ids: str) -> None:
        """Take flows away."""
        with self._lock:
            for flow_id in flow_ids:
                self._entries.pop(flow_id, None)
            self._version += 1

    def specs(self) -> Iterable[FlowSpec]:
        """What it offers."""
        with self._lock:
            return [msgspec.convert(entry, FlowSpec) for entry in self._entries.values()]

    def open(self) -> None:
        """Begin to answer."""
        feed = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                feed.answer(self)

            def log_message(self, *_arguments: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    def close(self) -> None:
        """Stop answering: nobody listens any more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _flows_of_the_api(self, handler: BaseHTTPRequestHandler) -> tuple[list[Any], str]:
        if self.api_url is None:
            return [], ""
        said = {n: v for n in ("User-Agent", "Date") if (v := handler.headers.get(n)) is not None}
        headers = {"Authorization": f"Bearer {self._token}"} | said
        answer = httpx.get(f"{self.api_url}/internal/airflow/flows", headers=headers, trust_env=False)
        answer.raise_for_status()
        return answer.json()["flows"], answer.headers["ETag"].strip('"')

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        flows, version = self._flows_of_the_api(handler)
        with self._lock:
            body = json.dumps({"flows": [*self._entries.values(), *flows]}).encode()
            etag = f'"{self._version}-{version}"'
        given = handler.headers.get("Authorization")
        self.authorizations.append(given)
        headers = {"ETag": etag}
        if self.redirect:
            status, body, headers = 302, b"", {"Location": self.redirect}
        elif handler.path != "/internal/airflow/flows":
            status, body = 404, b""
        elif given != f"Bearer {self._token}":
            status, body = 401, b""
        elif handler.headers.get("If-None-Match") == etag:
            status, body = 304, b""
        else:
            status = 200
        self.answers.append(status)
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
