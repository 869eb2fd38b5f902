"""Bearer tokens over real HTTP: RFC 6750 challenges, RFC 9728 metadata, scopes, the machine token."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI, Security
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airberg.api import auth, problems
from airberg.api.auth import INGEST_READ, INGEST_WRITE, machine, metadata_url, principal
from airberg.identity.development import DevelopmentIssuer
from airberg.identity.principal import Principal
from airberg.identity.service_keys import MemoryServiceKeys, ServiceKeyVerifier, digest_of, new_key
from airberg.identity.verifier import build_verifier
from airberg.jobs.audit import MemoryAuditLog
from airberg.settings import ApiSettings, AuthSettings, Settings
from support.oidc_issuer import OidcIssuer, SigningKey, good_claims
from support.served import served

MACHINE_TOKEN = "machine-token-4711"
PUBLIC_URL = "https://airberg.example/base/"


def store() -> MemoryServiceKeys:
    """A store of service keys, empty."""
    return MemoryServiceKeys(MemoryAuditLog())


def an_app(
    settings: Settings, machine_token: str = MACHINE_TOKEN, keys: MemoryServiceKeys | None = None
) -> FastAPI:
    """An application with the real parts and routes that show who calls."""
    app = FastAPI()
    app.state.settings = settings
    app.state.verifier = build_verifier(settings)
    app.state.service_key_verifier = ServiceKeyVerifier(keys or store(), admin_roles=frozenset())
    app.state.machine_token = machine_token
    problems.install(app, max_body_bytes=1000)
    auth.install(app)

    @app.get("/read")
    def read(caller: Annotated[Principal, Security(principal, scopes=[INGEST_READ])]) -> dict[str, str]:
        return {"key": caller.key, "owner": caller.owner_id}

    @app.post("/write")
    def write(caller: Annotated[Principal, Security(principal, scopes=[INGEST_WRITE])]) -> dict[str, str]:
        return {"key": caller.key}

    @app.get("/internal/flows", dependencies=[Depends(machine)])
    def flows() -> dict[str, str]:
        return {"flows": "all"}

    return app


@dataclass
class Api:
    """A served application and its issuer."""

    issuer: OidcIssuer
    client: httpx.Client
    keys: MemoryServiceKeys

    def service_key(self, *scopes: str) -> str:
        """A stored service key of ann's, for an hour."""
        key, text = new_key(
            name="loader",
            scopes=frozenset(scopes),
            groups=frozenset(),
            owner_id="ann@example.com",
            created_by=f"{self.issuer.url}|ann",
            life=timedelta(hours=1),
            now=datetime.now(UTC),
        )
        self.keys.add(key, digest_of(text))
        return text

    def get(self, path: str, token: str | None = None, **kwargs: object) -> httpx.Response:
        """GET with a token."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return self.client.get(path, headers=headers, **kwargs)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    """The application, with a real issuer."""
    with OidcIssuer() as issuer:
        settings = Settings(
            api=ApiSettings(public_url=PUBLIC_URL), auth=AuthSettings(mode="oidc", issuer=issuer.url)
        )
        keys = store()
        with served(an_app(settings, keys=keys)) as url, httpx.Client(base_url=url) as client:
            yield Api(issuer, client, keys)


METADATA = 'resource_metadata="https://airberg.example/.well-known/oauth-protected-resource/base"'


def parts_of(answer: httpx.Response) -> dict[str, str]:
    """The parameters of the challenge; it must be one well-formed Bearer challenge with the metadata."""
    value = answer.headers["WWW-Authenticate"]
    assert re.fullmatch(r'Bearer [a-z_]+="[^"\\]*"(, [a-z_]+="[^"\\]*")*', value), value
    assert value.endswith(METADATA)
    return dict(re.findall(r'([a-z_]+)="([^"]*)"', value))


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    """The answer is a problem of that kind, with the members of the ingest answer."""
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json()
    assert (body["type"], body["status"]) == (f"/problems/{code}", status)
    assert (body["flow_url"], body["job_id"]) == ("", None)
    assert body["error"]


def test_a_good_token_gets_in(api: Api) -> None:
    """The caller is the token's subject at its issuer."""
    answer = api.get("/read", api.issuer.mint(email="ann@example.com"))
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"key": f"{api.issuer.url}|ann", "owner": "ann@example.com"}


