"""A small OpenID Connect issuer on the loopback: discovery, keys, client credentials; real HTTP.

with OidcIssuer() as issuer:
    token = issuer.mint(sub="ann", scope="ingest:read")
    issuer.rotate()      # new keys; the old ones are gone
    issuer.switch_off()  # connections are refused ...
    issuer.switch_on()   # ... until it listens again, on the same port
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "airberg"
CLIENTS = {"loader": ("s3cret", "ingest:read ingest:write"), "reader": ("s3cret", "ingest:read")}

_MAKERS: dict[str, Callable[[], PrivateKeyTypes]] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}
_FORMATS: dict[str, Any] = {"RS": RSAAlgorithm, "PS": RSAAlgorithm, "ES": ECAlgorithm, "Ed": OKPAlgorithm}


class SigningKey:
    """A private key with an id and the algorithm that it is announced for."""

    def __init__(self, kid: str, algorithm: str = "ES256") -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.private: Any = _MAKERS[algorithm]()

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """The public key as the issuer announces it; a change to None leaves a member out."""
        public = json.loads(_FORMATS[self.algorithm[:2]].to_jwk(self.private.public_key()))
        entry = public | {"kid": self.kid, "alg": self.algorithm, "use": "sig"} | changes
        entry.pop("key_ops", None) if "key_ops" not in changes else None
        return {k: v for k, v in entry.items() if v is not None}

    def sign(
        self, claims: dict[str, Any], *, algorithm: str | None = None, headers: dict[str, Any] | None = None
    ) -> str:
        """A token; claims and headers that are None are left out."""
        head = {"kid": self.kid, "typ": "at+jwt"} | (headers or {})
        head = {k: v for k, v in head.items() if v is not None or k == "typ"}
        return jwt.encode(
            {k: v for k, v in claims.items() if v is not None},
            self.private,
            algorithm=algorithm or self.algorithm,
            headers=head,
        )


def good_claims(issuer: str, **changes: Any) -> dict[str, Any]:
    """Claims of an access token that is good now. `exp`, `iat` and `nbf` are given as seconds from now."""
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": "ann",
        "scope": "ingest:read ingest:write",
        "iat": 0,
        "exp": 600,
    } | changes
    for name in ("iat", "exp", "nbf"):
        if isinstance(claims.get(name), int):
            claims[name] += now
    return claims


class OidcIssuer:
    """An issuer that listens on 127.0.0.1 while its `with` block lasts."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.announced_issuer: str | None = None
        self.answers: dict[str, tuple[int, bytes]] = {}
        self._generation = 0
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.rotate()

    def __enter__(self) -> OidcIssuer:
        self.switch_on()
        return self

    def __exit__(self, *_: object) -> None:
        self.switch_off()

    @property
    def url(self) -> str:
        """Identifier and address of the issuer."""
        return f"http://127.0.0.1:{self._port}"

    def switch_on(self) -> None:
        """Listen; always on the same port."""
        issuer = self

        class Handler(_Handler):
            oidc = issuer

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def switch_off(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def rotate(self) -> None:
        """Replace all keys."""
        self._generation += 1
        self.key = SigningKey(f"k{self._generation}")
        self.jwks = {"keys": [self.key.jwk()]}

    def mint(self, *, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """An access token; see `good_claims`."""
        return self.key.sign(good_claims(self.url, **claims), headers=headers)

    def discovery(self) -> dict[str, Any]:
        """The discovery document."""
        return {
            "issuer": self.announced_issuer or self.url,
            "jwks_uri": f"{self.url}/jwks",
            "token_endpoint": f"{self.url}/token",
            "grant_types_supported": ["client_credentials"],
        }

    def token(self, authorization: str, form: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        """The token endpoint: grant type `client_credentials` with HTTP Basic (RFC 6749 section 4.4)."""
        if form.get("grant_type") != ["client_credentials"]:
            return 400, {"error": "unsupported_grant_type"}
        client, _, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        if client not in CLIENTS or CLIENTS[client][0] != secret:
            return 401, {"error": "invalid_client"}
        allowed = CLIENTS[client][1].split()
        scope = " ".join(s for s in form.get("scope", [" ".join(allowed)])[0].split() if s in allowed)
        token = self.mint(sub=client, client_id=client, scope=scope)
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": 600, "scope": scope}


class _Handler(BaseHTTPRequestHandler):
    oidc: OidcIssuer

    def do_GET(self) -> None:
        self.oidc.requests[self.path] += 1
        if self.path in self.oidc.answers:
            self._send(*self.oidc.answers[self.path])
        elif self.path == "/.well-known/openid-configuration":
            self._send(200, json.dumps(self.oidc.discovery()).encode())
        elif self.path == "/jwks":
            self._send(200, json.dumps(self.oidc.jwks).encode())
        else:
            self._send(404, b"{}")

    def do_POST(self) -> None:
        self.oidc.requests[self.path] += 1
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, answer = self.oidc.token(self.headers.get("Authorization", ""), parse_qs(body.decode()))
        self._send(status, json.dumps(answer).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
