"""What makes an access token good, one rule at a time."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airberg.errors import ConfigurationFailed, NotAuthenticated
from airberg.identity.jwks import FITTING_KEY, FixedKeys
from airberg.identity.verifier import MAX_TOKEN_BYTES, TokenPolicy, Verifier
from support.oidc_issuer import AUDIENCE, SigningKey, good_claims

ISSUER = "https://issuer.example/realms/a"
KEY = SigningKey("k1", "ES256")
RSA_KEY = SigningKey("r1", "RS256")
STRICT = TokenPolicy(issuer=ISSUER, audience=AUDIENCE, token_type="at+jwt")
LENIENT = TokenPolicy(issuer=ISSUER, audience=AUDIENCE)


def verifier(policy: TokenPolicy = LENIENT, *jwks: dict[str, Any]) -> Verifier:
    """A verifier that knows two keys, or the given ones."""
    return Verifier(policy, FixedKeys(jwks or (KEY.jwk(), RSA_KEY.jwk())))


def refusal(token: str, by: Verifier | None = None) -> str:
    """The message with which a token is refused; it must be refused as an invalid one."""
    with pytest.raises(NotAuthenticated) as e:
        (by or verifier()).verify(token)
    assert e.value.challenge == "invalid_token"
    assert e.value.__suppress_context__ or e.value.__context__ is None
    return e.value.message


def test_a_good_token_gives_its_principal() -> None:
    """Issuer, subject, client, scopes, roles and owner are those of the token."""
    token = KEY.sign(good_claims(ISSUER, client_id="cli", roles=["ingest-admin"], email="ann@example.com"))
    caller = verifier(STRICT).verify(token)
    assert (caller.issuer, caller.subject, caller.client_id) == (ISSUER, "ann", "cli")
    assert caller.key == f"{ISSUER}|ann"
    assert caller.scopes == {"ingest:read", "ingest:write"}
    assert caller.owner_id == "ann@example.com"
    assert caller.is_admin


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exp": -31}, "expired"),
        ({"exp": None}, "claim exp"),
        ({"exp": "soon"}, "not valid"),
        ({"exp": float("inf")}, "not valid"),
        ({"iat": None}, "claim iat"),
        ({"iat": 3600}, "not valid yet"),
        ({"nbf": 100}, "not valid yet"),
        ({"aud": "another"}, "audience"),
        ({"aud": None}, "claim aud"),
        ({"aud": ["another"]}, "audience"),
        ({"aud": {AUDIENCE: 1}}, "audience"),
        ({"iss": "https://evil.example"}, "issuer"),
        ({"iss": ISSUER + "/"}, "issuer"),
        ({"iss": [ISSUER]}, "issuer"),
        ({"iss": None}, "claim iss"),
        ({"sub": None}, "claim sub"),
        ({"sub": ""}, "subject"),
        ({"sub": "a\x00b"}, "subject"),
        ({"sub": "a" * 256}, "subject"),
        ({"sub": 7}, "not valid"),
        ({"nonce": "n"}, "ID token"),
        ({"at_hash": "h"}, "ID token"),
        ({"c_hash": "h"}, "ID token"),
    ],
)
def test_wrong_claims_are_refused(changes: dict[str, Any], message: str) -> None:
    """Each wrong claim alone makes the token bad, with a message that says which rule it broke."""
    claims = good_claims(ISSUER, **changes)
    assert message in refusal(_sign_raw(claims))


def _sign_raw(claims: dict[str, Any]) -> str:
    """A token with claims that PyJWT itself would not sign."""
    body = json.dumps({k: v for k, v in claims.items() if v is not None}).encode()
    return jwt.api_jws.encode(body, KEY.private, "ES256", headers={"kid": "k1", "typ": "at+jwt"})


@pytest.mark.parametrize(
    "changes",
    [{"exp": -20}, {"nbf": 20}, {"iat": 20}, {"aud": ["x", AUDIENCE]}, {"nbf": -5}, {"jti": "1"}],
)
def test_clocks_may_differ_and_audiences_may_be_several(changes: dict[str, Any]) -> None:
    """What is within the leeway, or names us among others, is good."""
    assert verifier().verify(KEY.sign(good_claims(ISSUER, **changes))).subject == "ann"


@pytest.mark.parametrize(
    ("typ", "strict", "lenient"),
    [
        ("at+jwt", True, True),
        ("AT+JWT", True, True),
        ("application/at+jwt", True, True),
        ("JWT", False, True),
        (None, False, True),
        ("id+jwt", False, False),
        ("dpop+jwt", False, False),
        (["at+jwt"], False, False),
    ],
)
def test_the_type_of_token(typ: object, strict: bool, lenient: bool) -> None:
    """RFC 9068's type is always good; `JWT` and none only where the policy says so; others never."""
    token = KEY.sign(good_claims(ISSUER), headers={"typ": typ})
    for policy, good in ((STRICT, strict), (LENIENT, lenient)):
        if good:
            assert verifier(policy).verify(token).subject == "ann"
        else:
            assert "type" in refusal(token, verifier(policy))


