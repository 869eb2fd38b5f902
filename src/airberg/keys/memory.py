"""Data keys in memory: for tests, and for a dry run without a store."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Lock

from airberg.keys import states
from airberg.keys.kek import Kek
from airberg.keys.names import (
    check_key_name,
    key_exists,
    new_key_id,
    new_raw_key,
    unknown_key,
    unusable_key,
    users_text,
)
from airberg.keys.port import SYSTEM, AuditEntry, DataKey, Key, KeyVersion

MEMORY_KEK = "memory://"


@dataclass(slots=True)
class _Kept:
    """A key, and the bytes of its versions that are not destroyed."""

    key: Key
    raw: dict[int, bytes]


class MemoryKeyStore:
    """A `KeyStore` that forgets everything with the process. Nothing is wrapped."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._audit: list[AuditEntry] = []
        self._lock = Lock()

    # ---- reading -----------------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """See `KeyStore.exists`."""
        kept = self._kept.get(name)
        return kept is not None and kept.key.primary is not None

    def names(self) -> Sequence[str]:
        """See `KeyStore.names`."""
        return sorted(self._kept)

    def keys(self) -> Sequence[Key]:
        """See `KeyStore.keys`."""
        return [self.describe(name) for name in self.names()]

    def describe(self, name: str) -> Key:
        """See `KeyStore.describe`."""
        return self._find(name).key

    def primary(self, name: str) -> DataKey:
        """See `KeyStore.primary`."""
        with self._lock:
            kept = self._find(name)
            if kept.key.primary is None:
                raise unusable_key(kept.key)
            return _data_key(kept, kept.key.primary)

    def versions(self, name: str) -> Sequence[DataKey]:
        """See `KeyStore.versions`."""
        with self._lock:
            kept = self._find(name)
            found = tuple(_data_key(kept, v) for v in kept.key.versions if v.decrypts)
            if not found:
                raise unusable_key(kept.key)
            return found

    # ---- changes -----------------------------------------------------------------------------------------

    def create(
        self,
        name: str,
        *,
        actor: str = SYSTEM,
        owners: AbstractSet[str] = frozenset(),
        roles: AbstractSet[str] = frozenset(),
        exist_ok: bool = False,
    ) -> DataKey:
        """See `KeyStore.create`."""
        check_key_name(name)
        with self._lock:
            if name not in self._kept:
                kept = _Kept(Key(name, frozenset(owners), frozenset(roles), ()), {})
                made = self._add_version(kept)
                self._kept[name] = kept
                self._note(actor, "create", name, (1,), users_text(owners, roles))
                return made
        if not exist_ok:
            raise key_exists(name)
        return self.primary(name)

    def rotate(self, name: str, *, actor: str) -> DataKey:
        """See `KeyStore.rotate`."""
        with self._lock:
            kept = self._find(name)
            states.check_rotation(kept.key)
            made = self._add_version(kept)
            self._note(actor, "rotate", name, (made.version,))
            return made

    def allow(self, name: str, *, actor: str, owners: AbstractSet[str], roles: AbstractSet[str]) -> Key:
        """See `KeyStore.allow`."""
        with self._lock:
            kept = self._find(name)
            kept.key = replace(kept.key, owners=frozenset(owners), roles=frozenset(roles))
            self._note(actor, "allow", name, (), users_text(owners, roles))
            return kept.key

    def disable(self, name: str, *, actor: str, version: int | None = None) -> Key:
        """See `KeyStore.disable`."""
        return self._change(name, actor, "disable", states.disabled, version)

    def enable(self, name: str, *, actor: str, version: int | None = None) -> Key:
        """See `KeyStore.enable`."""
        return self._change(name, actor, "enable", states.enabled, version)

    def destroy(self, name: str, *, actor: str, version: int | None = None) -> Key:
        """See `KeyStore.destroy`."""
        return self._change(name, actor, "destroy", states.destroyed, version)

    def rewrap(self, kek: Kek, *, actor: str) -> int:
        """See `KeyStore.rewrap`. Here only the note of what wraps a version changes."""
        count = 0
        with self._lock:
            for name, kept in sorted(self._kept.items()):
                living = tuple(v.version for v in kept.key.versions if v.state != "destroyed")
                if not living:
                    continue
                versions = (replace(v, kek=kek.uri) if v.version in living else v for v in kept.key.versions)
                kept.key = replace(kept.key, versions=tuple(versions))
                self._note(actor, "rewrap", name, living, f"with {kek.uri}")
                count += len(living)
        return count

    # ---- audit -------------------------------------------------------------------------------------------

    def record(
        self, actor: str, action: str, name: str, versions: Sequence[int] = (), detail: str = ""
    ) -> None:
        """See `KeyStore.record`."""
        with self._lock:
            self._find(name)
            self._note(actor, action, name, tuple(versions), detail)

    def audit(self, name: str | None = None, limit: int = 100) -> Sequence[AuditEntry]:
        """See `KeyStore.audit`."""
        with self._lock:
            return [e for e in reversed(self._audit) if name in (None, e.key)][:limit]

    # ---- inside ------------------------------------------------------------------------------------------

    def _find(self, name: str) -> _Kept:
        kept = self._kept.get(name)
        if kept is None:
            raise unknown_key(name)
        return kept

    def _add_version(self, kept: _Kept) -> DataKey:
        taken = {v.key_id for k in self._kept.values() for v in k.key.versions}
        key_id = new_key_id()
        while key_id in taken:
            key_id = new_key_id()
        new = KeyVersion(len(kept.key.versions) + 1, key_id, "primary", MEMORY_KEK, datetime.now(UTC))
        kept.key = replace(kept.key, versions=states.with_new(kept.key, new))
        kept.raw[new.version] = new_raw_key()
        return _data_key(kept, new)

    def _change(self, name: str, actor: str, action: str, change: states.Change, version: int | None) -> Key:
        with self._lock:
            kept = self._find(name)
            after = change(kept.key, version)
            touched = states.changed(kept.key.versions, after)
            if touched:
                kept.key = replace(kept.key, versions=after)
                for v in touched:
                    if v.state == "destroyed":
                        del kept.raw[v.version]
                self._note(actor, action, name, tuple(v.version for v in touched))
            return kept.key

    def _note(self, actor: str, action: str, name: str, versions: tuple[int, ...], detail: str = "") -> None:
        self._audit.append(AuditEntry(datetime.now(UTC), actor, action, name, versions, detail))


def _data_key(kept: _Kept, version: KeyVersion) -> DataKey:
    return DataKey(kept.key.name, version.version, version.key_id, kept.raw[version.version])
