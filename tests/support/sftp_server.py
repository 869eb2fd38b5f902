"""An SFTP server on loopback: OpenSSH's where it is installed, else that of asyncssh."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from support.free_ports import free_ports

START_DEADLINE_S = 30


@dataclass(frozen=True)
class Sftp:
    """A running server.

    Attributes:
        program: What it is, for people.
        folder: What it serves.
        path: That folder, as clients name it.
        private_key: Who has it may log in.
    """

    program: str
    port: int
    username: str
    private_key: str
    folder: Path
    path: str


@contextlib.contextmanager
def running_sftp(base: Path) -> Iterator[Sftp]:
    """A server while the block lasts. `base` is an empty folder that other accounts can reach."""
    key = rsa.generate_private_key(65537, 3072)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    (base / "files").mkdir()
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    serve = _asyncssh(base, public) if program is None else _openssh(program, base, public)
    with serve as (name, port, username, path):
        yield Sftp(name, port, username, private, base / "files", path)


@contextlib.contextmanager
def _openssh(program: str, base: Path, public: bytes) -> Iterator[tuple[str, int, str, str]]:
    """`sshd` without privileges: it lets in only the account that it runs as, by its key."""
    account = pwd.getpwuid(os.getuid()) if os.getuid() else pwd.getpwnam("nobody")
    [port] = free_ports(1)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", base / "host_key"], check=True)
    (base / "authorized_keys").write_bytes(public + b"\n")
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": base / "host_key",
        "AuthorizedKeysFile": base / "authorized_keys",
        "PidFile": "none",
        "UsePAM": "yes",  # else an account without a password, as `nobody`, counts as locked
        "StrictModes": "no",  # folders of tests lie below one that everybody may write to
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "Subsystem": "sftp internal-sftp",
    }
    (base / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    identity = {}
    if os.getuid() == 0:
        identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        for path in (base, *base.iterdir()):
            os.chown(path, account.pw_uid, account.pw_gid)
    log = (base / "sshd.log").open("wb")
    argv = [program, "-D", "-e", "-f", base / "sshd_config"]
    with log, subprocess.Popen(argv, stdout=log, stderr=log, **identity) as server:
        try:
            _wait_for(port, server, base / "sshd.log")
            version = subprocess.run([program, "-V"], capture_output=True, text=True).stderr.strip()
            yield version.split(",")[0] or "OpenSSH", port, account.pw_name, str(base / "files")
        finally:
            server.terminate()


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"sshd did not start: {log.read_text()}")


@contextlib.contextmanager
def _asyncssh(base: Path, public: bytes) -> Iterator[tuple[str, int, str, str]]:
    import asyncssh

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            authorized_client_keys=asyncssh.import_authorized_keys(public.decode()),
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(base / "files").encode()),
        )

    async def stop(server: asyncssh.SSHAcceptor) -> None:
        server.close()
        await server.wait_closed()

    try:
        server = asyncio.run_coroutine_threadsafe(start(), loop).result(START_DEADLINE_S)
        try:
            yield f"asyncssh {asyncssh.__version__}", server.get_port(), "ann", "/"
        finally:
            asyncio.run_coroutine_threadsafe(stop(server), loop).result(START_DEADLINE_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
