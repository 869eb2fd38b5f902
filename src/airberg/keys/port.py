"""The port to data keys. `airberg.keys.sql` and `airberg.keys.memory` pass the same behaviour suite."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from airberg.keys.kek import Kek

VersionState: TypeAlias = Literal["primary", "active", "disabled", "destroyed"]
"""`primary` encrypts and decrypts, `active` decrypts, `disabled` does neither until it is enabled again,
`destroyed` never again: its bytes are erased."""

KeyState: TypeAlias = Literal["enabled", "disabled", "destroyed"]
"""Of a key as a whole: `enabled` when one of its versions is the primary one, `destroyed` when all are."""

SYSTEM = "system"
"""Who acts when nobody asked for it, such as for the default key of a new deployment."""


@dataclass(frozen=True, slots=True)
class DataKey:
    """One version of a named key, unwrapped. `raw` (32 bytes) is never shown.

    Attributes:
        key_id: Random 32-bit number in the head of every ciphertext; unique in the store, never 0.
    """

    name: str
    version: int
    key_id: int
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """What may be told of one version of a key.

    Attributes:
        kek: URI of the key-encryption key that wraps it.
    """

    version: int
    key_id: int
    state: VersionState
    kek: str
    created_at: datetime

    @property
    def decrypts(self) -> bool:
        """Whether values may be decrypted with it."""
        return self.state in ("primary", "active")


@dataclass(frozen=True, slots=True)
class Key:
    """What may be told of a key.

    Attributes:
        owners: Users (owner ids, e-mail addresses) that may use it.
        roles: Roles and groups that may use it.
        versions: Oldest first; never empty.
    """

    name: str
    owners: frozenset[str]
    roles: frozenset[str]
    versions: tuple[KeyVersion, ...]

    @property
    def restricted(self) -> bool:
        """Whether only those that are listed may use it."""
        return bool(self.owners or self.roles)

    @property
    def primary(self) -> KeyVersion | None:
        """The version that encrypts; None when there is none."""
        return next((v for v in self.versions if v.state == "primary"), None)

    @property
    def state(self) -> KeyState:
        """What the key as a whole is good for."""
        if self.primary is not None:
            return "enabled"
        return "destroyed" if all(v.state == "destroyed" for v in self.versions) else "disabled"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the record of what was done to a key, or with it.

    Attributes:
        actor: Who did it.
        action: `create`, `rotate`, `allow`, `disable`, `enable`, `destroy`, `rewrap`, or what a caller of
            `KeyStore.record` did, such as `export` and `decrypt`.
        versions: The versions that it was about.
        detail: More about it, for people; never a secret.
    """

    at: datetime
    actor: str
    action: str
    key: str
    versions: tuple[int, ...]
    detail: str


class KeyStore(Protocol):
    """Keeps named data keys, each version wrapped by a key-encryption key.

    Each change of a key is atomic, waits for the one before it, and leaves an entry in the audit log that is
    there if and only if the change is.

    The newest version that is not destroyed is the primary one, unless it is disabled. Verbs that name no
    key of the store raise NotFound (`unknown-key`), those that name none of its versions NotFound
    (`unknown-key-version`).
    """

    def create(
        self,
        name: str,
        *,
        actor: str = SYSTEM,
        owners: AbstractSet[str] = frozenset(),
        roles: AbstractSet[str] = frozenset(),
        exist_ok: bool = False,
    ) -> DataKey:
        """Make a key with its first version.

        With `exist_ok` a key that is there already is left as it is, and answered like `primary`.

        Raises:
            InvalidRequest: The name is not one that a key can have.
            Conflict: It exists (`key-exists`), and not `exist_ok`. Destroyed keys exist: a name is never
                given to other bytes.
        """
        ...

    def exists(self, name: str) -> bool:
        """Whether there is a key of that name with a primary version."""
        ...

    def names(self) -> Sequence[str]:
        """All names, sorted, whatever the state of the keys."""
        ...

    def keys(self) -> Sequence[Key]:
        """All keys, sorted by name."""
        ...

    def describe(self, name: str) -> Key:
        """A key and its versions. Nothing is unwrapped."""
        ...

    def primary(self, name: str) -> DataKey:
        """The version that encrypts.

        Raises:
            ConfigurationFailed: It has none (`key-disabled`, `key-destroyed`), or that cannot be unwrapped.
        """
        ...

    def versions(self, name: str) -> Sequence[DataKey]:
        """All versions that may decrypt, oldest first. Raises as `primary`, when there is none of them."""
        ...

    def rotate(self, name: str, *, actor: str) -> DataKey:
        """Add a version and make it the primary one; the one before it becomes active.

        Raises:
            Conflict: None of its versions is in use (`key-disabled`, `key-destroyed`).
        """
        ...

    def allow(self, name: str, *, actor: str, owners: AbstractSet[str], roles: AbstractSet[str]) -> Key:
        """Replace who may use the key; two empty sets mean everybody."""
        ...

    def disable(self, name: str, *, actor: str, version: int | None = None) -> Key:
        """Put a version out of use for the time being; None: all that are not destroyed.

        Raises:
            Conflict: The version, or the whole key, is destroyed (`key-destroyed`).
        """
        ...

    def enable(self, name: str, *, actor: str, version: int | None = None) -> Key:
        """Undo `disable`. Raises as it does."""
        ...

    def destroy(self, name: str, *, actor: str, version: int | None = None) -> Key:
        """Erase the wrapped bytes of a version for good; None: of all.

        Raises:
            Conflict: It is the newest of several versions that are not destroyed (`key-version-newest`).
        """
        ...

    def rewrap(self, kek: Kek, *, actor: str) -> int:
        """Wrap every version that is not destroyed with another key-encryption key, each by itself.

        What it did before it was interrupted stays, and both kinds can be unwrapped; do it again to complete
        it.

        Returns:
            How many versions were wrapped.
        """
        ...

    def record(
        self, actor: str, action: str, name: str, versions: Sequence[int] = (), detail: str = ""
    ) -> None:
        """Add an entry to the audit log: somebody read what a key protects, or took the key along."""
        ...

    def audit(self, name: str | None = None, limit: int = 100) -> Sequence[AuditEntry]:
        """The latest entries of the audit log, newest first, of one key or of all."""
        ...
