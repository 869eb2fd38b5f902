"""No body larger than the limit gets past this place, whether it announces its length or not."""

from __future__ import annotations

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DRAIN_FACTOR = 8
"""How many times the limit is still read, and thrown away, before the refusal is sent: a client that is
still sending when the connection closes sees a reset instead of the answer."""


class BodyLimit:
    """ASGI middleware that reads bodies up to a limit and refuses larger ones.

    Args:
        max_bytes: The limit.
        refuse: Makes the answer for a body over the limit.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, refuse: Callable[[int], Response]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = bytearray()
        length = 0
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "")
        refused = announced.isdecimal() and int(announced[:20]) > self._max_bytes
        # A client that asked first (`Expect: 100-continue`) has sent nothing that would have to be drained.
        more = not (refused and "expect" in headers)
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client has gone
            chunk: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            length += len(chunk)
            refused = refused or length > self._max_bytes
            if refused:
                body.clear()
                if length > DRAIN_FACTOR * self._max_bytes:
                    break
            else:
                body += chunk
        if refused:
            await self._refuse(self._max_bytes)(scope, receive, send)
            return
        whole: Message | None = {"type": "http.request", "body": bytes(body), "more_body": False}

        async def replay() -> Message:
            nonlocal whole
            if whole is None:
                return await receive()
            message, whole = whole, None
            return message

        await self._app(scope, replay, send)
