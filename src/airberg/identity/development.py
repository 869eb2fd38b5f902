"""The development issuer: signs tokens with a key of its own, which the same verifier then checks.

There is no switch that turns authentication off. Whoever can read the key file can be anybody, so the
issuer serves one machine only: it refuses when the API listens beyond loopback.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm

from airberg.errors import ConfigurationFailed
from airberg.identity.addresses import is_loopback
from airberg.identity.jwks import FixedKeys
from airberg.settings import Settings

DEFAULT_ISSUER = "urn:airberg:development"
ALGORITHM = "ES256"
RESERVED = frozenset({"iss", "aud", "sub", "exp", "iat", "nbf", "jti", "scope", "client_id"})


class DevelopmentIssuer:
    """Signs access tokens for this machine. The key is made on first use and kept in HOME/secrets.

    Raises:
        ConfigurationFailed: The API listens beyond loopback, the deployment has another issuer, or the key
            file cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.auth.mode != "dev":
            raise ConfigurationFailed(
                "This deployment has an issuer of its own; the development issuer is off.",
                guidance="Get access tokens from that issuer.",
                code="no-development-issuer",
            )
        if not is_loopback(settings.api.host):
            raise ConfigurationFailed(
                f"The development issuer is on, and the API would listen on {settings.api.host}, "
                "where other machines reach it.",
                guidance="Set AIRBERG_AUTH__MODE=oidc and AIRBERG_AUTH__ISSUER, or listen on 127.0.0.1.",
                code="development-issuer-exposed",
            )
        self.issuer = settings.auth.issuer or DEFAULT_ISSUER
        self._audience = settings.auth.audience
        self._key = _load_or_make(settings.secrets_dir / "dev-issuer.pem")
        public = self._key.public_key()
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self._kid = "dev-" + hashlib.sha256(der).hexdigest()[:16]
        jwk: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(public))
        self.keys = FixedKeys([jwk | {"kid": self._kid, "alg": ALGORITHM, "use": "sig"}])

    def mint(self, subject: str, scopes: Iterable[str], ttl: int = 3600, **claims: Any) -> str:  # noqa: ANN401 - any JSON
        """An access token (RFC 9068).

        Args:
            subject: Who the token is for.
            scopes: What it may be used for.
            ttl: Seconds until it expires.
            claims: More claims, such as `email` or `roles`.

        Raises:
            ValueError: A claim that the issuer itself sets is among `claims`.
        """
        if reserved := RESERVED & claims.keys():
            raise ValueError(f"the issuer itself sets {', '.join(sorted(reserved))}")
        now = int(time.time())
        own = {
            "iss": self.issuer,
            "aud": self._audience,
            "sub": subject,
            "client_id": "airberg-cli",
            "iat": now,
            "exp": now + ttl,
            "jti": secrets.token_urlsafe(12),
            "scope": " ".join(scopes),
        }
        return jwt.encode(
            claims | own, self._key, algorithm=ALGORITHM, headers={"kid": self._kid, "typ": "at+jwt"}
        )


def _load_or_make(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        if not path.exists():
            _make(path)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise _unusable(path, "can be read by other users", "Run `chmod 600` on it.")
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as e:
        raise _unusable(path, f"cannot be read or made ({e.strerror})") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _unusable(path, "holds no private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _unusable(path, "holds a key of another kind")
    return key


def _make(path: Path) -> None:
    """Write a new key; whoever comes first wins, and the file appears complete or not at all."""
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # unlike a rename, it fails when another process was faster
        except FileExistsError:
            return
    finally:
        draft.unlink()


def _unusable(path: Path, what: str, guidance: str = "Remove it; a new key is made.") -> ConfigurationFailed:
    return ConfigurationFailed(
        f"The key file of the development issuer, {path}, {what}.",
        guidance=guidance,
        code="bad-development-key",
    )
