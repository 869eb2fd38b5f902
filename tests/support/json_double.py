"""An HTTP server on loopback that answers JSON: what doubles of services are built on."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Any]
Handle = Callable[[str, Message, dict[str, Any]], Answer]
"""Path, headers and body of a request → status and body of the answer."""


class _Handler(BaseHTTPRequestHandler):
    handle_json: Handle

    def do_POST(self) -> None:  # the name that the library wants
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            read = json.loads(body or b"{}")
        except ValueError:
            read = {"form": body.decode()}
        status, answer = type(self).handle_json(self.path, self.headers, read)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_PUT = do_GET = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on standard error."""


@contextmanager
def json_server(handle: Handle) -> Iterator[str]:
    """The base URL of a server, while the block lasts."""
    kind = type("Handler", (_Handler,), {"handle_json": staticmethod(handle)})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
