"""Encryption keys over HTTP: who may use them, their versions, their audit log. Never what is in them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body, Query, Request, Response, Security
from pydantic import BaseModel, ConfigDict, Field

from airberg.api.auth import KEYS_ADMIN, principal
from airberg.api.json_route import JsonRoute
from airberg.api.problems import PROBLEM_RESPONSES
from airberg.errors import ConfigurationFailed, InvalidRequest, NotFound, Unavailable
from airberg.identity.principal import Principal
from airberg.keys.names import KEY_NAME, check_key_name
from airberg.keys.port import Key, KeyState, KeyStore, VersionState
from airberg.keys.shown import audit_facts, key_facts, unconfirmed
from airberg.keys.states import changed, destroyed

_ADMIN = Security(principal, scopes=[KEYS_ADMIN])
router = APIRouter(tags=["keys"], responses=PROBLEM_RESPONSES, dependencies=[_ADMIN], route_class=JsonRoute)

Admin = Annotated[Principal, _ADMIN]
Who = Annotated[str, Field(min_length=1, max_length=255)]
Several = Annotated[list[Who], Field(max_length=1000)]
Version = Annotated[int, Field(ge=1, le=2**31 - 1)]

_RETRY_CONFIGURATION_S = 60


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NewKey(_Body):
    """A key to be made. Without owners and roles everybody may use it."""

    name: str = Field(
        description="1 to 64 of a-z, 0-9, dot, underscore, hyphen.",
        json_schema_extra={"pattern": f"^{KEY_NAME.pattern}$"},
    )
    owners: Several = Field(default=[], description="Users (owner ids) that may use it.")
    roles: Several = Field(default=[], description="Roles and groups that may use it.")


class Access(_Body):
    """Who may use a key, in place of who might before. Two empty lists mean everybody."""

    owners: Several
    roles: Several


class VersionChoice(_Body):
    """Which version; without one all of them."""

    version: Version | None = Field(None, description="Number of a version.")


class Destruction(VersionChoice):
    """What to erase, and that it is meant."""

    confirm: str | None = Field(None, description="The name of the key.")


_ALL_VERSIONS = VersionChoice()
_UNCONFIRMED = Destruction()


class KeyVersionView(BaseModel):
    """A version of a key."""

    version: int
    key_id: str = Field(description="Eight hex digits: bytes 2 to 5 of each value that it encrypted.")
    state: VersionState
    kek: str = Field(description="URI of the key-encryption key that wraps it.")
    created_at: datetime


class KeyView(BaseModel):
    """A key. What is in it is not shown anywhere in this API."""

    name: str
    state: KeyState
    primary: int | None = Field(description="The version that encrypts.")
    restricted: bool = Field(description="Whether only owners and roles may use it.")
    owners: list[str]
    roles: list[str]
    versions: list[KeyVersionView] = Field(description="Oldest first.")


class AuditView(BaseModel):
    """What somebody did to a key, or with it."""

    at: datetime
    actor: str
    action: str
    key: str
    versions: list[int]
    detail: str


class OpenedOnce:
    """The key store, opened by the first request that needs it.

    So a deployment without a master key still answers everything else, and this too once it has one.
    """

    def __init__(self, open_store: Callable[[], KeyStore]) -> None:
        self._open = open_store
        self._lock = threading.Lock()
        self._store: KeyStore | None = None

    def __call__(self) -> KeyStore:
        """The store. What stops it from being opened is raised, and tried again the next time."""
        with self._lock:
            if self._store is None:
                self._store = self._open()
            return self._store


@contextlib.contextmanager
def _store(request: Request) -> Iterator[KeyStore]:
    """The key store; what is wrong with the deployment's own configuration is no fault of the request."""
    opened: OpenedOnce = request.app.state.keys
    try:
        yield opened()
    except ConfigurationFailed as e:
        raise Unavailable(
            e.message, guidance=e.guidance, code=e.code, retry_after=_RETRY_CONFIGURATION_S
        ) from None


