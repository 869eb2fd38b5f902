"""Which hosts the rules allow, and which a configuration names."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any

import pytest

from airberg.errors import ConfigurationFailed
from airberg.settings import SourceSettings
from airberg.sources import hosts
from airberg.sources.hosts import HostRefused, HostRules, host_problems, is_public, named_hosts, refuse_hosts

NAMES = {
    "api.example.com": ["93.184.216.34"],
    "example.com": ["93.184.216.34"],
    "rebound.example.com": ["93.184.216.34", "127.0.0.1"],
    "metadata.example.com": ["169.254.169.254"],
    "db.internal": ["10.1.2.3"],
    "mapped.example.com": ["::ffff:10.1.2.3"],
    "evil.org": ["93.184.216.99"],
    "xn--bcher-kva.example.com": ["93.184.216.35"],
}


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolved(name: str) -> list[Any]:
        if name not in NAMES:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 0)) for address in NAMES[name]]

    monkeypatch.setattr(hosts, "_resolved", resolved)


def allows(rules: list[str], host: str, port: int | None = None) -> bool:
    """Whether the rules let a connector reach the host."""
    try:
        return bool(HostRules(rules).addresses(host, port))
    except HostRefused:
        return False


@pytest.mark.parametrize(
    ("rules", "host"),
    [
        (["api.example.com"], "api.example.com"),
        (["API.Example.com"], "api.EXAMPLE.com."),
        (["*.example.com"], "api.example.com"),
        (["*"], "evil.org"),
        (["*"], "93.184.216.34"),
        (["*.example.com"], "bücher.example.com"),
        (["10.1.0.0/16"], "10.1.2.3"),
        (["10.1.0.0/16"], "db.internal"),
        (["10.1.0.0/16"], "mapped.example.com"),
        (["*.example.com", "127.0.0.0/8"], "rebound.example.com"),
        (["127.0.0.1"], "0x7f.1"),
        (["2001:db8::/32"], "[2001:db8::7]"),
    ],
)
def test_allowed(rules: list[str], host: str) -> None:
    """By name and public address, or by a network."""
    assert allows(rules, host)


@pytest.mark.parametrize(
    ("rules", "host"),
    [
        ([], "api.example.com"),
        (["api.example.com"], "evil.org"),
        (["api.example.com"], "example.com"),
        (["*.example.com"], "example.com"),
        (["example.com"], "notexample.com"),
        (["*.example.com"], "rebound.example.com"),
        (["*.example.com"], "metadata.example.com"),
        (["*.example.com"], "mapped.example.com"),
        (["db.internal"], "db.internal"),
        (["10.1.0.0/16"], "evil.org"),
        (["10.2.0.0/16"], "10.1.2.3"),
        (["*"], "127.0.0.1"),
        (["*"], "169.254.169.254"),
        (["*"], "2130706433"),
        (["*"], "0x7f000001"),
        (["*"], "0177.0.0.1"),
        (["*"], "127.1"),
        (["*"], "0"),
        (["*"], "[::1]"),
        (["*"], "::ffff:127.0.0.1"),
        (["*"], "fe80::1%eth0"),
        (["*"], "64:ff9b::7f00:1"),
        (["*"], "2002:7f00:1::"),
        (["*"], "224.0.0.1"),
        (["*.example.com"], "93.184.216.34"),
    ],
)
def test_refused(rules: list[str], host: str) -> None:
    """Whatever form an address has, and whatever a name stands for."""
    assert not allows(rules, host)


@pytest.mark.parametrize(
    ("rules", "port", "allowed"),
    [
        (["api.example.com:443"], 443, True),
        (["api.example.com:443"], 22, False),
        (["api.example.com:443"], None, True),
        (["[93.184.216.34]:443", "93.184.216.34:5432"], 5432, True),
    ],
)
def test_ports(rules: list[str], port: int | None, allowed: bool) -> None:
    """A rule with a port is for that port; a configuration that names none has the connector's."""
    host = "93.184.216.34" if "[" in rules[0] else "api.example.com"
    assert allows(rules, host, port) == allowed


@pytest.mark.parametrize(
    "rule", ["", "http://example.com", "*.", "a*.example.com", "10.0.0.1/8", "exa mple", "1.2"]
)
def test_rules_are_checked_at_the_start(rule: str) -> None:
    """A rule that would never fit is a mistake."""
    with pytest.raises(ValueError, match="is no host"):
        SourceSettings(allowed_hosts=(rule,))
    with pytest.raises(ValueError, match="needs allowed_hosts"):
        SourceSettings(network_namespace=True)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("100.64.0.1", False),
        ("192.168.1.1", False),
        ("::", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    """Carrier-grade NAT and what is reserved are not."""
    assert is_public(ip_address(address)) == public


# ---- configurations --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "found"),
    [
        (
            {"url": "https://u:p@api.example.com:8443/x?y=http://evil.org"},
            ["api.example.com", "evil.org"],
        ),
        ({"x": "jdbc:postgresql://db.internal:5432/a"}, ["db.internal"]),
        ({"uri": "mongodb://u:p@a.example.com:27017,b.example.com/db"}, ["a.example.com", "b.example.com"]),
        ({"host": "db"}, ["db"]),
        ({"tunnel": {"tunnel_host": "bastion"}}, ["bastion"]),
        ({"bootstrap_servers": "k1:9092, k2:9092"}, ["k1", "k2"]),
        ({"deep": [{"endpoint": "127.0.0.1:80"}]}, ["127.0.0.1"]),
        ({"anything": "169.254.169.254"}, ["169.254.169.254"]),
        ({"anything": "::1"}, ["::1"]),
        ({"url": "http://[::1]:80/"}, ["::1"]),
        ({"url": "http://good.example.com\\@evil.org/"}, ["good.example.com"]),
        ({"url": "HTTP://EVIL.org"}, ["EVIL.org"]),
        ({"bucket": "s3://some-bucket/x", "domain": "acme", "text": "hello", "port": 5, "none": None}, []),
        ({"email": "ann@example.com", "start_date": "2024-01-01", "version": "1.2.3.4.5"}, []),
    ],
)
def test_what_a_configuration_names(config: dict[str, Any], found: list[str]) -> None:
    """In addresses anywhere, in fields that are called so, and addresses of IP."""
    assert [n.host for n in named_hosts(config, "")] == found


def test_problems_say_where_and_not_what() -> None:
    """A value may hold a secret. The port beside a host counts; unknown names are the connector's matter."""
    config = {"db": [{"host": "user-s3cret.evil.org", "port": 22}, {"host": "93.184.216.34", "port": 22}]}
    rules = HostRules(["93.184.216.34:443", "unknown.example.com"])
    known = host_problems(config | {"url": "https://unknown.example.com"}, rules)
    assert [(p.pointer, p.code) for p in known] == [("/source_config/db/1/host", "host-not-allowed")]
    found = host_problems(config, HostRules(["*.example.com"]))
    assert [p.pointer for p in found] == ["/source_config/db/0/host", "/source_config/db/1/host"]
    assert "s3cret" not in str(found)
    assert host_problems(config, None) == []


def test_a_run_is_refused_for_good() -> None:
    """It would not help to try again."""
    with pytest.raises(ConfigurationFailed, match="/source_config/url") as e:
        refuse_hosts({"url": "http://127.0.0.1"}, HostRules(["*"]))
    assert e.value.code == "host-not-allowed"
