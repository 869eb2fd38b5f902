"""Connectors that may reach some hosts only: real processes, a real proxy, a network of their own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from airberg.errors import ConfigurationFailed
from airberg.sources import hosts
from airberg.sources.gateway import Gateway
from airberg.sources.hosts import HostRules
from airberg.sources.launch import LaunchDescription
from airberg.sources.limits import Limits
from airberg.sources.process import _SHIM
from airberg.sources.verbs import check
from support.no_network import unshare_command

SCRIPT = Path(__file__).parents[2] / "support" / "connectors" / "reaching_source.py"
ALLOWED = ("good.test", "rebound.test", "127.0.0.1")


class Server(BaseHTTPRequestHandler):
    """Says what it was asked, and sends away whoever asks for `/away`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.2:{self.server.server_port}/inside")  # type: ignore[attr-defined]
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        proxied = [name for name in self.headers if name.lower().startswith("proxy-")]
        body = f"{self.path} {self.headers['Host'].partition(':')[0]} {proxied}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on standard error."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of a server at every address of loopback."""
    with ThreadingHTTPServer(("0.0.0.0", 0), Server) as server:  # noqa: S104 - 127.0.0.2 is one of them
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names stand for. It can be changed between two looks."""
    known = {"good.test": ["127.0.0.1"], "evil.test": ["127.0.0.2"], "rebound.test": ["127.0.0.1"]}

    def resolved(name: str) -> list[Any]:
        if name not in known:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 0)) for address in known[name]]

    monkeypatch.setattr(hosts, "_resolved", resolved)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return known


def reached(config: dict[str, Any], limits: Limits) -> dict[str, list[str]]:
    """What the connector could reach."""
    argv = (sys.executable, "-I", str(SCRIPT))
    launch = LaunchDescription(source_name="source-reaching", version="local", argv=argv, limits=limits)
    outcome = check(launch, config, 60)
    found: dict[str, list[str]] = json.loads(outcome.message)
    return found


def test_the_proxy_lets_through_what_is_allowed(port: int, names: dict[str, list[str]]) -> None:
    """By name and by address; not other names, other addresses, redirects to them, or names that moved."""
    names["rebound.test"] = ["127.0.0.1", "127.0.0.2"]
    paths = ("good.test:{}/a?b=c", "127.0.0.1:{}/", "evil.test:{}/", "127.0.0.2:{}/", "rebound.test:{}/")
    addresses = [f"http://{path.format(port)}" for path in (*paths, "good.test:{}/away", "unknown.test:{}/")]
    found = reached({"addresses": addresses}, Limits(allowed_hosts=ALLOWED))["library"]
    assert found == ["200 /a?b=c good.test []", "200 / 127.0.0.1 []", "403", "403", "403", "403", "502"]


def test_without_rules_there_is_no_proxy(port: int) -> None:
    """As it was."""
    found = reached({"addresses": [f"http://127.0.0.2:{port}/"]}, Limits())["library"]
    assert found == ["200 / 127.0.0.2 []"]


def test_what_does_not_know_proxies_goes_past_the_proxy(port: int) -> None:
    """This is why there are networks of their own."""
    found = reached({"places": [["127.0.0.2", port]]}, Limits(allowed_hosts=ALLOWED))
    assert found["directly"] == ["connected"]


@pytest.mark.skipif(unshare_command() is None, reason="no network namespaces here")
def test_a_network_of_its_own_has_the_proxy_as_its_only_way_out(port: int) -> None:
    """Neither this machine nor any other can be reached directly; what is allowed can, through the proxy."""
    config = {
        "addresses": [f"http://good.test:{port}/in", f"http://evil.test:{port}/"],
        "places": [["127.0.0.1", port], ["127.0.0.2", port], ["192.0.2.1", 80]],
    }
    found = reached(config, Limits(allowed_hosts=ALLOWED, network_namespace=True))
    assert found["library"] == ["200 /in good.test []", "403"]
    assert "connected" not in found["directly"]


def test_a_network_of_its_own_needs_no_privilege() -> None:
    """A user namespace gives the right to make one, to somebody who stays who he is.

    Only the step itself: an account without privileges cannot read the interpreter of the tests everywhere.
    """
    identity = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        shutil.copy(_SHIM, folder)
        program = "import shim; shim._leave_network(); print(open('/proc/net/dev').read()); input()"
        command = [python, "-c", f"import sys; sys.path.insert(0, {folder!r}); {program}"]
        allowed = subprocess.run(["unshare", "--user", "--net", "true"], check=False, **identity)
        if allowed.returncode != 0:
            pytest.skip("no user namespaces here")
        done = subprocess.run(command, input="\n", capture_output=True, text=True, check=True, **identity)
    devices = [line.partition(":")[0].strip() for line in done.stdout.splitlines() if ":" in line]
    assert devices == ["lo"]