def test_no_credentials_get_a_bare_challenge(api: Api) -> None:
    """Who has sent nothing has done nothing wrong: no `error` (RFC 6750 section 3.1)."""
    for headers in (
        {},
        {"Authorization": "Basic YTpi"},
        {"Authorization": ""},
        {"Authorization": "Bearerx a"},
    ):
        answer = api.client.get("/read", headers=headers)
        assert_problem(answer, 401, "not-authenticated")
        assert parts_of(answer).keys() == {"realm", "resource_metadata"}


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer a b",
        "Bearer a,b",
        'Bearer "a"',
        "bearer a=b",
        "Bearer \xe4".encode("latin-1"),
    ],
)
def test_malformed_credentials(api: Api, header: str | bytes) -> None:
    """A header that is not `Bearer` and one token is the client's fault: 400."""
    answer = api.client.get("/read", headers={"Authorization": header})
    assert_problem(answer, 400, "malformed-credentials")
    assert parts_of(answer)["error"] == "invalid_request"


def test_two_headers_are_malformed(api: Api) -> None:
    """Two tokens: nobody could tell which one counts."""
    token = f"Bearer {api.issuer.mint()}"
    answer = api.client.get("/read", headers=[("Authorization", token), ("Authorization", token)])
    assert_problem(answer, 400, "malformed-credentials")


def test_bad_tokens(api: Api) -> None:
    """A token that does not hold is named as such; the scheme's case does not matter."""
    for token in ("x", api.issuer.mint(exp=-100), SigningKey("k1").sign(good_claims(api.issuer.url))):
        answer = api.client.get("/read", headers={"Authorization": f"bEARER {token}"})
        assert_problem(answer, 401, "not-authenticated")
        assert parts_of(answer)["error"] == "invalid_token"
        assert token not in answer.text or token == "x"


def test_a_missing_scope(api: Api) -> None:
    """403 with the scope that is needed; for administrators too: a scope limits the token, not the person."""
    for claims in ({}, {"roles": ["ingest-admin"]}):
        answer = api.client.post(
            "/write", headers={"Authorization": f"Bearer {api.issuer.mint(scope='ingest:read', **claims)}"}
        )
        assert_problem(answer, 403, "not-allowed")
        parts = parts_of(answer)
        assert (parts["error"], parts["scope"]) == ("insufficient_scope", "ingest:write")


def test_tokens_elsewhere_are_not_looked_at(api: Api) -> None:
    """A token in the query or the body ends in logs; it does not count."""
    token = api.issuer.mint()
    assert api.get("/read", params={"access_token": token}).status_code == 401
    assert api.client.post("/write", data={"access_token": token}).status_code == 401
    assert api.client.get("/read", headers={"Cookie": f"access_token={token}"}).status_code == 401


