"""The keys of a real issuer over HTTP: discovery, rotation, outages."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from airberg.errors import ConfigurationFailed, NotAuthenticated, Unavailable
from airberg.identity.jwks import MAX_ANSWER_BYTES, IssuerKeys
from airberg.identity.principal import Principal
from airberg.identity.verifier import TokenPolicy, Verifier, build_verifier
from airberg.settings import AuthSettings, Settings
from support.oidc_issuer import AUDIENCE, OidcIssuer, SigningKey, good_claims

DISCOVERY = "/.well-known/openid-configuration"


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def issuer() -> Iterator[OidcIssuer]:
    """An issuer that listens."""
    with OidcIssuer() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    """The verifier's clock."""
    return Clock()


@pytest.fixture
def verifier(issuer: OidcIssuer, clock: Clock) -> Verifier:
    """A verifier of that issuer's tokens."""
    policy = TokenPolicy(issuer=issuer.url, audience=AUDIENCE, token_type="at+jwt")
    return Verifier(policy, IssuerKeys(issuer.url, clock=clock))


def refused(verifier: Verifier, token: str) -> bool:
    """Whether the token is refused as invalid."""
    try:
        verifier.verify(token)
    except NotAuthenticated as e:
        return e.challenge == "invalid_token"
    return False


def test_client_credentials(issuer: OidcIssuer, verifier: Verifier) -> None:
    """A token that the issuer gives to a program is good, with the scopes that it was granted."""
    form = {"grant_type": "client_credentials", "scope": "ingest:read ingest:write"}
    answer = httpx.post(f"{issuer.url}/token", data=form, auth=("reader", "s3cret")).raise_for_status()
    caller = verifier.verify(answer.json()["access_token"])
    assert isinstance(caller, Principal)
    assert (caller.subject, caller.client_id, caller.scopes) == ("reader", "reader", {"ingest:read"})


def test_keys_are_fetched_once(issuer: OidcIssuer, verifier: Verifier, clock: Clock) -> None:
    """Many tokens cost one fetch; after the keys' lifespan one more."""
    for _ in range(5):
        verifier.verify(issuer.mint())
    assert issuer.requests == {DISCOVERY: 1, "/jwks": 1}
    clock.now += 301
    verifier.verify(issuer.mint())
    assert issuer.requests["/jwks"] == 2


def test_many_threads_fetch_once(issuer: OidcIssuer, verifier: Verifier) -> None:
    """Requests that arrive before there are keys wait for one fetch instead of each making its own."""
    token, gate = issuer.mint(), threading.Barrier(8)

    def verify(_: int) -> str:
        gate.wait()
        return verifier.verify(token).subject

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(verify, range(8))) == {"ann"}
    assert issuer.requests["/jwks"] == 1


def test_rotated_keys_are_picked_up(issuer: OidcIssuer, verifier: Verifier, clock: Clock) -> None:
    """A key that is new causes a fetch once the last one is a while ago; the old key is then refused."""
    old = issuer.mint()
    verifier.verify(old)
    issuer.rotate()
    clock.now += 31
    assert verifier.verify(issuer.mint()).subject == "ann"
    assert refused(verifier, old)


def test_unknown_keys_cause_no_load(issuer: OidcIssuer, verifier: Verifier, clock: Clock) -> None:
    """Random key ids are refused without asking the issuer each time."""
    verifier.verify(issuer.mint())
    stranger = SigningKey("x")
    for n in range(20):
        assert refused(verifier, stranger.sign(good_claims(issuer.url), headers={"kid": f"x{n}"}))
    assert issuer.requests["/jwks"] == 1
    clock.now += 31
    for n in range(20):
        assert refused(verifier, stranger.sign(good_claims(issuer.url), headers={"kid": f"y{n}"}))
    assert issuer.requests["/jwks"] == 2


# ---- outages ---------------------------------------------------------------------------------------------


def test_during_an_outage_known_keys_stay_good_for_an_hour(
    issuer: OidcIssuer, verifier: Verifier, clock: Clock
) -> None:
    """Keys outlive their lifespan while the issuer is down, up to an hour; then it is 503, not 401."""
    token = issuer.mint(exp=10**5)
    verifier.verify(token)
    issuer.switch_off()
    clock.now += 3590
    assert verifier.verify(token).subject == "ann"
    clock.now += 20
    with pytest.raises(Unavailable) as e:
        verifier.verify(token)
    assert e.value.code == "issuer-unavailable"
    assert e.value.retry_after > 0
    issuer.switch_on()
    clock.now += 6
    assert verifier.verify(token).subject == "ann"


def test_during_an_outage_an_unknown_key_is_not_a_bad_token(
    issuer: OidcIssuer, verifier: Verifier, clock: Clock
) -> None:
    """The key may be a new one that cannot be fetched: the client must keep its token and come back."""
    verifier.verify(issuer.mint())
    issuer.rotate()
    issuer.switch_off()
    clock.now += 31
    with pytest.raises(Unavailable):
        verifier.verify(issuer.mint())
    issuer.switch_on()
    clock.now += 6
    assert verifier.verify(issuer.mint()).subject == "ann"


def test_what_is_wrong_in_itself_is_refused_during_an_outage_too(
    issuer: OidcIssuer, verifier: Verifier, clock: Clock
) -> None:
    """No key is needed to refuse a token of the wrong form."""
    issuer.switch_off()
    assert refused(verifier, "a.b.c")
    assert refused(verifier, issuer.mint(headers={"typ": "JWT"}))


