"""Service keys: what programs send instead of an access token, in the header `Authorization-PSK`.

A key acts for the identity that made it, with no more than the scopes and groups that were chosen for it,
until it expires or is revoked. It is `abk_`, 32 hex digits that are its id, and 256 random bits: the id finds
the row, so that of the secret nothing has to be looked up. Only the SHA-256 digest of the whole is kept. That
needs no salt and no slow hash, which are for secrets that people choose: nobody guesses 256 bits (NIST SP
800-63B, section 5.1.2.2).
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import threading
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol
from uuid import UUID, uuid4

from airberg.errors import Conflict, NotAuthenticated, NotFound, Unavailable
from airberg.identity.principal import Principal

if TYPE_CHECKING:
    from airberg.jobs.audit import Act, MemoryAuditLog

log = logging.getLogger(__name__)

PATTERN = re.compile(r"abk_([0-9a-f]{32})_[A-Za-z0-9_-]{43}")
SECRET_BYTES = 32
MAX_LIVING = 100
"""Keys of one identity at once that are neither revoked nor expired."""
USED_EVERY = timedelta(minutes=1)
"""How exactly it is known when a key was used last; more would be a write with each request."""

State = Literal["active", "expired", "revoked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceKey:
    """What is known of a service key; never the key itself.

    Attributes:
        name: For people.
        scopes: What it may be used for.
        groups: Roles and groups that it brings along.
        owner_id: How its maker is named as an owner of jobs.
        created_by: The identity that it acts for, `issuer|subject`.
        last_used_at: When it was used last, to about a minute.
    """

    id: UUID
    name: str
    scopes: frozenset[str]
    groups: frozenset[str]
    owner_id: str
    created_by: str
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None

    def state(self, now: datetime) -> State:
        """Whether it can be used."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if now < self.expires_at else "expired"


class ServiceKeys(Protocol):
    """Keeps service keys. Methods that people cause take their `act`, and record it in their transaction."""

    def add(self, key: ServiceKey, digest: bytes, *, act: Act | None = None) -> None:
        """Store a new key.

        Raises:
            Conflict: Its identity has `MAX_LIVING` already.
        """
        ...

    def find(self, key_id: UUID) -> tuple[ServiceKey, bytes] | None:
        """A key and its digest, in whatever state."""
        ...

    def keys(self, *, created_by: str | None = None, limit: int | None = None) -> Sequence[ServiceKey]:
        """Keys of an identity, or all, newest first."""
        ...

    def revoke(self, key_id: UUID, at: datetime, *, act: Act | None = None) -> ServiceKey:
        """End a key for good; one that is revoked stays as it is.

        Raises:
            NotFound: There is no such key.
        """
        ...

    def used(self, key_id: UUID, at: datetime) -> None:
        """Note when a key was used, unless that was noted for less than `USED_EVERY` before."""
        ...


# ---- making and verifying --------------------------------------------------------------------------------


def new_key(
    *,
    name: str,
    scopes: AbstractSet[str],
    groups: AbstractSet[str],
    owner_id: str,
    created_by: str,
    life: timedelta,
    now: datetime,
) -> tuple[ServiceKey, str]:
    """A new key that is not stored yet, and its text, which nobody can tell again."""
    key = ServiceKey(
        id=uuid4(),
        name=name,
        scopes=frozenset(scopes),
        groups=frozenset(groups),
        owner_id=owner_id,
        created_by=created_by,
        created_at=now,
        expires_at=now + life,
    )
    return key, f"abk_{key.id.hex}_{secrets.token_urlsafe(SECRET_BYTES)}"


def digest_of(text: str) -> bytes:
    """What is kept of the text of a key."""
    return hashlib.sha256(text.encode()).digest()


def _now() -> datetime:
    return datetime.now(UTC)


