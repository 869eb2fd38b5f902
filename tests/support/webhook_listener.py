"""A webhook on loopback: takes what is posted, and remembers it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Webhook:
    """What has arrived.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        posts: Path, headers and body of each request, in order.
        answers: Statuses that it gives, in order; then 204. A number below 100: it hangs up.
        location: Of answers that redirect.
    """

    port: int
    posts: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    location: str | None = None

    def bodies(self, **members: Any) -> list[dict[str, Any]]:
        """The bodies that have these members."""
        return [b for _, _, b in self.posts if all(b.get(k) == v for k, v in members.items())]


@contextlib.contextmanager
def listening() -> Iterator[Webhook]:
    """A webhook while the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            hook.posts.append((self.path, dict(self.headers), json.loads(body)))
            status = hook.answers.pop(0) if hook.answers else 204
            if status < 100:
                self.close_connection = True
                return
            self.send_response(status)
            if hook.location is not None:
                self.send_header("Location", hook.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook = Webhook(server.server_address[1])
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()
