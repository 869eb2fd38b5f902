"""An ASGI application on a port of the loopback, for tests that want real HTTP."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp


@contextlib.contextmanager
def served(app: ASGIApp, config: uvicorn.Config | None = None) -> Iterator[str]:
    """The base URL of the application, while the block lasts.

    Args:
        config: How it is served; default plainly.
    """
    config = config or uvicorn.Config(app, log_config=None, access_log=False, ws="none")
    # Of a socket that does not say that it is TCP asyncio does not switch Nagle's algorithm off, and then
    # every answer on a connection that is kept waits 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the application did not start")
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