# ---- signatures ------------------------------------------------------------------------------------------


def b64(value: bytes | dict[str, Any]) -> str:
    """Base64url without padding, of bytes or of JSON."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forgeries() -> dict[str, str]:
    """Tokens that somebody without the key could make."""
    good = KEY.sign(good_claims(ISSUER))
    head, body, signature = good.split(".")
    root = b64(good_claims(ISSUER, sub="root"))
    stranger = SigningKey("k1")
    pem = RSA_KEY.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    hs = b64({"alg": "HS256", "typ": "at+jwt", "kid": "r1"})
    mac = b64(hmac.new(pem, f"{hs}.{body}".encode(), hashlib.sha256).digest())
    none = b64({"alg": "none", "typ": "at+jwt", "kid": "k1"})
    return {
        "none": f"{none}.{body}.",
        "none with a signature": f"{none}.{body}.{signature}",
        "None": f"{b64({'alg': 'None', 'kid': 'k1'})}.{body}.",
        "no alg": f"{b64({'kid': 'k1'})}.{body}.{signature}",
        "HS256 with the public key": f"{hs}.{body}.{mac}",
        "other claims": f"{head}.{root}.{signature}",
        "no signature": f"{head}.{body}.",
        "changed signature": f"{head}.{body}.{signature[:-4]}AAAA",
        "zero signature": f"{head}.{body}.{b64(bytes(64))}",
        "stranger's key": stranger.sign(good_claims(ISSUER)),
        "unknown kid": SigningKey("k9").sign(good_claims(ISSUER)),
        "no kid": KEY.sign(good_claims(ISSUER), headers={"kid": None}),
        "jku": stranger.sign(good_claims(ISSUER), headers={"jku": "http://127.0.0.1:1/jwks"}),
        "jwk": stranger.sign(good_claims(ISSUER), headers={"jwk": stranger.jwk()}),
        "another key's kid": KEY.sign(good_claims(ISSUER), headers={"kid": "r1"}),
        "alg of another key": f"{b64({'alg': 'RS256', 'kid': 'k1'})}.{body}.{signature}",
        "crit": KEY.sign(good_claims(ISSUER), headers={"crit": ["x"], "x": 1}),
        "detached": f"{b64({'alg': 'ES256', 'kid': 'k1', 'b64': False, 'crit': ['b64']})}.{body}.{signature}",
        "alg not allowed": SigningKey("e3", "ES384").sign(good_claims(ISSUER)),
        "deep header": f"{b64(b'[' * 9000)}.{body}.{signature}",
        "huge number": b64(b'{"alg":' + b"9" * 6000 + b"}") + f".{body}.{signature}",
        "header is a list": f"{b64(b'[]')}.{body}.{signature}",
        "five parts": f"{good}.{good}",
        "not base64": "a.b.c",
        "one word": "x",
        "nothing": "",
        "umlaut": good + "ä",
        "lone surrogate": "\ud800",
        "padded": good + "=",
        "newline": good + "\n",
        "too large": good + "A" * MAX_TOKEN_BYTES,
    }


@pytest.mark.parametrize("name", forgeries())
def test_forged_tokens_are_refused(name: str) -> None:
    """Nothing that can be made without the issuer's private key gets in."""
    refusal(forgeries()[name])


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "ES384", "EdDSA"])
def test_allowed_algorithms_work(algorithm: str) -> None:
    """Each kind of key verifies; `alg` in the key is optional (RFC 7517), so one RSA key serves PS256 too."""
    key = SigningKey("a", "RS256" if algorithm.startswith("PS") else algorithm)
    policy = TokenPolicy(issuer=ISSUER, audience=AUDIENCE, algorithms=(algorithm,))
    token = key.sign(good_claims(ISSUER), algorithm=algorithm)
    assert verifier(policy, key.jwk(alg=None)).verify(token).subject == "ann"


@pytest.mark.parametrize(
    "changes",
    [
        {"use": "enc"},
        {"key_ops": ["sign"]},
        {"alg": "ES384"},
        {"crv": "P-384"},
        {"kty": "oct", "k": "AAAA"},
        {"kid": None},
        {"kid": 1},
        {"x": "AAAA"},
        {"x": None},
    ],
)
def test_keys_that_do_not_fit_are_not_used(changes: dict[str, Any]) -> None:
    """A key for encryption, of another algorithm or curve, symmetric or broken verifies nothing."""
    refusal(KEY.sign(good_claims(ISSUER)), verifier(LENIENT, KEY.jwk(**changes)))


