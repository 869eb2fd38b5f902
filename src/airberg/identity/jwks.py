"""The signing keys of an issuer: discovered, fetched, kept, and served stale when the issuer is down.

PyJWT's `PyJWKClient` keeps keys too, but answers "unknown key" for a key that it merely could not fetch.
A client that gets 401 throws its token away; during an outage of the issuer it cannot get another one. So
here a key that is not known is refused only when a fresh answer of the issuer lacks it; else `Unavailable`.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import httpx
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from airberg.errors import Unavailable
from airberg.identity.addresses import is_safe_url

log = logging.getLogger(__name__)

FITTING_KEY = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "PS256": ("RSA", None),
    "PS384": ("RSA", None),
    "PS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""Asymmetric algorithms (RFC 7518, RFC 8037) with the type and curve of their keys."""

PUBLIC_MEMBERS = frozenset({"kty", "crv", "x", "y", "n", "e", "alg", "kid"})
MAX_ANSWER_BYTES = 1_000_000


class KeySource(Protocol):
    """Where a verifier gets keys from."""

    def key(self, kid: str, algorithm: str) -> PyJWK | None:
        """The key of that id for that algorithm; None when the issuer has none. May raise Unavailable."""
        ...


class KeySet:
    """The usable keys of one JWK set (RFC 7517): public, for signatures, of an algorithm we know."""

    def __init__(self, document: object, fetched_at: float = 0.0) -> None:
        entries = document.get("keys") if isinstance(document, dict) else None
        self._entries = [e for e in entries if _usable(e)] if isinstance(entries, list) else []
        self._made: dict[tuple[str, str], PyJWK] = {}
        self.fetched_at = fetched_at

    def __len__(self) -> int:
        return len(self._entries)

    def key(self, kid: str, algorithm: str) -> PyJWK | None:
        """The key of that id whose type, curve and, if it names one, algorithm are those of `algorithm`."""
        if (made := self._made.get((kid, algorithm))) is not None:
            return made
        for entry in self._entries:
            if entry["kid"] != kid or not _fits(entry, algorithm):
                continue
            public = {k: v for k, v in entry.items() if k in PUBLIC_MEMBERS}
            try:
                made = PyJWK(public, algorithm)
            except (PyJWTError, ValueError, TypeError) as e:
                log.warning("the issuer's key %r cannot be used (%s)", kid, type(e).__name__)
                continue
            self._made[kid, algorithm] = made
            return made
        return None


def _usable(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str):
        return False
    operations = entry.get("key_ops", ["verify"])
    return entry.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations


def _fits(entry: dict[str, Any], algorithm: str) -> bool:
    kind, curve = FITTING_KEY[algorithm]
    return (
        entry.get("kty") == kind
        and (curve is None or entry.get("crv") == curve)
        and entry.get("alg", algorithm) == algorithm
    )


class IssuerKeys:
    """A `KeySource` for an issuer on the network. Safe for many threads.

    Args:
        issuer: Its identifier; also where its discovery document is, unless `jwks_uri` is given.
        lifespan_s: For how long keys are used without asking again.
        cooldown_s: Between two questions caused by unknown key ids, so that random ids cause no load.
        max_stale_s: For how long after they were fetched keys are used when the issuer does not answer.
        retry_s: Between two attempts while it does not answer.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        issuer: str,
        jwks_uri: str | None = None,
        *,
        lifespan_s: float = 300.0,
        cooldown_s: float = 30.0,
        max_stale_s: float = 3600.0,
        retry_s: float = 5.0,
        timeout_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._jwks_uri = jwks_uri
        self._lifespan_s = lifespan_s
        self._cooldown_s = cooldown_s
        self._max_stale_s = max_stale_s
        self._retry_s = retry_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._lock = threading.Lock()
        self._known: KeySet | None = None
        self._failure: tuple[float, str] | None = None

    def key(self, kid: str, algorithm: str) -> PyJWK | None:
        """See `KeySource.key`.

        Raises:
            Unavailable: The issuer does not answer, and the key is not among those that may be used stale.
        """
        known = self._known
        if known is not None and self._age(known) < self._lifespan_s:
            found = known.key(kid, algorithm)
            if found is not None:
                return found
        stale = None
        if known is not None and self._age(known) < self._max_stale_s:
            stale = known.key(kid, algorithm)
        # With a key in hand, nobody waits for somebody else's fetch.
        if not self._lock.acquire(blocking=stale is None):
            return stale
        try:
            return self._refresh(known, stale).key(kid, algorithm)
        finally:
            self._lock.release()

    def _age(self, keys: KeySet) -> float:
        return self._clock() - keys.fetched_at

    def _refresh(self, seen: KeySet | None, stale: PyJWK | None) -> KeySet:
        """The keys to decide by, fetched if that is due; the lock is held."""
        known = self._known
        if known is not None and (known is not seen or stale is None) and self._age(known) < self._cooldown_s:
            return known  # another thread was faster, or an unknown id came soon after a fetch
        problem = self._recent_failure()
        if problem is None:
            try:
                self._known = self._fetch()
            except _NoAnswer as e:
                problem = str(e)
                self._failure = (self._clock() + self._retry_s, problem)
                log.warning("the issuer's keys cannot be fetched: %s", problem)
            else:
                self._failure = None
                return self._known
        if stale is not None and known is not None:
            return known
        raise Unavailable(
            f"The issuer's keys cannot be fetched: {problem}.",
            guidance="The token may well be good; try again later.",
            code="issuer-unavailable",
            retry_after=max(1, round(self._retry_s)),
        )

    def _recent_failure(self) -> str | None:
        if self._failure is not None and self._clock() < self._failure[0]:
            return self._failure[1]
        return None

    def _fetch(self) -> KeySet:
        uri = self._jwks_uri or self._discover()
        keys = KeySet(self._get_json(uri), self._clock())
        if not keys:
            raise _NoAnswer("its key set has no usable key")
        return keys

    def _discover(self) -> str:
        """`jwks_uri` of the discovery document (OpenID Connect Discovery 1.0, section 4).

        Asked again before each fetch, as an issuer may move its keys. The document must name the issuer
        exactly (section 4.3), else another tenant of the same host could answer for it.
        """
        document = self._get_json(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        if not isinstance(document, dict) or document.get("issuer") != self._issuer:
            raise _NoAnswer("its discovery document names another issuer")
        uri = document.get("jwks_uri")
        if not isinstance(uri, str) or not is_safe_url(uri):
            raise _NoAnswer("its discovery document has no https address of its keys")
        return uri

    def _get_json(self, url: str) -> object:
        try:
            with httpx.stream("GET", url, timeout=self._timeout_s, follow_redirects=False) as response:
                if response.status_code != httpx.codes.OK:
                    raise _NoAnswer(f"{url} answered {response.status_code}")
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        raise _NoAnswer(f"{url} answered too much")
        except (httpx.HTTPError, httpx.InvalidURL) as e:
            raise _NoAnswer(f"{url} did not answer ({type(e).__name__})") from None
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise _NoAnswer(f"{url} did not answer JSON") from None


class _NoAnswer(Exception):
    """What kept us from getting keys."""


class FixedKeys:
    """A `KeySource` that has its keys already."""

    def __init__(self, jwks: Sequence[dict[str, Any]]) -> None:
        self._keys = KeySet({"keys": list(jwks)})

    def key(self, kid: str, algorithm: str) -> PyJWK | None:
        """See `KeySource.key`."""
        return self._keys.key(kid, algorithm)
