"""A request that has no answer in time is answered for: clients and proxies do not wait for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airberg.traces import lines_of_code

log = logging.getLogger(__name__)


class TimeLimit:
    """ASGI middleware: an answer has to have begun in time. What has begun may take as long as it does.

    Routes run in threads, which nobody can stop: what such a request does goes on, its answer is dropped.

    Args:
        seconds: The limit.
        refuse: Makes the answer for a request over the limit.
    """

    def __init__(self, app: ASGIApp, seconds: float, refuse: Callable[[], Response]) -> None:
        self._app = app
        self._seconds = seconds
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()

        def over() -> None:
            nonlocal refusal
            log.warning("a request has no answer after %g s", self._seconds)
            refusal = loop.create_task(self._refuse()(scope, receive, send))

        async def watched(message: Message) -> None:
            timer.cancel()
            if refusal is None:
                await send(message)

        timer = loop.call_later(self._seconds, over)
        try:
            await self._app(scope, receive, watched)
        except Exception as e:
            if refusal is None:
                raise
            log.error("a request that was answered for has failed\n%s", lines_of_code(e))
        finally:
            timer.cancel()
            if refusal is not None:
                await refusal
