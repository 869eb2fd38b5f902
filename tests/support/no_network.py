"""A network of its own without a way out (Linux), and how often somebody in it tried to leave.

The kernel counts for the network namespace, so whoever tries is counted, in any process and by any library:
packets without a route (connections and questions to name servers), questions to a name server on this host
that nobody answers, and connections to a proxy on this host that nobody accepts.
"""

from __future__ import annotations

import fcntl
import shutil
import socket
import struct
import subprocess
from pathlib import Path

_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_UP = 1


def unshare_command() -> list[str] | None:
    """What to put before a command, so that it runs without network; None where that is not allowed."""
    if shutil.which("unshare") is None:
        return None
    for command in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    return None


def raise_loopback() -> None:
    """Switch the loopback device of a new namespace on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        asked = fcntl.ioctl(handle, _SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
        (flags,) = struct.unpack("16xh14x", asked)
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _UP))


def attempts() -> int:
    """How often somebody in this namespace has tried to leave it."""
    counters = _ipv4() | _ipv6()
    names = ("Ip:OutNoRoutes", "Udp:NoPorts", "Tcp:AttemptFails", "Ip6OutNoRoutes", "Udp6NoPorts")
    return sum(counters.get(name, 0) for name in names)


def _ipv4() -> dict[str, int]:
    lines = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines()]
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return {
        f"{head[0]}{name}": int(value)
        for head, row in pairs
        for name, value in zip(head[1:], row[1:], strict=True)
    }


def _ipv6() -> dict[str, int]:
    file = Path("/proc/net/snmp6")
    lines = file.read_text().splitlines() if file.exists() else []
    return {name: int(value) for name, value in (line.split() for line in lines)}
