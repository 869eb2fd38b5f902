"""Data keys in memory: for tests, and for a dry run without a store."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from airberg.keys.names import check_key_name, key_exists, new_key_id, new_raw_key, unknown_key
from airberg.keys.port import DataKey


class MemoryKeyStore:
    """A `KeyStore` that forgets everything with the process."""

    def __init__(self) -> None:
        self._keys: dict[str, list[DataKey]] = {}
        self._lock = Lock()

    def create(self, name: str, *, exist_ok: bool = False) -> DataKey:
        """Make a key. See `KeyStore.create`; raises InvalidRequest for a name that a key cannot have."""
        check_key_name(name)
        with self._lock:
            if name in self._keys:
                if exist_ok:
                    return self._keys[name][-1]
                raise key_exists(name)
            return self._add(name)

    def exists(self, name: str) -> bool:
        """Whether there is such a key."""
        return name in self._keys

    def names(self) -> Sequence[str]:
        """All names, sorted."""
        return sorted(self._keys)

    def primary(self, name: str) -> DataKey:
        """The newest version. Raises NotFound."""
        return self.versions(name)[-1]

    def versions(self, name: str) -> Sequence[DataKey]:
        """All versions, oldest first. Raises NotFound."""
        found = self._keys.get(name)
        if not found:
            raise unknown_key(name)
        return tuple(found)

    def rotate(self, name: str) -> DataKey:
        """Add a version. Raises NotFound."""
        with self._lock:
            if name not in self._keys:
                raise unknown_key(name)
            return self._add(name)

    def _add(self, name: str) -> DataKey:
        taken = {k.key_id for keys in self._keys.values() for k in keys}
        key_id = new_key_id()
        while key_id in taken:
            key_id = new_key_id()
        versions = self._keys.setdefault(name, [])
        key = DataKey(name, len(versions) + 1, key_id, new_raw_key())
        versions.append(key)
        return key
