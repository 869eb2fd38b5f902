"""Who may call: bearer tokens (RFC 6750), the metadata that tells where to get one (RFC 9728), service keys.

Routes say `caller: Annotated[Principal, Security(principal, scopes=["ingest:read"])]`. The dependencies are
plain functions: FastAPI runs them in its thread pool, so fetching an issuer's keys never blocks the loop.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from pydantic import BaseModel, Field

from airberg.api.admission import admitted, checked
from airberg.api.rates import Rates
from airberg.errors import MalformedCredentials, NotAllowed, NotAuthenticated, RequestError
from airberg.identity.principal import Principal
from airberg.identity.service_keys import ServiceKeyVerifier
from airberg.identity.verifier import Verifier
from airberg.settings import Settings

INGEST_READ: Final = "ingest:read"
INGEST_WRITE: Final = "ingest:write"
KEYS_ADMIN: Final = "keys:admin"
SCOPES: Final = {
    INGEST_READ: "See jobs and runs.",
    INGEST_WRITE: "Create, change, start and delete jobs.",
    KEYS_ADMIN: "Make, rotate, restrict and destroy encryption keys; see their audit log.",
}

REALM = "airberg"
WELL_KNOWN = "/.well-known/oauth-protected-resource"
B64TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
"""A token as RFC 6750 section 2.1 has it."""


class ResourceMetadata(BaseModel):
    """This API as a protected resource (RFC 9728 section 2)."""

    resource: str = Field(json_schema_extra={"format": "uri"})
    authorization_servers: list[str] | None = Field(
        None, description="Issuers of access tokens; absent for the development's, which has no address."
    )
    scopes_supported: list[str]
    bearer_methods_supported: list[Literal["header"]]
    resource_name: str


BEARER = HTTPBearer(
    scheme_name="accessToken",
    bearerFormat="JWT",
    description="An access token of the configured issuer. `airberg token` prints one of the development's.",
    auto_error=False,
)
"""For the OpenAPI document; the header is read by `bearer_token`, which is stricter."""

SERVICE_KEY_HEADER = "Authorization-PSK"
SERVICE_KEY = APIKeyHeader(
    name=SERVICE_KEY_HEADER,
    scheme_name="serviceKey",
    description="A service key, in place of an access token; `POST /api/service-keys` makes one.",
    auto_error=False,
)
"""For the OpenAPI document; the header is read by `service_key`."""


def bearer_token(request: Request) -> str:
    """The token of the Authorization header. Nowhere else is one looked for: URLs end in logs.

    Raises:
        NotAuthenticated: There are no credentials, or they are of another scheme.
        MalformedCredentials: The header is there twice, or has no well-formed token.
    """
    values = request.headers.getlist("authorization")
    if len(values) > 1:
        raise MalformedCredentials("There is more than one Authorization header.", guidance="Send one.")
    scheme, _, rest = (values[0] if values else "").strip().partition(" ")
    if scheme.lower() != "bearer":
        raise NotAuthenticated(
            "An access token, or a service key, is needed.",
            guidance="Send Authorization: Bearer <token>, or Authorization-PSK: <key>.",
        )
    token = rest.strip(" ")
    if not B64TOKEN.fullmatch(token):
        raise MalformedCredentials(
            "The Authorization header is not `Bearer` and one token.",
            guidance="Send Authorization: Bearer <token>, with nothing else.",
        )
    return token


def service_key(request: Request) -> str | None:
    """The service key of its header, if there is one.

    Raises:
        MalformedCredentials: The header is there twice, or beside an access token.
    """
    values = request.headers.getlist(SERVICE_KEY_HEADER)
    if not values:
        return None
    if len(values) > 1:
        raise MalformedCredentials(
            f"There is more than one {SERVICE_KEY_HEADER} header.", guidance="Send one."
        )
    if "authorization" in request.headers:
        raise MalformedCredentials(
            "There is a service key, and an Authorization header beside it.", guidance="Send one of the two."
        )
    return values[0].strip()


def _verified(request: Request) -> Principal:
    key = service_key(request)
    if key is None:
        verifier: Verifier = request.app.state.verifier
        return verifier.verify(bearer_token(request))
    keys: ServiceKeyVerifier = request.app.state.service_key_verifier
    return keys.verify(key)


def principal(
    security: SecurityScopes,
    request: Request,
    _token: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)] = None,
    _key: Annotated[str | None, Depends(SERVICE_KEY)] = None,
) -> Principal:
    """The verified caller; token or key must have all scopes that the route asks for, administrators' too.

    Raises:
        NotAuthenticated: There is neither, or it does not hold.
        MalformedCredentials: A header is not well formed.
        NotAllowed: A scope is missing.
        TooManyRequests: See `airberg.api.admission`.
        Unavailable: The issuer's keys, or the store of service keys, are needed and do not answer.
    """
    caller = admitted(request, lambda: _verified(request))
    missing = [s for s in security.scopes if s not in caller.scopes]
    if missing:
        sent = "access token" if caller.service_key is None else "service key"
        raise NotAllowed(
            f"The {sent} lacks the scope {' '.join(missing)}.",
            scope=" ".join(security.scopes),
            guidance="Get one with that scope.",
        )
    return caller


def token_digest(token: str) -> bytes:
    """What is compared of a machine token: a digest, so that not even its length can be timed."""
    return hashlib.sha256(token.encode()).digest()


def machine(request: Request) -> None:
    """Let in who has the machine token of this deployment (Airflow's DAG bundle); for `/internal/...`.

    Raises:
        NotAuthenticated: There is no token, or it is another one.
        MalformedCredentials: The header is not well formed.
    """
    checked(request, lambda: _check_machine_token(request))


def _check_machine_token(request: Request) -> None:
    expected: str = request.app.state.machine_token
    given = bearer_token(request)
    if not hmac.compare_digest(token_digest(given), token_digest(expected)):
        raise NotAuthenticated(
            "The machine token is not the one of this deployment.",
            challenge="invalid_token",
            guidance="Give the DAG bundle the token of this deployment.",
        )


# ---- challenges ------------------------------------------------------------------------------------------


def challenge(error: RequestError, metadata_url: str) -> str | None:
    """The value of WWW-Authenticate for an error (RFC 6750 section 3), or None if it is not about tokens."""
    code, scope = None, None
    match error:
        case NotAuthenticated():
            code = error.challenge  # None when there were no credentials: then nothing is wrong with them
        case MalformedCredentials():
            code = "invalid_request"
        case NotAllowed() if error.scope is not None:
            code, scope = "insufficient_scope", error.scope
        case _:
            return None
    parts = {"realm": REALM}
    if code is not None:
        parts |= {"error": code, "error_description": error.message}
    if scope is not None:
        parts["scope"] = scope
    parts["resource_metadata"] = metadata_url
    return "Bearer " + ", ".join(f'{k}="{_quotable(v)}"' for k, v in parts.items())


def _quotable(text: str) -> str:
    """Only what RFC 6750 section 3 allows in a value: printable ASCII without `"` and a backslash."""
    return "".join(c for c in text if " " <= c <= "~" and c not in '"\\')


def metadata_url(public_url: str) -> str:
    """Where the metadata of a resource is: the well-known part goes between host and path (RFC 9728)."""
    parts = urlsplit(public_url)
    return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{parts.path.rstrip('/')}"


def install(app: FastAPI) -> None:
    """Add the metadata route.

    `app.state` must have `settings`, `verifier`, `service_key_verifier` and `machine_token`.
    """
    settings: Settings = app.state.settings
    verifier: Verifier = app.state.verifier
    app.state.rates = Rates(settings.limits)
    app.state.resource_metadata_url = metadata_url(settings.public_url)
    document: dict[str, Any] = {
        "resource": settings.public_url,
        "scopes_supported": list(SCOPES),
        "bearer_methods_supported": ["header"],
        "resource_name": "Airberg",
    }
    issuer = verifier.policy.issuer
    if issuer.startswith(("https://", "http://")):  # the development issuer has no address
        document["authorization_servers"] = [issuer]

    def resource_metadata() -> JSONResponse:
        """Where to get an access token for this API (RFC 9728)."""
        return JSONResponse(document, headers={"Cache-Control": "public, max-age=300"})

    path = urlsplit(settings.public_url).path.rstrip("/")
    for place in {WELL_KNOWN, WELL_KNOWN + path}:
        app.add_api_route(
            place,
            resource_metadata,
            methods=["GET"],
            response_model=ResourceMetadata,
            tags=["authorization"],
            include_in_schema=place == WELL_KNOWN,
        )
