"""Service keys over HTTP: made, listed and revoked by people with access tokens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from airberg.api.acting import acting
from airberg.api.json_route import JsonRoute
from airberg.api.problems import PROBLEM_RESPONSES
from airberg.api.rooms import Reads, Writes
from airberg.errors import InvalidRequest, NotAllowed, Problem
from airberg.identity.principal import Principal
from airberg.identity.service_keys import (
    ServiceKeys,
    State,
    digest_of,
    key_facts,
    new_key,
    no_key,
)
from airberg.quoted import quoted
from airberg.settings import Settings

router = APIRouter(tags=["service keys"], responses=PROBLEM_RESPONSES, route_class=JsonRoute)

Word = Annotated[str, Field(min_length=1, max_length=255)]


class NewServiceKey(BaseModel):
    """A key for a program that acts for the caller."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=100)] = Field(
        description="For people, who look through the list."
    )
    scopes: Annotated[list[Word], Field(min_length=1, max_length=20)] = Field(
        description="What it may be used for, of the scopes of the access token."
    )
    groups: Annotated[list[Word], Field(max_length=50)] = Field(
        [],
        description="Roles and groups that it brings along, of those of the access token: only those named "
        "here, `ingest-admin` too.",
    )
    days: Annotated[int, Field(ge=1, le=36_500)] | None = Field(
        None, description="For how long; default, and at most, what the deployment allows."
    )


class ServiceKeyView(BaseModel):
    """A service key. The key itself is shown once, when it is made."""

    id: UUID
    name: str
    state: State
    scopes: list[str]
    groups: list[str]
    owner_id: str = Field(description="Owner of the jobs that it makes.")
    created_by: str = Field(description="The identity that it acts for: `issuer|subject`.")
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = Field(description="To about a minute.")
    revoked_at: datetime | None


class MadeServiceKey(ServiceKeyView):
    """A service key that was made just now."""

    key: str = Field(description="To be sent as `Authorization-PSK: <key>`. It is not shown again.")


def _require_access_token(caller: Principal) -> None:
    """A key that leaked must not be able to make itself successors, or to lock out its maker's other ones."""
    if caller.service_key is not None:
        raise NotAllowed(
            "A service key cannot make or revoke service keys.",
            guidance="Send an access token.",
            code="access-token-needed",
        )


def _not_of(caller: Sequence[str], asked: Sequence[str], member: str, *, code: str) -> list[Problem]:
    return [
        Problem(
            f"/{member}/{n}",
            code,
            f"Your access token does not have {quoted(word)}.",
            "A service key has no more than the access token that it is made with.",
        )
        for n, word in enumerate(asked)
        if word not in caller
    ]


def _life(asked: int | None, settings: Settings) -> timedelta:
    most = settings.auth.service_key_days
    if most == 0:
        raise NotAllowed(
            "Service keys are turned off here.", guidance="Use access tokens.", code="service-keys-off"
        )
    if asked is not None and asked > most:
        raise InvalidRequest.one(
            "/days", "out-of-range", f"Service keys live for {most} days at most.", "Ask for fewer days."
        )
    return timedelta(days=asked or most)


# ---- routes ----------------------------------------------------------------------------------------------


@router.post("/api/service-keys", status_code=201, response_model=MadeServiceKey)
def create_service_key(
    request: Request, response: Response, new: NewServiceKey, caller: Writes
) -> MadeServiceKey:
    """Make a service key. The answer is the only place where it is shown."""
    _require_access_token(caller)
    life = _life(new.days, request.app.state.settings)
    problems = _not_of(sorted(caller.scopes), new.scopes, "scopes", code="scope-not-yours")
    problems += _not_of(sorted(caller.roles), new.groups, "groups", code="group-not-yours")
    if not new.name.strip() or not new.name.isprintable():
        problems.append(
            Problem("/name", "bad-name", "The name is blank, or not printable.", "Choose a plain name.")
        )
    if problems:
        raise InvalidRequest(problems)
    now = datetime.now(UTC)
    key, text = new_key(
        name=new.name,
        scopes=frozenset(new.scopes),
        groups=frozenset(new.groups),
        owner_id=caller.owner_id,
        created_by=caller.key,
        life=life,
        now=now,
    )
    facts = {"name": key.name, "scopes": sorted(key.scopes), "groups": sorted(key.groups)}
    act = acting(request, caller, "service-key.create", "service-key", key.id, **facts)
    keys: ServiceKeys = request.app.state.service_keys
    keys.add(key, digest_of(text), act=act)
    response.headers["Cache-Control"] = "no-store"
    return MadeServiceKey(**key_facts(key, now), key=text)


@router.get("/api/service-keys", response_model=list[ServiceKeyView])
def list_service_keys(
    request: Request, caller: Reads, limit: Annotated[int, Query(ge=1, le=500)] = 100
) -> list[ServiceKeyView]:
    """Service keys of the caller, newest first, those that are out of use too; an administrator sees all."""
    keys: ServiceKeys = request.app.state.service_keys
    found = keys.keys(created_by=None if caller.is_admin else caller.key, limit=limit)
    now = datetime.now(UTC)
    return [ServiceKeyView(**key_facts(key, now)) for key in found]


@router.delete("/api/service-keys/{key_id}", status_code=204)
def revoke_service_key(request: Request, key_id: UUID, caller: Writes) -> Response:
    """Revoke a service key, from its next request on; an administrator may revoke anybody's."""
    _require_access_token(caller)
    keys: ServiceKeys = request.app.state.service_keys
    found = keys.find(key_id)
    if found is None or not (caller.is_admin or found[0].created_by == caller.key):
        raise no_key(key_id)
    act = acting(request, caller, "service-key.revoke", "service-key", key_id, name=found[0].name)
    keys.revoke(key_id, datetime.now(UTC), act=act)
    return Response(status_code=204)