class ServiceKeyVerifier:
    """Turns service keys into principals. The store is asked each time: a revocation takes effect at once.

    Args:
        keys: Where they are kept.
        admin_roles: Groups of a key that make an administrator.
        allowed: Whether the deployment takes service keys at all.
        clock: The time.
    """

    def __init__(
        self,
        keys: ServiceKeys,
        *,
        admin_roles: AbstractSet[str],
        allowed: bool = True,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._keys = keys
        self._admin_roles = admin_roles
        self._allowed = allowed
        self._clock = clock

    def verify(self, text: str) -> Principal:
        """The caller that a key stands for.

        Raises:
            NotAuthenticated: The key does not hold.
            Unavailable: The store does not answer.
        """
        if not self._allowed:
            raise _refused("Service keys are turned off here.", "Send an access token.")
        form = PATTERN.fullmatch(text)
        if form is None:
            raise _refused("The service key is not well formed.")
        found = self._keys.find(UUID(form[1]))
        if found is None or not hmac.compare_digest(found[1], digest_of(text)):
            raise _refused("There is no such service key.")
        key, now = found[0], self._clock()
        match key.state(now):
            case "revoked":
                raise _refused("The service key was revoked.")
            case "expired":
                raise _refused("The service key has expired.")
        self._note_use(key, now)
        return self._principal(key)

    def _note_use(self, key: ServiceKey, now: datetime) -> None:
        if key.last_used_at is not None and now - key.last_used_at < USED_EVERY:
            return
        try:
            self._keys.used(key.id, now)
        except Unavailable as e:  # a database that only reads for now is no reason to turn the caller away
            log.warning("the use of service key %s was not noted: %s", key.id, e.message)

    def _principal(self, key: ServiceKey) -> Principal:
        issuer, _, subject = key.created_by.partition("|")  # an issuer is a URL, which has no `|` (RFC 3986)
        return Principal(
            issuer=issuer,
            subject=subject,
            client_id=None,
            scopes=key.scopes,
            roles=key.groups,
            owner_id=key.owner_id,
            is_admin=not key.groups.isdisjoint(self._admin_roles),
            service_key=key.id,
        )


def _refused(
    message: str, guidance: str = "Get a new one from who made it, or send an access token."
) -> NotAuthenticated:
    return NotAuthenticated(message, guidance=guidance)


def key_facts(key: ServiceKey, now: datetime) -> dict[str, Any]:
    """What is shown of a key."""
    return {
        "id": key.id,
        "name": key.name,
        "state": key.state(now),
        "scopes": sorted(key.scopes),
        "groups": sorted(key.groups),
        "owner_id": key.owner_id,
        "created_by": key.created_by,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
        "revoked_at": key.revoked_at,
    }


# ---- what adapters share ---------------------------------------------------------------------------------


def too_many() -> Conflict:
    """The identity has as many keys as it may have."""
    return Conflict(
        f"There are {MAX_LIVING} service keys of yours already.",
        guidance="Revoke some that are not used any more.",
        code="too-many-service-keys",
    )


def no_key(key_id: UUID) -> NotFound:
    """There is no such key, or it is somebody else's."""
    return NotFound(
        f"There is no service key {key_id}.",
        guidance="See GET /api/service-keys.",
        code="unknown-service-key",
    )


class MemoryServiceKeys:
    """Implements `ServiceKeys` in memory."""

    def __init__(self, audit: MemoryAuditLog) -> None:
        self._audit = audit
        self._lock = threading.Lock()
        self._rows: dict[UUID, tuple[ServiceKey, bytes]] = {}

    def add(self, key: ServiceKey, digest: bytes, *, act: Act | None = None) -> None:
        """See `ServiceKeys.add`."""
        with self._lock:
            mine = [k for k, _ in self._rows.values() if k.created_by == key.created_by]
            if sum(k.state(key.created_at) == "active" for k in mine) >= MAX_LIVING:
                raise too_many()
            self._rows[key.id] = (key, digest)
            self._audit.add(act)

    def find(self, key_id: UUID) -> tuple[ServiceKey, bytes] | None:
        """See `ServiceKeys.find`."""
        with self._lock:
            return self._rows.get(key_id)

    def keys(self, *, created_by: str | None = None, limit: int | None = None) -> Sequence[ServiceKey]:
        """See `ServiceKeys.keys`."""
        with self._lock:
            found = [k for k, _ in self._rows.values() if created_by in (None, k.created_by)]
        return sorted(found, key=lambda k: (k.created_at, k.id.hex), reverse=True)[:limit]

    def revoke(self, key_id: UUID, at: datetime, *, act: Act | None = None) -> ServiceKey:
        """See `ServiceKeys.revoke`."""
        with self._lock:
            if key_id not in self._rows:
                raise no_key(key_id)
            key, digest = self._rows[key_id]
            if key.revoked_at is None:
                key = replace(key, revoked_at=at)
                self._rows[key_id] = (key, digest)
                self._audit.add(act)
            return key

    def used(self, key_id: UUID, at: datetime) -> None:
        """See `ServiceKeys.used`."""
        with self._lock:
            if key_id in self._rows:
                key, digest = self._rows[key_id]
                if key.last_used_at is None or at - key.last_used_at >= USED_EVERY:
                    self._rows[key_id] = (replace(key, last_used_at=at), digest)