def _checked(name: str) -> str:
    """A name from an address; one that no key can have is not repeated, and not looked for."""
    try:
        check_key_name(name)
    except InvalidRequest:
        raise NotFound(
            "There is no encryption key of that name.", guidance="See GET /api/keys.", code="unknown-key"
        ) from None
    return name


def _view(key: Key) -> KeyView:
    return KeyView(**key_facts(key))


# ---- routes ----------------------------------------------------------------------------------------------


@router.get("/api/keys", response_model=list[KeyView])
def list_keys(request: Request) -> list[KeyView]:
    """All keys, sorted by name, whatever their state."""
    with _store(request) as store:
        found = store.keys()
    return [_view(key) for key in found]


@router.post("/api/keys", status_code=201, response_model=KeyView)
def create_key(request: Request, response: Response, new: NewKey, caller: Admin) -> KeyView:
    """Make a key with its first version."""
    with _store(request) as store:
        store.create(new.name, actor=caller.actor, owners=frozenset(new.owners), roles=frozenset(new.roles))
        response.headers["Location"] = f"/api/keys/{new.name}"
        return _view(store.describe(new.name))


@router.get("/api/keys/{name}", response_model=KeyView)
def get_key(request: Request, name: str) -> KeyView:
    """A key and its versions."""
    with _store(request) as store:
        return _view(store.describe(_checked(name)))


@router.put("/api/keys/{name}/access", response_model=KeyView)
def set_access(request: Request, name: str, access: Access, caller: Admin) -> KeyView:
    """Say who may use a key. Jobs that use it already go on."""
    with _store(request) as store:
        return _view(
            store.allow(
                _checked(name),
                actor=caller.actor,
                owners=frozenset(access.owners),
                roles=frozenset(access.roles),
            )
        )


@router.post("/api/keys/{name}/rotate", response_model=KeyView)
def rotate_key(request: Request, name: str, caller: Admin) -> KeyView:
    """Add a version that encrypts from now on. Older ones still decrypt."""
    with _store(request) as store:
        store.rotate(_checked(name), actor=caller.actor)
        return _view(store.describe(name))


@router.post("/api/keys/{name}/disable", response_model=KeyView)
def disable_key(
    request: Request, name: str, caller: Admin, choice: Annotated[VersionChoice, Body()] = _ALL_VERSIONS
) -> KeyView:
    """Put a key, or one version, out of use: runs that need it fail, nothing decrypts."""
    with _store(request) as store:
        return _view(store.disable(_checked(name), actor=caller.actor, version=choice.version))


@router.post("/api/keys/{name}/enable", response_model=KeyView)
def enable_key(
    request: Request, name: str, caller: Admin, choice: Annotated[VersionChoice, Body()] = _ALL_VERSIONS
) -> KeyView:
    """Undo `disable`."""
    with _store(request) as store:
        return _view(store.enable(_checked(name), actor=caller.actor, version=choice.version))


@router.post("/api/keys/{name}/destroy", response_model=KeyView)
def destroy_key(
    request: Request, name: str, caller: Admin, asked: Annotated[Destruction, Body()] = _UNCONFIRMED
) -> KeyView:
    """Erase a key, or one version, for good. Without `confirm` nothing happens; 409 says what would."""
    with _store(request) as store:
        key = store.describe(_checked(name))
        doomed = changed(key.versions, destroyed(key, asked.version))
        if doomed and asked.confirm != name:
            which = f'"version": {asked.version}, ' if asked.version is not None else ""
            how = f'Send {{{which}"confirm": "{name}"}} if that is meant.'
            raise unconfirmed(key, [v.version for v in doomed], how)
        return _view(store.destroy(name, actor=caller.actor, version=asked.version))


@router.get("/api/keys/{name}/audit", response_model=list[AuditView])
def list_audit(
    request: Request, name: str, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[AuditView]:
    """What was done to a key and with it, newest first."""
    with _store(request) as store:
        key = store.describe(_checked(name))
        return [AuditView(**audit_facts(entry)) for entry in store.audit(key.name, limit)]
