"""Which hosts connectors may reach: the rules of a deployment, and what a configuration names.

A name has to be allowed, and so has every address that it stands for: else who can change a name's addresses
could point an allowed one at this network (DNS rebinding), or at the metadata service of a cloud
(169.254.169.254). Addresses of the internet are allowed with the name, all others only by a network of the
rules.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from airberg.errors import ConfigurationFailed, Problem
from airberg.sources.spec_problems import ROOT

Address = IPv4Address | IPv6Address

MAX_NAMES = 50
"""Hosts of one configuration that are looked at; a source has a handful."""
_NAME = re.compile(r"(\*|(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*)")
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://([^/?#\\\s]*)")
_NO_HOSTS = {"s3", "s3a", "s3n", "gs", "gcs", "az", "abfs", "abfss", "wasb", "wasbs", "file", "secret"}
"""Schemes whose second part is a bucket, or nothing."""
_HOST_FIELD = re.compile(
    r"(?:.*[_-])?(?:host|hostname|hosts|server|servers|brokers?|ip|ip_address|endpoint|url|uri|domain|site)",
    re.IGNORECASE,
)
_SURELY_HOST = re.compile(r"(?:.*[_-])?(?:host|hostname|hosts|servers?|brokers?)", re.IGNORECASE)
_ODD_IPV4 = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}", re.IGNORECASE)
_NAT64 = IPv6Network("64:ff9b::/96")
_DEFAULT_PORTS = {"http": 80, "https": 443, "ftp": 21, "sftp": 22, "ws": 80, "wss": 443}


class HostRefused(Exception):
    """A host that connectors may not reach; the text says why, without naming it."""


@dataclass(frozen=True, slots=True)
class Named:
    """A host that a configuration names, and where."""

    pointer: str
    host: str
    port: int | None


class HostRules:
    """The rules of `sources.allowed_hosts`.

    Args:
        rules: Each a name, a name with `*.` before it, `*`, an address or a network (CIDR), and perhaps
            a port.

    Raises:
        ValueError: One of them is none of these.
    """

    def __init__(self, rules: Iterable[str]) -> None:
        self._names: list[tuple[str, int | None]] = []
        self._networks: list[tuple[Any, int | None]] = []
        for rule in rules:
            host, port = _split_port(rule.strip().lower())
            try:
                self._networks.append((ip_network(host), port))
            except ValueError:
                odd = _ODD_IPV4.fullmatch(host) or (":" in rule and port is None)
                if not _NAME.fullmatch(host) or odd:
                    raise ValueError(f"{rule!r} is no host, network or pattern (*.example.com)") from None
                self._names.append((host, port))

    def addresses(self, host: str, port: int | None) -> list[Address]:
        """The addresses at which the host may be reached.

        Raises:
            HostRefused: It may not, or one of its addresses may not.
            OSError: The name is not known.
        """
        literal = _literal(host)
        if literal is not None:
            if self._in_network(literal, port) or (is_public(literal) and self._matches("", port)):
                return [literal]
            raise HostRefused("This address is not among those that connectors may reach here.")
        name = _plain_name(host)
        by_name = self._matches(name, port)
        if not by_name and not self._networks:
            raise HostRefused("This host is not among those that connectors may reach here.")
        found = list(dict.fromkeys(ip_address(str(i[4][0]).partition("%")[0]) for i in _resolved(name)))
        for address in found:
            if not (self._in_network(address, port) or (by_name and is_public(address))):
                raise HostRefused(
                    "This host has an address that connectors may not reach here."
                    if by_name
                    else "This host is not among those that connectors may reach here."
                )
        return found

    def _matches(self, name: str, port: int | None) -> bool:
        return any(_fits(pattern, name) and _port_fits(allowed, port) for pattern, allowed in self._names)

    def _in_network(self, address: Address, port: int | None) -> bool:
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network and _port_fits(allowed, port) for network, allowed in self._networks)


def _resolved(name: str) -> list[Any]:
    return socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)


def _fits(pattern: str, name: str) -> bool:
    if pattern == "*":
        return True
    if pattern.startswith("*."):
        return name.endswith(pattern[1:])
    return name == pattern


def _port_fits(allowed: int | None, port: int | None) -> bool:
    return allowed is None or port is None or allowed == port


def is_public(address: Address) -> bool:
    """Whether it is an address of the internet, also behind the transitions from IPv4 to IPv6."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFF_FFFF)
        if address.teredo is not None:
            return False
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


