"""Tokens of a certified OpenID provider, sent to the real service over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from airberg.api.app import AppParts, create_app
from airberg.flows.memory import MemoryOrchestrator
from airberg.governance.memory import MemoryDirectory
from airberg.identity.jwks import IssuerKeys
from airberg.identity.verifier import TokenPolicy, Verifier
from airberg.jobs.memory import MemoryJobStore
from airberg.settings import AuthSettings, Settings
from support.api_service import BODY, TablePlanner
from support.oidc_provider import OidcProvider
from support.served import served


class Clock:
    """The clock that keys age by, which a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


class Api:
    """The service, and who calls it."""

    def __init__(self, url: str, clock: Clock) -> None:
        self.url = url
        self.clock = clock

    def get(self, token: str, path: str = "/api/jobs") -> httpx.Response:
        """GET with a token."""
        return httpx.get(f"{self.url}{path}", headers={"Authorization": f"Bearer {token}"})

    def post(self, token: str, **changes: Any) -> httpx.Response:
        """Make a job."""
        return httpx.post(
            f"{self.url}/api/airbyte/ingest",
            json=BODY | changes,
            headers={"Authorization": f"Bearer {token}"},
        )


@contextmanager
def running_api(provider: OidcProvider, home: Path) -> Iterator[Api]:
    """The application with that issuer; it has asked for no keys yet."""
    settings = Settings(home=home, auth=AuthSettings(mode="oidc", issuer=provider.issuer))
    clock = Clock()
    policy = TokenPolicy(issuer=provider.issuer, audience=settings.auth.audience)
    parts = AppParts(
        settings=settings,
        store=MemoryJobStore(),
        planner=TablePlanner(),
        orchestrator=MemoryOrchestrator(),
        directory=MemoryDirectory({}),
        verifier=Verifier(policy, IssuerKeys(provider.issuer, clock=clock)),
        machine_token="machine-token-of-the-test",
    )
    with served(create_app(parts)) as url:
        yield Api(url, clock)


@pytest.fixture
def api(oidc_provider: OidcProvider, tmp_path: Path) -> Iterator[Api]:
    """The service."""
    with running_api(oidc_provider, tmp_path) as running:
        yield running


def refusal(answer: httpx.Response) -> str:
    """What a refused token is told; it must be refused as invalid."""
    assert answer.status_code == 401, answer.text
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    error: str = answer.json()["error"]
    return error


# ---- programs and people ---------------------------------------------------------------------------------


def test_a_program(oidc_provider: OidcProvider, api: Api) -> None:
    """Client credentials: the client is the identity and the owner, with the scopes it was granted."""
    token = oidc_provider.program_token("loader")
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"
    made = api.post(token)
    assert made.status_code == 201, made.text
    assert api.get(token, made.headers["location"]).json()["owner_id"] == "loader"
    reader = oidc_provider.program_token("reader", "ingest:read")
    assert api.get(reader).json() == []
    refused = api.post(reader)
    assert refused.status_code == 403
    assert 'scope="ingest:write"' in refused.headers["WWW-Authenticate"]
    assert api.get(oidc_provider.program_token("signs-es256", "ingest:read")).status_code == 200


def test_people(oidc_provider: OidcProvider, api: Api) -> None:
    """Authorization code with PKCE: addresses name owners, subjects decide, groups share."""
    alice, bob, mallory, root = (
        oidc_provider.login(user)["access_token"] for user in ("alice", "bob", "mallory", "root")
    )
    mine = api.post(alice).headers["location"]
    shared = api.post(alice, name="for sales", share_with=["sales"]).headers["location"]
    assert api.get(alice, mine).json()["owner_id"] == "alice@example.com"
    assert api.get(bob, mine).status_code == 404
    assert api.get(bob, shared).status_code == 200
    assert api.get(root, mine).status_code == 200
    # The address that mallory claims is alice's, and nobody has verified it: it is not even her name.
    assert api.get(mallory).json() == []
    hers = api.post(mallory).headers["location"]
    assert api.get(mallory, hers).json()["owner_id"] == "mallory"
    assert api.post(mallory, name="other", share_with=["sales"]).status_code == 422


def test_a_person_who_granted_less(oidc_provider: OidcProvider, api: Api) -> None:
    """The token has the scopes that were asked for."""
    token = oidc_provider.login("root", "openid email ingest:read")["access_token"]
    assert api.get(token).status_code == 200
    assert api.post(token).status_code == 403


def test_a_service_key_of_a_person(oidc_provider: OidcProvider, api: Api) -> None:
    """Made with a token of the provider, it outlives the provider."""
    token = oidc_provider.login("alice")["access_token"]
    job = api.post(token).json()["job_id"]
    body = {"name": "loader", "scopes": ["ingest:read"], "days": 1}
    made = httpx.post(
        f"{api.url}/api/service-keys", json=body, headers={"Authorization": f"Bearer {token}"}
    ).json()
    assert made["created_by"] == f"{oidc_provider.issuer}|alice"
    oidc_provider.stop()
    listed = httpx.get(f"{api.url}/api/jobs", headers={"Authorization-PSK": made["key"]})
    assert [j["id"] for j in listed.json()] == [job]


