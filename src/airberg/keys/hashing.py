"""Column hashes: HMAC-SHA256, so that equal values can be found and joined, and none can be read.

A plain hash of a name, an address or a number is found again by hashing all that there are; this one only
with the key.
"""

from __future__ import annotations

import hmac
from types import ModuleType
from typing import TYPE_CHECKING

from airberg.keys.kek import derive_key
from airberg.keys.port import DataKey

if TYPE_CHECKING:
    import pyarrow as pa

    from airberg.keys._cipher import Made, Texts

_HASH_KEY_INFO = b"airberg hash v1"


class ColumnHash:
    """Hashes the values of columns under one version of a key.

    Nothing but the value and the key goes into a hash: equal values have equal hashes, in every column and
    table. That shows which rows are equal, and how often.
    """

    def __init__(self, key: DataKey) -> None:
        self._key = derive_key(key.raw, _HASH_KEY_INFO)

    def hash_value(self, plaintext: bytes) -> str:
        """The hash of one value, as 64 digits of lower-case hexadecimal."""
        return hmac.digest(self._key, plaintext, "sha256").hex()

    def hash_array(self, values: pa.Array) -> pa.Array:
        """The hashes of a whole array of texts or bytes; see `airberg.keys.arrays.hash_array`."""
        from airberg.keys.arrays import hash_array  # needs pyarrow, which single values do not

        return hash_array(self, values)

    def hash_texts(self, compiled: ModuleType, threads: int, texts: Texts) -> Made:
        """The hashes of texts as they lie in memory, by the compiled cipher."""
        made: Made = compiled.hashes(self._key, threads, texts)
        return made