def test_an_alg_of_a_key_binds() -> None:
    """A key that is announced for RS256 does not verify PS256, though it could."""
    policy = TokenPolicy(issuer=ISSUER, audience=AUDIENCE, algorithms=("RS256", "PS256"))
    refusal(RSA_KEY.sign(good_claims(ISSUER), algorithm="PS256"), verifier(policy, RSA_KEY.jwk()))


def test_short_rsa_keys_are_refused() -> None:
    """An RSA key under 2048 bits is too weak, whoever announces it (RFC 7518 section 3.3)."""
    weak = SigningKey("w", "RS256")
    weak.private = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that is the point
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = weak.sign(good_claims(ISSUER))
    refusal(token, verifier(LENIENT, weak.jwk()))


def test_two_keys_may_share_an_id() -> None:
    """Keys of different types under one id are told apart by the algorithm (RFC 7517 section 4.5)."""
    one, two = SigningKey("same", "RS256"), SigningKey("same", "ES256")
    by = verifier(LENIENT, one.jwk(), two.jwk())
    assert by.verify(one.sign(good_claims(ISSUER))).subject == "ann"
    assert by.verify(two.sign(good_claims(ISSUER))).subject == "ann"


@pytest.mark.parametrize("algorithms", [("HS256",), ("none",), ("RS256", "HS512"), ()])
def test_symmetric_algorithms_cannot_be_allowed(algorithms: tuple[str, ...]) -> None:
    """A policy that could be met with a public key is refused at start."""
    with pytest.raises(ConfigurationFailed) as e:
        TokenPolicy(issuer=ISSUER, audience=AUDIENCE, algorithms=algorithms)
    assert e.value.code == "bad-algorithms"
    assert all(a[:2] in ("RS", "PS", "ES", "Ed") for a in FITTING_KEY)


# ---- claims about the caller -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "a b"}, {"a", "b"}),
        ({"scope": None, "scp": "a b"}, {"a", "b"}),
        ({"scope": None, "scp": ["a", "b", 7]}, {"a", "b"}),
        ({"scope": "a", "scp": ["b"]}, {"a", "b"}),
        ({"scope": None}, set()),
        ({"scope": 7}, set()),
    ],
)
def test_scopes(claims: dict[str, Any], scopes: set[str]) -> None:
    """Scopes come from `scope` and `scp`, as words or lists; nonsense gives none."""
    assert verifier().verify(KEY.sign(good_claims(ISSUER, **claims))).scopes == scopes


@pytest.mark.parametrize(
    ("claims", "admin"),
    [
        ({"roles": ["ingest-admin"]}, True),
        ({"realm_access": {"roles": ["x", "ingest-admin"]}}, True),
        ({"groups": ["ingest-admin"]}, True),
        ({"roles": "ingest-admin"}, True),
        ({"roles": ["admin"]}, False),
        ({"realm_access": ["ingest-admin"]}, False),
        ({"scope": "ingest-admin"}, False),
        ({}, False),
    ],
)
def test_administrators(claims: dict[str, Any], admin: bool) -> None:
    """The role may be in any of the three places, and nowhere else."""
    assert verifier().verify(KEY.sign(good_claims(ISSUER, **claims))).is_admin is admin


@pytest.mark.parametrize(
    ("claims", "owner"),
    [
        ({"email": "a@b.example", "preferred_username": "ann"}, "a@b.example"),
        ({"email": "a@b.example", "email_verified": True}, "a@b.example"),
        ({"email": "a@b.example", "email_verified": False, "preferred_username": "p"}, "p"),
        ({"email": "a@b.example", "email_verified": "false"}, "ann"),
        ({"preferred_username": "p"}, "p"),
        ({"email": "", "preferred_username": " "}, "ann"),
        ({"email": ["a@b.example"]}, "ann"),
        ({"email": "a\x00@b.example"}, "ann"),
        ({"email": "a" * 256}, "ann"),
    ],
)
def test_owners(claims: dict[str, Any], owner: str) -> None:
    """E-mail unless unverified, else user name, else subject; never what cannot be shown and stored."""
    assert verifier().verify(KEY.sign(good_claims(ISSUER, **claims))).owner_id == owner


@pytest.mark.parametrize(
    ("claim", "claims", "user"),
    [
        ("upn", {"upn": "ann@corp.example", "email": "a@b.example"}, "ann@corp.example"),
        ("upn", {"email": "a@b.example"}, None),
        ("upn", {"upn": "group:sales"}, None),
        ("email", {"email": "a@b.example", "email_verified": False}, None),
        (None, {"email": "a@b.example"}, None),
    ],
)
def test_the_claim_of_datahubs_users(claim: str | None, claims: dict[str, Any], user: str | None) -> None:
    """It changes nothing of who the caller is."""
    by = verifier(TokenPolicy(issuer=ISSUER, audience=AUDIENCE, datahub_user_claim=claim))
    caller = by.verify(KEY.sign(good_claims(ISSUER, **claims)))
    assert caller.datahub_user == user
    assert caller.owner_id == ("ann" if claims.get("email_verified") is False else claims.get("email", "ann"))