def test_an_outage_of_the_issuer_is_503() -> None:
    """Clients keep their tokens and come back."""
    with OidcIssuer() as issuer:
        settings = Settings(auth=AuthSettings(mode="oidc", issuer=issuer.url))
        token = issuer.mint()
        issuer.switch_off()
        with served(an_app(settings)) as url:
            answer = httpx.get(f"{url}/read", headers={"Authorization": f"Bearer {token}"})
    assert_problem(answer, 503, "issuer-unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert "WWW-Authenticate" not in answer.headers


# ---- service keys ----------------------------------------------------------------------------------------


def test_a_service_key_gets_in(api: Api) -> None:
    """In its own header, without a token, for its maker."""
    answer = api.client.get("/read", headers={"authorization-psk": api.service_key("ingest:read")})
    assert answer.json() == {"key": f"{api.issuer.url}|ann", "owner": "ann@example.com"}


def test_the_scopes_of_a_service_key(api: Api) -> None:
    """403 with the scope that is needed, as for a token."""
    headers = {"Authorization-PSK": api.service_key("ingest:read", "keys:admin")}
    answer = api.client.post("/write", headers=headers)
    assert_problem(answer, 403, "not-allowed")
    assert "service key" in answer.json()["error"]
    assert parts_of(answer)["scope"] == "ingest:write"


def test_service_keys_that_do_not_hold(api: Api) -> None:
    """401; the challenge says where tokens come from, and nothing of a bad token. The key is not repeated."""
    key = api.service_key("ingest:read")
    for value in (key[:-1], key + "x", key[:37] + "A" * 43, api.issuer.mint(), "Bearer x", "", "\xe4"):
        answer = api.client.get("/read", headers={"Authorization-PSK": value.encode("latin-1")})
        assert_problem(answer, 401, "not-authenticated")
        assert parts_of(answer).keys() == {"realm", "resource_metadata"}
        assert len(value) < 10 or value not in answer.text


def test_one_credential_at_a_time(api: Api) -> None:
    """Two keys, or a key beside a token, are malformed, good or not: nobody could tell which one counts."""
    key, token = api.service_key("ingest:read"), f"Bearer {api.issuer.mint()}"
    for others in ([("Authorization", token)], [("Authorization", "x")], [("Authorization-PSK", key)]):
        answer = api.client.get("/read", headers=[("Authorization-PSK", key), *others])
        assert_problem(answer, 400, "malformed-credentials")


def test_a_service_key_is_good_in_its_header_only(api: Api) -> None:
    """Neither as a token, nor in the query, nor for the machine's routes."""
    key = api.service_key("ingest:read")
    assert_problem(api.get("/read", key), 401, "not-authenticated")
    assert api.client.get("/read", params={"Authorization-PSK": key, "psk": key}).status_code == 401
    assert api.client.get("/internal/flows", headers={"Authorization-PSK": key}).status_code == 401


# ---- metadata --------------------------------------------------------------------------------------------


def test_the_metadata_says_where_tokens_come_from(api: Api) -> None:
    """RFC 9728: resource, issuer and scopes, without a token, at both places."""
    for path in ("", "/base"):
        answer = api.client.get(f"/.well-known/oauth-protected-resource{path}")
        assert answer.status_code == 200
        assert answer.json() == {
            "resource": "https://airberg.example/base",
            "authorization_servers": [api.issuer.url],
            "scopes_supported": ["ingest:read", "ingest:write", "keys:admin"],
            "bearer_methods_supported": ["header"],
            "resource_name": "Airberg",
        }


@pytest.mark.parametrize(
    ("public_url", "url"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/.well-known/oauth-protected-resource"),
        ("https://a.example/", "https://a.example/.well-known/oauth-protected-resource"),
        ("https://a.example/x/y", "https://a.example/.well-known/oauth-protected-resource/x/y"),
    ],
)
def test_the_place_of_the_metadata(public_url: str, url: str) -> None:
    """The well-known part goes between host and path (RFC 9728 section 3.1)."""
    assert metadata_url(public_url) == url


def test_the_openapi_document_names_the_scopes(api: Api) -> None:
    """Each protected route says which scope it needs; a token or a service key will do."""
    document = api.client.get("/openapi.json").json()
    wanted = [{"accessToken": ["ingest:write"]}, {"serviceKey": ["ingest:write"]}]
    assert document["paths"]["/write"]["post"]["security"] == wanted
    assert document["components"]["securitySchemes"]["accessToken"]["scheme"] == "bearer"
    key = document["components"]["securitySchemes"]["serviceKey"]
    assert (key["type"], key["in"], key["name"]) == ("apiKey", "header", "Authorization-PSK")


# ---- development issuer and machine ----------------------------------------------------------------------


def test_the_development_issuer(tmp_path_factory: pytest.TempPathFactory) -> None:
    """In development mode the same dependency takes the tokens of `airberg token`."""
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    token = DevelopmentIssuer(settings).mint("ann", ["ingest:read"])
    with served(an_app(settings)) as url:
        assert httpx.get(f"{url}/read", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        assert httpx.get(f"{url}/read").status_code == 401
        metadata = httpx.get(f"{url}/.well-known/oauth-protected-resource").json()
    assert "authorization_servers" not in metadata


def test_the_machine_token(api: Api) -> None:
    """Internal routes take the machine token and nothing else; other routes do not take it."""
    assert api.get("/internal/flows", MACHINE_TOKEN).json() == {"flows": "all"}
    for token in (api.issuer.mint(), MACHINE_TOKEN[:-1], MACHINE_TOKEN + "x", MACHINE_TOKEN.upper()):
        answer = api.get("/internal/flows", token)
        assert_problem(answer, 401, "not-authenticated")
        assert parts_of(answer)["error"] == "invalid_token"
    assert_problem(api.get("/internal/flows"), 401, "not-authenticated")
    assert_problem(api.get("/read", MACHINE_TOKEN), 401, "not-authenticated")


def test_without_a_machine_token_nobody_is_the_machine(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An empty token of the deployment lets nobody in, not even with an empty one."""
    app = an_app(Settings(home=tmp_path_factory.mktemp("home")), machine_token="")
    with served(app) as url:
        for header in ("Bearer", "Bearer x", "Bearer ="):
            answer = httpx.get(f"{url}/internal/flows", headers={"Authorization": header})
            assert answer.status_code in (400, 401)


# ---- garbage ---------------------------------------------------------------------------------------------

header_values = st.text(
    st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60
)


@given(
    value=header_values | header_values.map("Bearer {}".format) | header_values.map("Bearer a.b.{}".format)
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_is_never_anything_but_401_or_400(api: Api, value: str) -> None:
    """Whatever the header holds, the answer is a challenge."""
    answer = api.client.get("/read", headers={"Authorization": value.strip().encode("latin-1")})
    assert answer.status_code in (400, 401), (value, answer.text)
    parts_of(answer)
    assert answer.json()["status"] == answer.status_code