def test_a_cold_start_during_an_outage_asks_seldom(
    issuer: OidcIssuer, verifier: Verifier, clock: Clock
) -> None:
    """Without keys every request is 503, and the issuer is asked every few seconds, not by each request."""
    issuer.answers[DISCOVERY] = (500, b"")
    for _ in range(5):
        with pytest.raises(Unavailable):
            verifier.verify(issuer.mint())
    assert issuer.requests[DISCOVERY] == 1
    clock.now += 6
    issuer.answers.clear()
    assert verifier.verify(issuer.mint()).subject == "ann"


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (DISCOVERY, (404, b"{}")),
        (DISCOVERY, (302, b"")),
        (DISCOVERY, (200, b"<html>")),
        (DISCOVERY, (200, b"[]")),
        (DISCOVERY, (200, b"[" * 100_000)),
        (DISCOVERY, (200, b" " * (MAX_ANSWER_BYTES + 1))),
        ("/jwks", (500, b"")),
        ("/jwks", (200, b"\xff")),
        ("/jwks", (200, b"null")),
        ("/jwks", (200, b'{"keys": []}')),
        ("/jwks", (200, b'{"keys": [1, {"kty": "oct", "kid": "k1", "use": "enc"}]}')),
        ("/jwks", (200, b'{"keys": {}}')),
    ],
)
def test_a_broken_issuer_is_an_outage(
    issuer: OidcIssuer, verifier: Verifier, path: str, answer: tuple[int, bytes]
) -> None:
    """Whatever the issuer answers instead of keys: 503, never 401 and never a crash."""
    issuer.answers[path] = answer
    with pytest.raises(Unavailable):
        verifier.verify(issuer.mint())


def test_a_broken_answer_does_not_replace_good_keys(
    issuer: OidcIssuer, verifier: Verifier, clock: Clock
) -> None:
    """An empty key set is taken for a fault of the issuer while older keys may be used."""
    verifier.verify(issuer.mint())
    issuer.answers["/jwks"] = (200, b'{"keys": []}')
    clock.now += 301
    assert verifier.verify(issuer.mint()).subject == "ann"


# ---- discovery -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["/", "/other"])
def test_discovery_must_name_the_issuer_exactly(issuer: OidcIssuer, verifier: Verifier, suffix: str) -> None:
    """A document of another issuer (or of a tenant next door) gives no keys."""
    issuer.announced_issuer = issuer.url + suffix
    with pytest.raises(Unavailable, match="another issuer"):
        verifier.verify(issuer.mint())
    assert issuer.requests["/jwks"] == 0


@pytest.mark.parametrize(
    "uri",
    [
        None,
        7,
        "http://keys.example/jwks",
        "file:///etc/passwd",
        "http://127.0.0.1.evil.example/",
        "https://u:p@h/",
    ],
)
def test_keys_come_over_https_only(issuer: OidcIssuer, verifier: Verifier, uri: Any) -> None:
    """Keys from an address that anybody on the way could answer for are not fetched."""
    issuer.answers[DISCOVERY] = (200, json.dumps({"issuer": issuer.url, "jwks_uri": uri}).encode())
    with pytest.raises(Unavailable, match="no https address"):
        verifier.verify(issuer.mint())


# ---- from the settings -----------------------------------------------------------------------------------


def test_the_verifier_of_a_deployment(issuer: OidcIssuer) -> None:
    """Settings are enough; with `jwks_uri` nothing is discovered."""
    settings = Settings(auth=AuthSettings(mode="oidc", issuer=issuer.url))
    assert build_verifier(settings).verify(issuer.mint()).issuer == issuer.url
    assert issuer.requests[DISCOVERY] == 1
    direct = AuthSettings(mode="oidc", issuer=issuer.url, jwks_uri=f"{issuer.url}/jwks", audience="other")
    assert build_verifier(Settings(auth=direct)).verify(issuer.mint(aud="other")).subject == "ann"
    assert issuer.requests[DISCOVERY] == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"issuer": None}, "bad-issuer"),
        ({"issuer": "http://issuer.example"}, "bad-issuer"),
        ({"issuer": "http://127.0.0.1.evil.example"}, "bad-issuer"),
        ({"issuer": "https://"}, "bad-issuer"),
        ({"issuer": "https://h:x/"}, "bad-issuer"),
        ({"jwks_uri": "http://issuer.example/jwks"}, "bad-jwks-uri"),
        ({"algorithms": ("HS256",)}, "bad-algorithms"),
    ],
)
def test_unsafe_settings_are_refused(changes: dict[str, Any], code: str) -> None:
    """A deployment does not start with an issuer that others could pose as."""
    auth = AuthSettings(**({"mode": "oidc", "issuer": "https://issuer.example"} | changes))
    with pytest.raises(ConfigurationFailed) as e:
        build_verifier(Settings(auth=auth))
    assert e.value.code == code


def test_the_issuer_refuses_strangers(issuer: OidcIssuer) -> None:
    """The test issuer itself checks who asks: a wrong secret gets no token."""
    credentials = base64.b64encode(b"loader:wrong").decode()
    answer = httpx.post(
        f"{issuer.url}/token",
        data={"grant_type": "client_credentials"},
        headers={"Authorization": f"Basic {credentials}"},
    )
    assert answer.status_code == 401
