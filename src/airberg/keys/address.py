"""Addresses of key-encryption keys: what `AIRBERG_KEYS__KEK` may be, read into its parts.

`local`, or `SCHEME://PLACE/OF/THE/KEY?option=value`. Two things follow from an address: how the service is
reached, and the identity of the key, which is recorded with every data key that it wraps. Options that only
say how to reach the service (`endpoint`, `profile`, `module`, files with secrets) are not in the identity.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

LOCAL: Final = "local://master"
"""Identity of the master key of the deployment; as a setting also `local`."""

MAX_IDENTITY: Final = 200
"""Characters that a record has for the identity of a key."""

_VAULT_PORT = 8200
_HOST = r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
_NAME = r"[A-Za-z0-9._-]+"
_AWS_ARN = re.compile(r"arn:aws[a-z-]*:kms:(?P<region>[a-z0-9-]+):[0-9]{12}:(key|alias)/[A-Za-z0-9/_-]+")
_AWS_KEY = re.compile(r"alias/[A-Za-z0-9/_-]+|(mrk-)?[0-9a-f-]{32,36}")
_VAULT = re.compile(rf"{_HOST}/(?P<mount>{_NAME}(?:/{_NAME})*)/(?P<key>{_NAME})")
_GCP = re.compile(r"projects/[a-z0-9.:-]+/locations/[a-z0-9-]+/keyRings/[\w-]+/cryptoKeys/[\w-]+", re.ASCII)
_PKCS11 = re.compile(r"(?P<token>[^/]+)/(?P<label>[^/]+)")


@dataclass(frozen=True, slots=True)
class KekAddress:
    """Where a key-encryption key is.

    Attributes:
        scheme: `local`, `aws-kms`, `vault-transit`, `gcp-kms` or `pkcs11`.
        identity: The key's name for records: no secret, at most 200 characters, however it is reached.
        parts: What the scheme's path has, by name: `key`, `region`; `host`, `mount`, `key`; `token`, `label`.
        options: What follows the question mark.
    """

    scheme: str
    identity: str
    parts: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


def parse_kek_address(text: str) -> KekAddress:
    """Read an address.

    Raises:
        ValueError: It is none; the message says what is wrong, without repeating more than the scheme.
    """
    if text in ("local", LOCAL):
        return KekAddress("local", LOCAL)
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ValueError(f"a key-encryption key is `local` or begins with {_known()}")
    path, _, query = rest.partition("?")
    read, allowed = _SCHEMES[scheme]
    options = _options(scheme, query, allowed)
    parts, identity = read(path, options)
    if len(identity) > MAX_IDENTITY:
        raise ValueError(f"the name of a key-encryption key has at most {MAX_IDENTITY} characters")
    return KekAddress(scheme, identity, MappingProxyType(parts), MappingProxyType(options))


def _known() -> str:
    *first, last = (f"{s}://" for s in _SCHEMES)
    return f"{', '.join(first)} or {last}"


def _options(scheme: str, query: str, allowed: frozenset[str]) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise ValueError(f"what follows ? in {scheme}:// is not `option=value`, joined with &") from None
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"an option of {scheme}:// is given twice")
    for name, value in found.items():
        if name not in allowed:
            known = ", ".join(sorted(allowed))
            raise ValueError(f"{scheme}:// has no such option; it has: {known}")
        if not value:
            raise ValueError(f"the option {name} of {scheme}:// is empty")
    if "endpoint" in found:
        _check_endpoint(found["endpoint"])
    return found


def _check_endpoint(url: str) -> None:
    """Data keys travel in the bodies of requests: they leave this machine by TLS only."""
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment or not parts.hostname:
        raise ValueError("the option endpoint is not of the form https://HOST[:PORT]")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname)):
        raise ValueError("the option endpoint must be https://, or http:// to loopback")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# ---- schemes -----------------------------------------------------------------------------------------------

_Read = tuple[dict[str, str], str]


def _read_aws(path: str, options: Mapping[str, str]) -> _Read:
    if arn := _AWS_ARN.fullmatch(path):
        if options.get("region", arn["region"]) != arn["region"]:
            raise ValueError("the option region of aws-kms:// is another one than that of the ARN")
        return {"key": path, "region": arn["region"]}, f"aws-kms://{path}"
    if not _AWS_KEY.fullmatch(path):
        raise ValueError("aws-kms:// is followed by alias/NAME, a key id or an ARN")
    region = options.get("region", "")
    if not re.fullmatch(r"[a-z0-9-]+", region):
        raise ValueError("aws-kms:// needs the region: aws-kms://alias/NAME?region=eu-west-1")
    return {"key": path, "region": region}, f"aws-kms://{path}?region={region}"


def _read_vault(path: str, options: Mapping[str, str]) -> _Read:
    match = _VAULT.fullmatch(path)
    if match is None:
        raise ValueError("vault-transit:// is followed by HOST:PORT/MOUNT/KEY")
    host, port = match["host"].lower(), int(match["port"] or _VAULT_PORT)
    if not 0 < port < 65536:
        raise ValueError("the port of vault-transit:// is not between 1 and 65535")
    identity = f"vault-transit://{host}:{port}/{match['mount']}/{match['key']}"
    if namespace := options.get("namespace", "").strip("/"):
        identity += f"?namespace={quote(namespace)}"
    return {"host": f"{host}:{port}", "mount": match["mount"], "key": match["key"]}, identity


def _read_gcp(path: str, options: Mapping[str, str]) -> _Read:
    del options
    if not _GCP.fullmatch(path):
        raise ValueError(
            "gcp-kms:// is followed by projects/PROJECT/locations/PLACE/keyRings/RING/cryptoKeys/KEY"
        )
    return {"key": path}, f"gcp-kms://{path}"


def _read_pkcs11(path: str, options: Mapping[str, str]) -> _Read:
    match = _PKCS11.fullmatch(path)
    if match is None:
        raise ValueError("pkcs11:// is followed by TOKEN/KEY-LABEL, each percent-encoded")
    if not options.get("module", "").startswith("/"):
        raise ValueError("pkcs11:// needs the option module, the full path of the module's library")
    token, label, key_id = unquote(match["token"]), unquote(match["label"]), options.get("id", "").lower()
    if not re.fullmatch(r"([0-9a-f]{2})*", key_id):
        raise ValueError("the option id of pkcs11:// is not written in pairs of hexadecimal digits")
    identity = f"pkcs11://{quote(token, safe='')}/{quote(label, safe='')}"
    return {"token": token, "label": label, "id": key_id}, identity + (f"?id={key_id}" if key_id else "")


_SCHEMES: dict[str, tuple[Callable[[str, Mapping[str, str]], _Read], frozenset[str]]] = {
    "aws-kms": (_read_aws, frozenset({"region", "endpoint", "profile"})),
    "vault-transit": (_read_vault, frozenset({"namespace", "endpoint", "token_file", "approle_mount"})),
    "gcp-kms": (_read_gcp, frozenset({"endpoint"})),
    "pkcs11": (_read_pkcs11, frozenset({"module", "id", "pin_file"})),
}
