"""Verifying access tokens: JWTs of one issuer for this API (RFC 7519, RFC 8725, RFC 9068)."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Any, Literal

import jwt
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAudienceError,
    InvalidIssuerError,
    MissingRequiredClaimError,
    PyJWTError,
)

from airberg.errors import ConfigurationFailed, NotAuthenticated
from airberg.identity.addresses import is_safe_url
from airberg.identity.development import DevelopmentIssuer
from airberg.identity.jwks import FITTING_KEY, IssuerKeys, KeySource
from airberg.identity.principal import GROUP, PERSON, Principal
from airberg.settings import Settings

log = logging.getLogger(__name__)

MAX_TOKEN_BYTES = 16_384
MAX_NAME_LENGTH = 255
"""Of subjects and owners; OpenID Connect Core section 2 allows a subject no more."""

COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
TYPES = {"at+jwt": ("at+jwt",), "any": ("at+jwt", "jwt", "")}
REQUIRED = ["exp", "iat", "iss", "aud", "sub"]
ID_TOKEN_CLAIMS = ("nonce", "at_hash", "c_hash")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPolicy:
    """Which tokens are good.

    Attributes:
        issuer: Who must have issued them, exactly.
        audience: For whom they must be.
        algorithms: Signature algorithms; asymmetric ones only, so that a public key can sign nothing.
        leeway_s: By how much clocks may differ.
        token_type: `at+jwt` insists on RFC 9068; `any` also takes `JWT` or none (Keycloak, Entra).
        admin_roles: Roles that make an administrator.
        owner_claims: Where the owner's name comes from: the first of these claims that is there.
        subject_claims: Where the identity comes from: the same.
        scope_claims: Where scopes come from: all of these claims.
        role_claims: Where roles and groups come from: all of these claims.
        datahub_user_claim: Where DataHub's user ids come from, if that is not the owner's name.
    """

    issuer: str
    audience: str
    algorithms: tuple[str, ...] = ("RS256", "PS256", "ES256", "EdDSA")
    leeway_s: int = 30
    token_type: Literal["at+jwt", "any"] = "any"  # noqa: S105 - a JOSE header value
    admin_roles: frozenset[str] = frozenset({"ingest-admin"})
    owner_claims: tuple[str, ...] = ("email", "preferred_username", "sub")
    subject_claims: tuple[str, ...] = ("sub",)
    scope_claims: tuple[str, ...] = ("scope", "scp")  # `scp`: Entra (a string), Okta (a list)
    role_claims: tuple[str, ...] = ("roles", "realm_access.roles", "groups")  # `realm_access`: Keycloak
    datahub_user_claim: str | None = None

    def __post_init__(self) -> None:
        unfit = sorted(set(self.algorithms) - FITTING_KEY.keys())
        if unfit or not self.algorithms:
            raise ConfigurationFailed(
                f"Tokens cannot be verified with the algorithms {', '.join(unfit) or '(none)'}.",
                guidance=f"Choose for AIRBERG_AUTH__ALGORITHMS from {', '.join(FITTING_KEY)}.",
                code="bad-algorithms",
            )


class Verifier:
    """Turns access tokens into principals."""

    def __init__(self, policy: TokenPolicy, keys: KeySource) -> None:
        self.policy = policy
        self._keys = keys

    def verify(self, token: str) -> Principal:
        """The caller that a token stands for.

        May block on the network when keys have to be fetched.

        Raises:
            NotAuthenticated: The token does not hold; `challenge` is `invalid_token`.
            Unavailable: The issuer's keys are needed and cannot be fetched.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise _refused("The access token is too large.")
        if not COMPACT.fullmatch(token):
            raise _refused("The access token is not a signed JWT.")
        try:
            claims = self._claims(token)
        except ExpiredSignatureError:
            raise _refused("The access token has expired.") from None
        except ImmatureSignatureError:
            raise _refused("The access token is not valid yet.") from None
        except InvalidAudienceError:
            raise _refused("The access token is for another audience.") from None
        except InvalidIssuerError:
            raise _refused("The access token is from another issuer.") from None
        except MissingRequiredClaimError as e:
            raise _refused(f"The access token lacks the claim {e.claim}.") from None
        except (PyJWTError, RecursionError) as e:
            log.info("an access token was refused (%s)", type(e).__name__)
            raise _refused("The access token is not valid.") from None
        return self._principal(claims)

    def _claims(self, token: str) -> dict[str, Any]:
        policy = self.policy
        header = jwt.get_unverified_header(token)
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in policy.algorithms:
            raise _refused("The access token is signed with an algorithm that is not allowed.")
        if not isinstance(kid, str) or not kid:
            raise _refused("The access token does not name its key (kid).")
        self._check_type(header.get("typ"))
        # Keys come from the issuer alone: `jku`, `jwk` and `x5u` of a header are never looked at.
        key = self._keys.key(kid, algorithm)
        if key is None:
            raise _refused("The access token is signed with a key that the issuer does not have.")
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=policy.audience,
            issuer=policy.issuer,
            leeway=policy.leeway_s,
            options={"require": REQUIRED, "enforce_minimum_key_length": True},
        )
        if any(name in claims for name in ID_TOKEN_CLAIMS):
            raise _refused("This is an ID token, not an access token.")
        return claims

    def _check_type(self, typ: object) -> None:
        """RFC 9068 section 4: `at+jwt`, with or without `application/`, in any case."""
        name = "" if typ is None else str(typ).lower().removeprefix("application/")
        if name not in TYPES[self.policy.token_type]:
            raise _refused("The token's type is not that of an access token.")

    def _principal(self, claims: dict[str, Any]) -> Principal:
        subject = self._subject(claims)
        if subject is None:
            raise _refused("The access token's subject is empty, too long or not printable.")
        roles = _words(claims, self.policy.role_claims)
        return Principal(
            issuer=self.policy.issuer,
            subject=subject,
            client_id=_name(claims.get("client_id")) or _name(claims.get("azp")),
            scopes=_words(claims, self.policy.scope_claims),
            roles=roles,
            owner_id=self._owner(claims, self.policy.owner_claims) or _own_name(subject),
            is_admin=not roles.isdisjoint(self.policy.admin_roles),
            datahub_user=self._owner(claims, (claim,)) if (claim := self.policy.datahub_user_claim) else None,
        )

    def _subject(self, claims: dict[str, Any]) -> str | None:
        """The identity. A claim that is there and cannot be one is an error: the next is not taken."""
        found = next((claims[name] for name in self.policy.subject_claims if name in claims), None)
        return _name(found)

    def _owner(self, claims: dict[str, Any], names: tuple[str, ...]) -> str | None:
        for claim in names:
            # An address that nobody has checked could be anybody's.
            if claim == "email" and claims.get("email_verified") in (False, "false"):
                continue
            name = _name(claims.get(claim))
            if name is not None and not name.startswith(GROUP):
                return name
        return None