@pytest.mark.parametrize(
    ("claims", "subject"),
    [
        ({"uid": "00u1", "sub": "ann@example.com"}, "00u1"),
        ({"sub": "loader"}, "loader"),
        ({"uid": "", "sub": "ann@example.com"}, None),
        ({"uid": 7, "sub": "ann@example.com"}, None),
        ({"uid": None, "sub": "a b"}, "a b"),
    ],
)
def test_the_claim_of_the_identity_can_be_chosen(claims: dict[str, Any], subject: str | None) -> None:
    """The first that is there counts, even where another would do better: nobody must become another."""
    by = verifier(TokenPolicy(issuer=ISSUER, audience=AUDIENCE, subject_claims=("uid", "sub")))
    token = KEY.sign(good_claims(ISSUER, **claims))
    if subject is None:
        assert "subject" in refusal(token, by)
    else:
        assert by.verify(token).key == f"{ISSUER}|{subject}"


def test_the_claims_of_scopes_and_roles_can_be_chosen() -> None:
    """Those that are chosen and no others; the name of one may have dots, or lead into an object."""
    chosen = {
        "scope_claims": ("scp", "roles"),
        "role_claims": ("https://airberg.example/roles", "resource_access.airberg.roles"),
    }
    by = verifier(TokenPolicy(issuer=ISSUER, audience=AUDIENCE, **chosen))
    claims: dict[str, Any] = {
        "scope": "keys:admin",
        "scp": "openid",
        "roles": ["ingest:read"],
        "groups": ["ingest-admin"],
        "https://airberg.example/roles": ["sales"],
        "resource_access": {"airberg": {"roles": ["lab"]}},
    }
    caller = by.verify(KEY.sign(good_claims(ISSUER, **claims)))
    assert caller.scopes == {"openid", "ingest:read"}
    assert caller.roles == {"sales", "lab"}
    assert not caller.is_admin


@pytest.mark.parametrize(
    ("claims", "owner"),
    [
        ({"email": "group:sales", "preferred_username": "ann7"}, "ann7"),
        ({"sub": "group:sales"}, "user:group:sales"),
        ({"email": "sales@group:example"}, "sales@group:example"),
    ],
)
def test_nobody_is_named_like_a_group(claims: dict[str, Any], owner: str) -> None:
    """What begins with `group:` is the name of a group that owns, never a person's."""
    assert verifier().verify(KEY.sign(good_claims(ISSUER, **claims))).owner_id == owner


def test_the_identity_is_taken_literally() -> None:
    """Subjects that differ in a space only are different callers."""
    keys = {verifier().verify(KEY.sign(good_claims(ISSUER, sub=s))).key for s in ("ann", "ann ", " ann")}
    assert len(keys) == 3


# ---- garbage ---------------------------------------------------------------------------------------------

GOOD = KEY.sign(good_claims(ISSUER, exp=10**6))
segments = st.binary(max_size=60).map(b64)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
headers = st.fixed_dictionaries(
    {
        "alg": st.sampled_from(["ES256", "RS256", "none", "HS256"]) | json_values,
        "kid": st.just("k1") | json_values,
    },
    optional={"typ": json_values, "crit": json_values, "b64": json_values, "jku": json_values},
)
shaped = st.tuples(headers.map(b64), segments | st.just(GOOD.split(".")[1]), segments).map(".".join)


@given(token=st.text(max_size=200) | shaped)
@example(token=GOOD[:-1])
@example(token="." * 10)
@settings(max_examples=100, deadline=None)
def test_garbage_is_refused_as_invalid(token: str) -> None:
    """Whatever comes instead of a token, it is refused in the same way and nothing else happens."""
    refusal(token)


@given(
    changes=st.dictionaries(
        st.sampled_from(["exp", "iat", "nbf", "aud", "iss", "sub"]), json_values, min_size=1
    )
)
@settings(max_examples=60, deadline=None)
def test_odd_claims_of_the_issuer_itself_never_crash(changes: dict[str, Any]) -> None:
    """Even a validly signed token with nonsense in it is either refused or gives a well-formed principal."""
    claims = good_claims(ISSUER) | changes
    caller = None
    with contextlib.suppress(NotAuthenticated):
        caller = verifier().verify(_sign_raw(claims))
    if caller is not None:
        assert caller.issuer == ISSUER
        assert caller.subject == claims["sub"]
        assert claims["exp"] > time.time() - 31
