"""Connections of the HTTP server: how many, and how long one may wait for its client.

uvicorn waits for ever for headers that do not come, for a client that takes no answer, and takes connections
without end. Its extension point for this is a protocol class of one's own (`--http`).
"""

from __future__ import annotations

import asyncio
import http

import h11
from fastapi import FastAPI
from starlette.responses import Response
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

from airberg.api.limit_settings import LimitSettings
from airberg.api.problems import problem_response
from airberg.settings import Settings

BACKLOG = 256
"""Connections that the kernel keeps for us until they are accepted."""


def server_config(app: FastAPI, settings: Settings) -> Config:
    """How uvicorn serves the application."""
    limits = settings.limits
    return Config(
        app,
        host=settings.api.host,
        port=settings.api.port,
        http=protocol_with(limits),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(limits.trusted_proxies),
        forwarded_allow_ips=list(limits.trusted_proxies),
        h11_max_incomplete_event_size=limits.max_head_bytes,
        backlog=BACKLOG,
        timeout_graceful_shutdown=5,
    )


def protocol_with(limits: LimitSettings) -> type[H11Protocol]:
    """The protocol class with these limits: uvicorn makes its objects itself."""
    return type("LimitedConnection", (GuardedConnection,), {"limits": limits})


class GuardedConnection(H11Protocol):
    """A connection with a time limit for its headers and for taking the answer."""

    limits = LimitSettings()
    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin to wait for headers, or refuse one connection too many."""
        if len(self.connections) >= self.limits.max_connections:
            self.transport = transport
            self.logger.warning("refused a connection: there are %d", len(self.connections))
            self._refuse(
                problem_response(
                    503,
                    "too-many-connections",
                    "There are too many connections.",
                    guidance="Try again in a few seconds.",
                    headers={"Retry-After": "5"},
                )
            )
            return
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Take data; what has come may be headers, or a part of them."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_head_timer()
        elif self._head_timer is None and not self.transport.is_closing():
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_head_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client takes nothing: wait, but not for ever."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.limits.write_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has taken what there was."""
        self._stop_write_timer()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - as in uvicorn
        """Answer what is not HTTP, or too much of it, with a problem as everything else."""
        self._refuse(
            problem_response(
                400,
                "bad-request",
                "The request could not be read.",
                guidance="Send well-formed HTTP with headers of at most "
                f"{self.limits.max_head_bytes} bytes in all.",
            )
        )

    def _refuse(self, answer: Response) -> None:
        head = f"HTTP/1.1 {answer.status_code} {http.HTTPStatus(answer.status_code).phrase}\r\n".encode()
        lines = [name + b": " + value + b"\r\n" for name, value in answer.raw_headers]
        self.transport.write(b"".join([head, *lines, b"connection: close\r\n\r\n", bytes(answer.body)]))
        self.transport.close()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.limits.head_timeout_s, self._no_head)

    def _no_head(self) -> None:
        self._head_timer = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