def _own_name(subject: str) -> str:
    """The subject as an owner: one that reads as a group's name must not own what is the group's."""
    return PERSON + subject if subject.startswith(GROUP) else subject


def _name(value: object) -> str | None:
    """A claim as a name that can be stored and shown, or None. Never changed: it may be an identity."""
    if isinstance(value, str) and value.strip() and len(value) <= MAX_NAME_LENGTH and value.isprintable():
        return value
    return None


def _words(claims: dict[str, Any], paths: tuple[str, ...]) -> frozenset[str]:
    """All words of some claims, each a string with spaces or a list."""
    words: set[str] = set()
    for path in paths:
        value: Any = claims
        # The names of some issuers' own claims are URLs, which have dots (Auth0).
        for part in [path] if path in claims else path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, str):
            words.update(value.split())
        elif isinstance(value, list):
            words.update(v for v in value if isinstance(v, str))
    return frozenset(words)


def _refused(message: str) -> NotAuthenticated:
    return NotAuthenticated(message, challenge="invalid_token", guidance="Get a new access token.")


def build_verifier(settings: Settings) -> Verifier:
    """The verifier of a deployment.

    Raises:
        ConfigurationFailed: The settings of `auth` are wrong, or the development issuer would be reachable
            from other machines.
    """
    auth = settings.auth
    if auth.mode == "dev":
        development = DevelopmentIssuer(settings)
        return Verifier(_policy(settings, development.issuer), development.keys)
    if auth.issuer is None or not is_safe_url(auth.issuer):
        raise ConfigurationFailed(
            "The setting AIRBERG_AUTH__ISSUER is not the https address of an OpenID Connect issuer.",
            guidance="Give it exactly as the issuer's tokens have it in `iss` (http on loopback only).",
            code="bad-issuer",
        )
    if auth.jwks_uri is not None and not is_safe_url(auth.jwks_uri):
        raise ConfigurationFailed(
            "The setting AIRBERG_AUTH__JWKS_URI is not an https address.",
            guidance="Leave it out to have it discovered from the issuer.",
            code="bad-jwks-uri",
        )
    return Verifier(_policy(settings, auth.issuer), IssuerKeys(auth.issuer, auth.jwks_uri))


def _policy(settings: Settings, issuer: str) -> TokenPolicy:
    auth = settings.auth
    return TokenPolicy(
        issuer=issuer,
        audience=auth.audience,
        algorithms=auth.algorithms,
        leeway_s=auth.leeway_s,
        token_type=auth.token_type,
        admin_roles=auth.admin_roles,
        owner_claims=auth.owner_claims,
        subject_claims=auth.subject_claims,
        scope_claims=auth.scope_claims,
        role_claims=auth.role_claims,
        datahub_user_claim=settings.datahub.user_claim,
    )
