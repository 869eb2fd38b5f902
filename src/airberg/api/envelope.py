"""What every answer has, whoever gives it: a request id and the headers that keep browsers careful.

The outermost layer of the application: it also sees refusals of the layers below, and tells the access log
and the metrics how each request ended.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airberg.logs.context import request_fields

log = logging.getLogger("airberg.access")

CLIENT_GONE = 499
"""Status of a request whose client did not wait for the answer, as nginx counts them."""
_WELL_FORMED_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_QUIET = ("/api/health/", "/metrics")
_HSTS = (b"strict-transport-security", b"max-age=31536000")
_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_UNLESS_GIVEN = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
"""A page that needs more than nothing, and an answer that may be kept, say so themselves."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and how it ended.

    Attributes:
        route: Template of the path, `/api/jobs/{job_id}`; empty where no route matched.
        status: Of the answer; `CLIENT_GONE` without one.
        seconds: From its headers to the end of its answer.
    """

    method: str
    route: str
    status: int
    seconds: float


def request_id_of(headers: Headers) -> str:
    """The id that the client or a proxy gave the request, if it is well formed, else a new one.

    The id of a trace (W3C Trace Context, `traceparent`) is one too, so that both can be found by it.
    """
    for name in ("x-request-id", "x-correlation-id"):
        if _WELL_FORMED_ID.fullmatch(headers.get(name, "")):
            return headers[name]
    if trace := _TRACEPARENT.fullmatch(headers.get("traceparent", "")):
        return trace[1]
    return uuid4().hex


def add_answer_header(state: MutableMapping[str, Any], name: str, value: str) -> None:
    """Have the answer of this request carry a header, whatever the answer will be.

    Args:
        state: `scope["state"]`.
    """
    state.setdefault("answer_headers", []).append((name.lower().encode(), value.encode("latin-1")))


def log_exchange(exchange: Exchange) -> None:
    """One line a request: no path and no query, which may hold anything."""
    quiet = exchange.route.startswith(_QUIET) and exchange.status < 400
    log.log(
        logging.DEBUG if quiet else logging.INFO,
        "%s %s %d",
        exchange.method,
        exchange.route or "(no route)",
        exchange.status,
        extra={
            "method": exchange.method,
            "route": exchange.route,
            "status": exchange.status,
            "ms": round(exchange.seconds * 1000, 1),
        },
    )


class Envelope:
    """ASGI middleware; see the module.

    Args:
        https: Whether users reach the service by https only: then browsers are told so (HSTS).
        ended: Told of every request when it is over.
    """

    def __init__(self, app: ASGIApp, *, https: bool, ended: Callable[[Exchange], None]) -> None:
        self._app = app
        self._always = (*_ALWAYS, _HSTS) if https else _ALWAYS
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = request_id_of(Headers(scope=scope))
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = request_id
        status = CLIENT_GONE

        async def enriched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message.get("headers", ()))
                given = {name.lower() for name, _ in headers}
                headers += [header for header in _UNLESS_GIVEN if header[0] not in given]
                headers += [*self._always, (b"x-request-id", request_id.encode())]
                message = {**message, "headers": headers + state.get("answer_headers", [])}
            await send(message)

        with request_fields(request_id=request_id):
            try:
                await self._app(scope, receive, enriched)
            finally:
                route = str(getattr(scope.get("route"), "path", ""))
                self._ended(Exchange(_known(scope["method"]), route, status, time.perf_counter() - started))


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _known(method: str) -> str:
    """The method; a client may invent any, and each would be a label of its own."""
    return method if method in _METHODS else "other"