def test_where_there_is_no_such_network_nothing_is_started(tmp_path: Path) -> None:
    """The kernel refuses: so does the run, for good, and says how to go on."""
    program = f"""
import ctypes, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from airberg.errors import ConfigurationFailed
from airberg.sources import process
from airberg.sources.launch import LaunchDescription
from airberg.sources.limits import Limits
from airberg.sources.process import _SHIM
from airberg.sources.verbs import check
shim = process._SHIM.read_text().replace("_leave_network()", "raise OSError(1, 'Operation not permitted')", 1)
place = __import__("pathlib").Path({str(tmp_path / "shim.py")!r})
place.write_text(shim)
process._SHIM = place
launch = LaunchDescription(
    source_name="s", version="local", argv=("/bin/touch", {str(tmp_path / "started")!r}),
    limits=Limits(allowed_hosts=("*",), network_namespace=True),
)
try:
    check(launch, {{}}, 20)
except ConfigurationFailed as e:
    print(e.code, e.message)
"""
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.startswith("no-network-namespace The connector could not get a network of its own")
    assert "Operation not permitted" in out
    assert not (tmp_path / "started").exists()


def test_a_proxy_of_the_deployment_stays_the_way_out(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows the way; ours could not go it. It has to hold the list then."""
    with Recorded() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        reached({"addresses": [f"http://evil.test:{port}/"]}, Limits(allowed_hosts=ALLOWED))
    assert proxy.first.startswith(b"GET http://evil.test")


class Recorded:
    """A proxy that writes down the first request and hangs up."""

    def __enter__(self) -> Recorded:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.first = b""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def _serve(self) -> None:
        connection, _ = self._listening.accept()
        with connection:
            self.first = connection.recv(65_536)

    def __exit__(self, *_: object) -> None:
        self._thread.join(20)
        self._listening.close()


# ---- the proxy itself ------------------------------------------------------------------------------------


@pytest.fixture
def gateway() -> Iterator[tuple[str, int]]:
    """The address of a proxy."""
    opened = Gateway(HostRules(ALLOWED))
    parts = urlsplit(opened.variables["http_proxy"])
    assert parts.hostname is not None
    assert parts.port is not None
    yield parts.hostname, parts.port
    opened.close()


def said(place: tuple[str, int], *sent: bytes) -> bytes:
    """What the proxy answers until it closes."""
    found = b""
    with socket.create_connection(place, timeout=20) as connection:
        for piece in sent:
            connection.sendall(piece)
        while chunk := connection.recv(65_536):
            found += chunk
    return found


def test_a_tunnel_carries_both_ways(gateway: tuple[str, int], port: int) -> None:
    """What TLS goes through, and databases that speak through proxies."""
    request = b"GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    found = said(gateway, f"CONNECT good.test:{port} HTTP/1.1\r\nHost: good.test\r\n\r\n".encode() + request)
    assert found.startswith(b"HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert found.endswith(b"/tunnel x []")


def test_a_second_request_gets_no_other_host(gateway: tuple[str, int], port: int) -> None:
    """A connection is one request; what it brings along for elsewhere goes to the host that was allowed."""
    second = f"GET http://evil.test:{port}/second HTTP/1.1\r\nHost: evil.test\r\n\r\n".encode()
    first = f"GET http://good.test:{port}/first HTTP/1.1\r\nHost: good.test\r\nProxy-Authorization: x\r\n\r\n"
    found = said(gateway, first.encode() + second)
    assert found.count(b"HTTP/1.1 200") == 1
    assert b"/first good.test []" in found


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"CONNECT evil.test:443 HTTP/1.1", 403),
        (b"CONNECT [::1]:443 HTTP/1.1", 403),
        (b"CONNECT 2130706434:80 HTTP/1.1", 403),
        (b"CONNECT good.test@evil.test:80 HTTP/1.1", 403),
        (b"CONNECT good.test:99999 HTTP/1.1", 400),
        (b"CONNECT good.test:1 HTTP/1.1", 502),
        (b"GET / HTTP/1.1", 400),
        (b"GET ftp://good.test/ HTTP/1.1", 400),
        (b"GET http:// HTTP/1.1", 400),
        (b"nonsense", 400),
    ],
)
def test_what_the_proxy_refuses(gateway: tuple[str, int], request_line: bytes, status: int) -> None:
    """With a status, and no word about the host."""
    found = said(gateway, request_line + b"\r\n\r\n")
    assert found.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"AIRBERG_SOURCES__ALLOWED_HOSTS" in found
    assert b".test" not in found


def test_a_head_without_end_is_given_up(gateway: tuple[str, int]) -> None:
    """After a bound of bytes."""
    found = said(gateway, b"GET http://good.test/ HTTP/1.1\r\n", b"X: " + b"x" * 70_000)
    assert found.startswith((b"HTTP/1.1 400 ", b""))


def test_closing_breaks_connections_off(port: int) -> None:
    """A connector's connections do not outlive it."""
    opened = Gateway(HostRules(ALLOWED))
    place = urlsplit(opened.variables["http_proxy"])
    with socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=20) as connection:
        connection.sendall(f"CONNECT good.test:{port} HTTP/1.1\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        opened.close()
        assert connection.recv(100) == b""


def test_a_run_with_a_host_that_is_no_longer_allowed_is_refused() -> None:
    """Before its connector is started."""
    with pytest.raises(ConfigurationFailed, match="/source_config/host"):
        hosts.refuse_hosts({"host": "evil.test"}, HostRules(ALLOWED))
