"""No request larger than the limits gets past this place, whether it announces its length or not.

Bodies are read here as a whole, and looked at before anything parses them: a megabyte of `[` costs the parser
its stack, one of `[],` a hundred times its memory.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airberg.errors import (
    HeadersTooLarge,
    InvalidRequest,
    RequestError,
    SlowRequest,
    TooLarge,
)

DRAIN_FACTOR = 8
"""How many times the limit is still read, and thrown away, before the refusal is sent: a client that is
still sending when the connection closes sees a reset instead of the answer."""
MAX_DEPTH = 64
"""Levels of nesting in a body; what is deeper would exhaust recursive code later on."""

_TEXTS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""Strings of JSON. Never goes back, and a string without end is taken too: one pass whatever the body."""
_BRACKETS = re.compile(rb"[\[\]{}]")


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a request may weigh; see `airberg.api.limit_settings`."""

    max_bytes: int
    max_members: int
    max_headers: int
    max_head_bytes: int
    timeout_s: float


def check_structure(body: bytes, max_members: int) -> None:
    """Refuse JSON with too many members, or nested too deeply, without parsing it.

    Raises:
        InvalidRequest: `too-many-members`, `too-deep`.
    """
    bare = _TEXTS.sub(b"", body)
    if bare.count(b",") + bare.count(b"[") + bare.count(b"{") > max_members:
        raise InvalidRequest.one(
            "",
            "too-many-members",
            f"The body has more than {max_members} members and items.",
            "Send fewer, or have AIRBERG_LIMITS__MAX_BODY_MEMBERS raised.",
        )
    depth = 0
    for bracket in _BRACKETS.findall(bare):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise InvalidRequest.one(
                "", "too-deep", f"The body is nested more than {MAX_DEPTH} levels deep.", "Flatten it."
            )


class BodyLimit:
    """ASGI middleware that reads bodies up to the limits and refuses larger, slower and stranger ones.

    Args:
        limits: The limits.
        refuse: Makes the answer for a request over one.
    """

    def __init__(self, app: ASGIApp, limits: BodyLimits, refuse: Callable[[RequestError], Response]) -> None:
        self._app = app
        self._limits = limits
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._body(scope, receive)
        except RequestError as e:
            await self._refuse(e)(scope, receive, send)
            return
        if body is None:
            return  # the client has gone
        whole: Message | None = {"type": "http.request", "body": body, "more_body": False}

        async def replay() -> Message:
            nonlocal whole
            if whole is None:
                return await receive()
            message, whole = whole, None
            return message

        await self._app(scope, replay, send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        self._check_head(scope)
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                body = await self._read(Headers(scope=scope), receive)
        except TimeoutError:
            raise SlowRequest(
                f"The body did not arrive in {self._limits.timeout_s:g} seconds.",
                guidance="Send it faster, or have AIRBERG_LIMITS__BODY_TIMEOUT_S raised.",
            ) from None
        if body:
            check_structure(body, self._limits.max_members)
        return body

    def _check_head(self, scope: Scope) -> None:
        """The server limits what it keeps of an incomplete head; one that came at once got past it."""
        headers = scope["headers"]
        if len(headers) > self._limits.max_headers:
            raise HeadersTooLarge(
                f"The request has more than {self._limits.max_headers} headers.", guidance="Send fewer."
            )
        size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        if size + sum(len(name) + len(value) for name, value in headers) > self._limits.max_head_bytes:
            raise HeadersTooLarge(
                f"Address and headers have more than {self._limits.max_head_bytes} bytes.",
                guidance="Send less.",
            )

    async def _read(self, headers: Headers, receive: Receive) -> bytes | None:
        body = bytearray()
        length = 0
        most = self._limits.max_bytes
        announced = headers.get("content-length", "")
        refused = announced.isdecimal() and int(announced[:20]) > most
        # A client that asked first (`Expect: 100-continue`) has sent nothing that would have to be drained.
        more = not (refused and "expect" in headers)
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return None
            chunk: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            length += len(chunk)
            refused = refused or length > most
            if refused:
                body.clear()
                if length > DRAIN_FACTOR * most:
                    break
            else:
                body += chunk
        if refused:
            raise TooLarge(
                f"The body is larger than {most} bytes.",
                guidance="Send less, or raise AIRBERG_API__MAX_BODY_BYTES.",
            )
        return bytes(body)