# ---- tokens that are not for us --------------------------------------------------------------------------


def test_a_token_of_another_issuer(oidc_provider: OidcProvider, api: Api) -> None:
    """Signed with the very same keys; only `iss` differs."""
    token = oidc_provider.program_token("loader", issuer=oidc_provider.other_issuer)
    ours = jwt.get_unverified_header(oidc_provider.program_token("loader"))
    assert jwt.get_unverified_header(token) == ours
    assert refusal(api.get(token)) == "The access token is from another issuer."


def test_a_token_for_another_audience(oidc_provider: OidcProvider, api: Api) -> None:
    """One that the issuer gave for somebody else's API."""
    token = oidc_provider.program_token("loader", resource=oidc_provider.audiences["others"])
    assert refusal(api.get(token)) == "The access token is for another audience."


def test_an_opaque_token(oidc_provider: OidcProvider, api: Api) -> None:
    """It may be good, and nobody can tell."""
    token = oidc_provider.program_token("loader", resource=oidc_provider.audiences["opaque"])
    assert refusal(api.get(token)) == "The access token is not a signed JWT."


@pytest.mark.parametrize("client", ["signs-rs384", "signs-hs256"])
def test_an_algorithm_that_is_not_allowed(oidc_provider: OidcProvider, api: Api, client: str) -> None:
    """Good keys of the issuer, an algorithm that the deployment does not accept; a shared secret never."""
    token = oidc_provider.program_token(client, "ingest:read")
    assert "algorithm" in refusal(api.get(token))


def test_an_id_token(oidc_provider: OidcProvider, api: Api) -> None:
    """It has our audience, as the client's id is the same; its nonce tells what it is."""
    tokens = oidc_provider.login("alice")
    claims = jwt.decode(tokens["id_token"], options={"verify_signature": False})
    assert claims["aud"] == "airberg"
    assert claims["nonce"]
    assert refusal(api.get(tokens["id_token"])) == "This is an ID token, not an access token."
    assert api.get(tokens["access_token"]).status_code == 200


# ---- clocks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        (-570, None),
        (-620, None),
        (-640, "The access token has expired."),
        (25, None),
        (90, "The access token is not valid yet."),
    ],
)
def test_clocks_that_differ(
    oidc_provider: OidcProvider, api: Api, seconds: float, message: str | None
) -> None:
    """Tokens live for 600 seconds; half a minute more or less is forgiven, at both ends."""
    with oidc_provider.clock_moved(seconds):
        token = oidc_provider.program_token("loader")
    answer = api.get(token)
    if message is None:
        assert answer.status_code == 200, answer.text
    else:
        assert refusal(answer) == message


# ---- keys that change, and a provider that is away -------------------------------------------------------


def test_new_keys(oidc_provider: OidcProvider, api: Api) -> None:
    """They are picked up without a restart of the service; what the old ones signed is then refused."""
    old = oidc_provider.program_token("loader")
    assert api.get(old).status_code == 200
    oidc_provider.restart("rotated")
    new = oidc_provider.program_token("loader")
    assert jwt.get_unverified_header(new)["kid"] == "rotated-RS256"
    api.clock.now += 31
    assert api.get(new).status_code == 200
    assert "does not have" in refusal(api.get(old))


def test_the_provider_is_down(oidc_provider: OidcProvider, api: Api) -> None:
    """Known keys stay good for an hour; then, and for keys not known, it is 503 and never 401."""
    good = oidc_provider.program_token("loader")
    assert api.get(good).status_code == 200
    oidc_provider.restart("unseen")
    unseen = oidc_provider.program_token("loader")
    oidc_provider.stop()
    api.clock.now += 400
    assert api.get(good).status_code == 200
    away = api.get(unseen)
    assert (away.status_code, away.json()["type"]) == (503, "/problems/issuer-unavailable")
    assert int(away.headers["Retry-After"]) > 0
    assert "WWW-Authenticate" not in away.headers
    api.clock.now += 3300
    assert api.get(good).status_code == 503
    oidc_provider.start("back")
    api.clock.now += 6
    assert api.get(oidc_provider.program_token("loader")).status_code == 200
    assert "does not have" in refusal(api.get(good))


def test_a_service_that_starts_while_the_provider_is_down(
    oidc_provider: OidcProvider, tmp_path: Path
) -> None:
    """It starts, answers 503, and works as soon as the provider does."""
    token = oidc_provider.program_token("loader")
    oidc_provider.stop()
    with running_api(oidc_provider, tmp_path) as cold:
        assert cold.get(token).status_code == 503
        assert httpx.get(f"{cold.url}/api/health/live").status_code == 200
        oidc_provider.start("k0")
        cold.clock.now += 6
        assert cold.get(oidc_provider.program_token("loader")).status_code == 200
