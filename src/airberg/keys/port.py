"""The port to data keys. `airberg.keys.sql` and `airberg.keys.memory` pass the same behaviour suite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


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


class KeyStore(Protocol):
    """Keeps named data keys, each version wrapped by a key-encryption key."""

    def create(self, name: str, *, exist_ok: bool = False) -> DataKey:
        """Make a key with its first version. Raises Conflict if it exists and not `exist_ok`."""
        ...

    def exists(self, name: str) -> bool:
        """Whether there is a key of that name with a usable version."""
        ...

    def names(self) -> Sequence[str]:
        """All names, sorted."""
        ...

    def primary(self, name: str) -> DataKey:
        """The version that encrypts. Raises NotFound."""
        ...

    def versions(self, name: str) -> Sequence[DataKey]:
        """All versions that may decrypt, oldest first. Raises NotFound."""
        ...

    def rotate(self, name: str) -> DataKey:
        """Add a version and make it the primary one. Raises NotFound."""
        ...