def _literal(host: str) -> Address | None:
    """The address that a text is, in all forms that systems take: `2130706433` and `0x7f.1` are 127.0.0.1."""
    text = host.strip("[]").partition("%")[0]
    try:
        return ip_address(text)
    except ValueError:
        pass
    if _ODD_IPV4.fullmatch(text):
        try:
            return IPv4Address(socket.inet_aton(text))
        except OSError:
            return None
    return None


def _plain_name(host: str) -> str:
    """As names are compared: lower case, without the final dot, international ones in their ASCII form."""
    name = host.rstrip(".").lower()
    try:
        return name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        raise HostRefused("This is no name of a host.") from None


def _split_port(text: str) -> tuple[str, int | None]:
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        suffix, _, port = rest.partition(":")
        return host + suffix, int(port) if port.isdecimal() else None
    if text.count(":") > 1:  # IPv6 without brackets
        return text, None
    host, _, port = text.partition(":")
    return host, int(port) if port.isdecimal() and len(port) < 6 else None


# ---- configurations --------------------------------------------------------------------------------------


def host_problems(config: dict[str, Any], rules: HostRules | None) -> list[Problem]:
    """What is wrong with the hosts that a configuration names; nothing without rules.

    A name that is not known at this moment is left to the connector, if the rules allow it.

    Args:
        config: The configuration, with secrets.
    """
    if rules is None:
        return []
    found: list[Problem] = []
    for named in dict.fromkeys(list(named_hosts(config, ROOT))[:MAX_NAMES]):
        try:
            rules.addresses(named.host, named.port)
        except HostRefused as e:
            guidance = "Use another one, or ask the operator: AIRBERG_SOURCES__ALLOWED_HOSTS has them."
            found.append(Problem(named.pointer, "host-not-allowed", str(e), guidance))
        except (OSError, UnicodeError):
            continue
    return found


def refuse_hosts(config: dict[str, Any], rules: HostRules | None) -> None:
    """Refuse a run whose configuration names hosts that are not allowed; they may have been once.

    Raises:
        ConfigurationFailed: `host-not-allowed`, with the place.
    """
    problems = host_problems(config, rules)
    if problems:
        first = problems[0]
        raise ConfigurationFailed(
            f"{first.message} It is named at {first.pointer}.", guidance=first.guidance, code=first.code
        )


def named_hosts(value: object, pointer: str, field: str = "", port: object = None) -> Iterator[Named]:
    """The hosts in a configuration: in addresses, in fields that are called so, and addresses of IP."""
    if isinstance(value, dict):
        for name, item in value.items():
            step = str(name).replace("~", "~0").replace("/", "~1")
            yield from named_hosts(item, f"{pointer}/{step}", str(name), value.get("port"))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from named_hosts(item, f"{pointer}/{number}", field, port)
    elif isinstance(value, str) and value.strip():
        beside = port if isinstance(port, int) and not isinstance(port, bool) else None
        yield from (Named(pointer, host, own or beside) for host, own in _hosts_of(value.strip(), field))


def _hosts_of(text: str, field: str) -> Iterator[tuple[str, int | None]]:
    addresses = _SCHEME.findall(text)
    if addresses:
        for scheme, place in addresses:
            if scheme.lower() not in _NO_HOSTS:
                for host, port in _listed(place.rpartition("@")[2]):
                    yield host, port or _DEFAULT_PORTS.get(scheme.lower())
        return
    is_field = bool(_HOST_FIELD.fullmatch(field))
    if not is_field:
        if _is_address(text):
            yield text, None
        return
    for host, port in _listed(re.split(r"[/?#\\]", text, maxsplit=1)[0].rpartition("@")[2]):
        # A domain or site is often just the name of a customer: `acme`.
        if "." in host or ":" in host or host.lower() == "localhost" or _SURELY_HOST.fullmatch(field):
            yield host, port


def _is_address(text: str) -> bool:
    try:
        ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def _listed(text: str) -> Iterator[tuple[str, int | None]]:
    for part in re.split(r"[,;\s]+", text):
        host, port = _split_port(part)
        if host:
            yield host, port
