"""A PostgreSQL server for tests: on a free port of the loopback, in a temporary folder, not as root."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

START_DEADLINE_S = 60
INITDB_OPTIONS = ("-U", "tester", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync")


class NoServer(Exception):
    """There is no PostgreSQL server on this machine that tests could start."""


@dataclass(frozen=True)
class Server:
    """A running server. `url` is that of a database `airberg`, empty at first.

    `stop` cuts every connection; `start` comes back when the server takes new ones.
    """

    url: str
    connect: str
    stop: Callable[[], None]
    start: Callable[[], None]


def binaries() -> Path:
    """The folder of `initdb` and `postgres`. Raises NoServer."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path is None:
        raise NoServer("no initdb on this machine")
    return Path(on_path).resolve().parent


def _account() -> pwd.struct_passwd | None:
    """The account to run as: PostgreSQL refuses root. None: the one we are."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise NoServer("running as root, and there is no other account")


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextlib.contextmanager
def running_server(certificate: tuple[bytes, bytes] | None = None) -> Iterator[Server]:
    """Start a server and stop it afterwards. Raises NoServer.

    Args:
        certificate: Its certificate and private key, as PEM; without them it has no TLS.
    """
    programs, account = binaries(), _account()
    identity = (
        {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    )
    password, port = secrets.token_hex(8), _free_port()
    folder = Path(tempfile.mkdtemp(prefix="airberg-pg-"))
    try:
        secret = folder / "password"
        secret.write_text(password)
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
            os.chown(secret, account.pw_uid, account.pw_gid)
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", *INITDB_OPTIONS, "--pwfile", secret],
            check=True,
            capture_output=True,
            cwd=folder,
            **identity,
        )
        options = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        options |= {"fsync": "off", "max_connections": 60, "shared_buffers": "16MB", "timezone": "Asia/Tokyo"}
        if certificate:
            options |= {"ssl": "on"}
            for name, content in zip(("ssl_cert_file", "ssl_key_file"), certificate, strict=True):
                file = folder / f"{name}.pem"
                file.write_bytes(content)
                file.chmod(0o600)
                if account is not None:
                    os.chown(file, account.pw_uid, account.pw_gid)
                options[name] = str(file)
        settings = [part for k, v in options.items() for part in ("-c", f"{k}={v}")]
        connect = f"host=127.0.0.1 port={port} user=tester password={password}"

        def started() -> subprocess.Popen[bytes]:
            with (folder / "log").open("ab") as log:
                process = subprocess.Popen(
                    [programs / "postgres", "-D", folder / "data", *settings],
                    stdout=log,
                    stderr=log,
                    cwd=folder,
                    **identity,
                )
            _wait_until_ready(process, connect, folder / "log")
            return process

        def stop() -> None:
            process = running.pop()
            process.send_signal(signal.SIGINT)  # "fast": does not wait for clients to leave
            process.wait(timeout=30)

        def start() -> None:
            running.append(started())

        running = [started()]
        try:
            with psycopg.connect(f"{connect} dbname=postgres", autocommit=True) as c:
                c.execute("CREATE DATABASE airberg")
            yield Server(f"postgresql://tester:{password}@127.0.0.1:{port}/airberg", connect, stop, start)
        finally:
            if running:
                stop()
    finally:
        shutil.rmtree(folder)


def _wait_until_ready(server: subprocess.Popen[bytes], connect: str, log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while True:
        try:
            psycopg.connect(f"{connect} dbname=postgres", connect_timeout=2).close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                server.kill()
                raise RuntimeError(log.read_text(errors="replace")) from None
            time.sleep(0.05)
        else:
            return
