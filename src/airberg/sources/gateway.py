"""A proxy on loopback that lets one connector reach the hosts that the deployment allows, and no others.

A host is looked up here, once for each connection, and the connection goes to an address that was found and
allowed: a name that changes its addresses between the two (DNS rebinding), and a server that redirects, get
nowhere else. The connector is told of the proxy by the usual variables; what does not read them goes past.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import selectors
import socket
import socketserver
import threading
from typing import Final
from urllib.parse import urlsplit

from airberg.sources.hosts import HostRefused, HostRules

log = logging.getLogger(__name__)

MAX_HEAD_BYTES: Final = 65_536
CONNECT_TIMEOUT_S: Final = 30.0
HEAD_TIMEOUT_S: Final = 30.0
IDLE_S: Final = 3_600.0
_PIECE: Final = 256 * 1024
_REQUEST = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.[01]")
_HOP_BY_HOP = re.compile(rb"(?:proxy-[a-z-]+|connection|keep-alive):", re.IGNORECASE)


class Gateway:
    """The proxy of one connector; `close` ends it with all of its connections.

    Args:
        rules: Which hosts are allowed.
        listening: A socket that listens already, in the network of the connector; default a new one here.
    """

    def __init__(self, rules: HostRules, listening: socket.socket | None = None) -> None:
        self._server = _Server(("127.0.0.1", 0), _Connection, bind_and_activate=listening is None)
        if listening is not None:
            self._server.socket.close()
            self._server.socket = listening
        self._server.rules = rules
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def variables(self) -> dict[str, str]:
        """What tells programs to use it, for every address."""
        return proxy_variables(self._server.socket.getsockname()[1])

    def close(self) -> None:
        """Take no more connections, and break off those that are open."""
        self._server.shutdown()
        self._server.server_close()
        self._server.break_off()
        self._thread.join(5)


def proxy_variables(port: int) -> dict[str, str]:
    """The variables that name a proxy at this port of loopback for every address."""
    names = ("http_proxy", "https_proxy", "all_proxy")
    proxies = dict.fromkeys((*names, *(name.upper() for name in names)), f"http://127.0.0.1:{port}")
    return proxies | {"no_proxy": "", "NO_PROXY": ""}


def own_proxy() -> bool:
    """Whether this deployment reaches the network through a proxy of its own."""
    names = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
    return any(os.environ.get(name) for name in names)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    rules: HostRules

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[socketserver.BaseRequestHandler],
        *,
        bind_and_activate: bool,
    ) -> None:
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, handler, bind_and_activate)

    def keep(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    def break_off(self) -> None:
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections break; there is nothing to say about it, and nothing of it may be logged."""


class _Connection(socketserver.BaseRequestHandler):
    """One connection of the connector to the proxy."""

    server: _Server
    request: socket.socket

    def handle(self) -> None:
        self.server.keep(self.request)
        try:
            self.request.settimeout(HEAD_TIMEOUT_S)
            head, rest = self._head()
            found = _REQUEST.fullmatch(head.partition(b"\r\n")[0])
            if found is None:
                self._refuse(400, "This is no request for a proxy.")
                return
            self._forward(found[1], found[2].decode("latin-1"), head, rest)
        finally:
            self.server.forget(self.request)

    def _head(self) -> tuple[bytes, bytes]:
        data = b""
        while b"\r\n\r\n" not in data and len(data) <= MAX_HEAD_BYTES:
            piece = self.request.recv(_PIECE)
            if not piece:
                break
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        return head, rest

    def _forward(self, method: bytes, target: str, head: bytes, rest: bytes) -> None:
        try:
            parts = urlsplit(f"//{target}" if method == b"CONNECT" else target)
            host, port = parts.hostname or "", parts.port
            if not host or parts.scheme not in ("", "http"):
                raise ValueError(target)
            upstream = self._connected(host, port or (443 if method == b"CONNECT" else 80))
        except HostRefused as e:
            log.warning("the connector wanted to reach a host that is not allowed")
            self._refuse(403, str(e))
            return
        except (ValueError, UnicodeError):
            self._refuse(400, "The address is not well formed.")
            return
        except OSError:
            self._refuse(502, "The host cannot be reached.")
            return
        self.server.keep(upstream)
        with upstream:
            try:
                if method == b"CONNECT":
                    self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    path = parts._replace(scheme="", netloc="").geturl() or "/"
                    upstream.sendall(_own_head(method, path.encode("latin-1"), head))
                upstream.sendall(rest)
                _relay(self.request, upstream)
            finally:
                self.server.forget(upstream)

    def _connected(self, host: str, port: int) -> socket.socket:
        error: OSError = OSError("no address")
        for address in self.server.rules.addresses(host, port):
            try:
                return socket.create_connection((str(address), port), CONNECT_TIMEOUT_S)
            except OSError as e:
                error = e
        raise error

    def _refuse(self, status: int, why: str) -> None:
        body = f"{why} (Airberg, AIRBERG_SOURCES__ALLOWED_HOSTS)\n".encode()
        head = f"HTTP/1.1 {status} Refused\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        self.request.sendall(head.encode() + b"Connection: close\r\n\r\n" + body)


def _own_head(method: bytes, path: bytes, head: bytes) -> bytes:
    """The request as its server expects it; one a connection, so that each is looked at."""
    lines = [line for line in head.split(b"\r\n")[1:] if not _HOP_BY_HOP.match(line)]
    return b"\r\n".join([method + b" " + path + b" HTTP/1.1", *lines, b"Connection: close", b"", b""])


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until both sides have ended, or nothing has come for an hour."""
    for side in (one, other):
        side.settimeout(IDLE_S)
    with selectors.DefaultSelector() as waiting:
        for side, far in ((one, other), (other, one)):
            waiting.register(side, selectors.EVENT_READ, far)
        while waiting.get_map():
            ready = waiting.select(IDLE_S)
            if not ready:
                return
            for key, _ in ready:
                _carry(key, waiting)


def _carry(key: selectors.SelectorKey, waiting: selectors.BaseSelector) -> None:
    side, far = key.fileobj, key.data
    data = side.recv(_PIECE)  # type: ignore[union-attr]  # a socket is what was registered
    if data:
        far.sendall(data)
        return
    waiting.unregister(side)
    with contextlib.suppress(OSError):
        far.shutdown(socket.SHUT_WR)
