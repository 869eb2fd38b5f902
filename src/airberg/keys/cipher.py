"""Column encryption: AES-256-GCM in bytes that SQL engines decrypt by themselves.

Format: `0x01 | key id (4, big endian) | IV (12) | ciphertext | tag (16)`, the AES-GCM format of Google's
Tink with its prefix, so that Tink and BigQuery read it; what follows the fifth byte is what Spark's
`aes_decrypt(..., 'GCM')` takes. The key id in front tells which version of a key decrypts.
"""

from __future__ import annotations

import datetime as dt
import hmac
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Protocol, overload

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from airberg.errors import ConfigurationFailed
from airberg.keys.hashing import ColumnHash
from airberg.keys.kek import derive_key
from airberg.keys.port import DataKey
from airberg.plan.model import EncryptionMode, EncryptRule, HashRule

if TYPE_CHECKING:
    import pyarrow as pa

    from airberg.keys._cipher import Made, Texts

OVERHEAD = 33
"""How many bytes longer than its plaintext a ciphertext is."""

_IV_KEY_INFO = b"airberg iv v1"
_encode = msgspec.json.Encoder(decimal_format="number", order="deterministic").encode


class ColumnCipher:
    """Encrypts the values of one column.

    `random` draws an IV for each value. `deterministic` derives it from the value (the SIV construction with
    a 96-bit IV: HMAC-SHA256 under a key of its own, over the associated data and the plaintext), so that
    equal values have equal ciphertexts: a column that rows are merged or joined by. That shows which rows
    are equal, and how often; and it holds for up to about 2^32 distinct values per key.

    Attributes:
        mode: Which of the two.
    """

    def __init__(self, key: DataKey, aad: bytes, mode: EncryptionMode) -> None:
        """Prepare the cipher.

        Args:
            aad: Associated data: where a ciphertext belongs. Decryption needs the same.
        """
        self.mode: EncryptionMode = mode
        self._key = key.raw
        self._aad = aad
        self._head = b"\x01" + struct.pack(">I", key.key_id)
        self._encrypt = AESGCM(key.raw).encrypt
        self._iv_key = derive_key(key.raw, _IV_KEY_INFO)
        self._iv_prefix = struct.pack(">I", len(aad)) + aad

    def encrypt_value(self, plaintext: bytes) -> bytes:
        """The ciphertext of one value."""
        if self.mode == "random":
            iv = os.urandom(12)
        else:
            iv = hmac.digest(self._iv_key, self._iv_prefix + plaintext, "sha256")[:12]
        return self._head + iv + self._encrypt(iv, plaintext, self._aad)

    def encrypt_array(self, values: pa.Array) -> pa.Array:
        """The ciphertexts of a whole array, nulls kept; see `airberg.keys.arrays.encrypt_array`."""
        from airberg.keys.arrays import encrypt_array  # needs pyarrow, which single values do not

        return encrypt_array(self, values)

    def encrypt_texts(self, compiled: ModuleType, threads: int, texts: Texts) -> Made:
        """The ciphertexts of texts as they lie in memory, by the compiled cipher."""
        iv_key = None if self.mode == "random" else self._iv_key
        known = (self._key, iv_key, self._iv_prefix, self._head, self._aad)
        made: Made = compiled.encrypt(*known, threads, texts)
        return made


def decrypt_value(keys: Iterable[DataKey], ciphertext: bytes, aad: bytes) -> bytes:
    """The plaintext of one value, with whichever of the keys it names.

    Raises:
        ConfigurationFailed: It is no ciphertext of ours, its key is not among `keys`, or key, associated data
            or bytes do not match.
    """
    try:
        return Decipher(keys, aad).plaintext(ciphertext)
    except Undecryptable as e:
        raise cannot_decrypt("A value", str(e)) from None


class Undecryptable(Exception):
    """A value does not decrypt; the text says why, and has nothing of the value."""


class Decipher:
    """Decrypts values one by one, with whichever of some keys they name.

    Args:
        keys: All that may occur.
        aad: The associated data that the values were encrypted with.
    """

    def __init__(self, keys: Iterable[DataKey], aad: bytes) -> None:
        self._decrypt = {key.key_id: AESGCM(key.raw).decrypt for key in keys}
        self._aad = aad

    def plaintext(self, ciphertext: bytes) -> bytes:
        """The plaintext of a value. Raises Undecryptable."""
        if len(ciphertext) < OVERHEAD or ciphertext[0] != 1:
            raise Undecryptable(FOREIGN)
        key_id = int.from_bytes(ciphertext[1:5], "big")
        decrypt = self._decrypt.get(key_id)
        if decrypt is None:
            raise Undecryptable(no_such_key(key_id))
        try:
            return decrypt(ciphertext[5:17], ciphertext[17:], self._aad)
        except InvalidTag:
            raise Undecryptable(MISMATCH) from None


FOREIGN = "it is not a ciphertext of an encrypted column"
MISMATCH = "the key or the associated data is another one, or it was changed"


def no_such_key(key_id: int) -> str:
    """Why a value does not decrypt whose key is not at hand."""
    return f"the key with id {key_id:08x} is not there"


def cannot_decrypt(what: str, why: str) -> ConfigurationFailed:
    """The error of a value that does not decrypt."""
    return ConfigurationFailed(f"{what} cannot be decrypted: {why}.", code="cannot-decrypt")


class DataKeys(Protocol):
    """What unwraps keys: a `KeyStore`, or what remembers what it unwrapped."""

    def primary(self, name: str) -> DataKey:
        """The version that encrypts."""
        ...

    def versions(self, name: str) -> Sequence[DataKey]:
        """All versions that may decrypt, oldest first."""
        ...


class CipherShelf:
    """The ciphers and hashes of one table, each made once."""

    def __init__(self, keys: DataKeys, versions: Mapping[str, int] = MappingProxyType({})) -> None:
        """Start without ciphers.

        Args:
            keys: The keys.
            versions: The version of each key that deterministic and hashed columns have.
        """
        self._keys = keys
        self._versions = versions
        self._made: dict[EncryptRule | HashRule, ColumnCipher | ColumnHash] = {}

    @overload
    def cipher_for(self, rule: EncryptRule, /) -> ColumnCipher: ...
    @overload
    def cipher_for(self, rule: HashRule, /) -> ColumnHash: ...
    def cipher_for(self, rule: EncryptRule | HashRule, /) -> ColumnCipher | ColumnHash:
        """The cipher, or the hash, of a rule.

        Random columns use the primary version of their key. Deterministic and hashed ones stay with one
        version (see `airberg.plan.key_versions`); where none is given, with the oldest that may decrypt.

        Raises:
            NotFound: There is no such key.
            ConfigurationFailed: It is disabled or destroyed.
        """
        made = self._made.get(rule)
        if made is None:
            made = self._made[rule] = self._make(rule)
        return made

    def _make(self, rule: EncryptRule | HashRule) -> ColumnCipher | ColumnHash:
        if isinstance(rule, HashRule):
            return ColumnHash(self._steady(rule.key_name))
        key = self._keys.primary(rule.key_name) if rule.mode == "random" else self._steady(rule.key_name)
        return ColumnCipher(key, rule.aad.encode(), rule.mode)

    def _steady(self, name: str) -> DataKey:
        usable, wanted = self._keys.versions(name), self._versions.get(name)
        found = usable[0] if wanted is None else next((k for k in usable if k.version == wanted), None)
        if found is None:
            raise ConfigurationFailed(
                f"Version {wanted} of the encryption key {name!r} may not be used any more.",
                guidance="Enable it, or load into a new table.",
                code="key-version-unusable",
            )
        return found


def canonical_text(value: object) -> bytes:
    """The bytes of a value that are encrypted: UTF-8 text that every engine can cast back.

    Numbers as Python writes them (decimals with all digits of their scale, zero without a sign), `true` and
    `false`, `2026-01-02`, `2026-01-02T03:04:05.123456Z` (without the Z when it has no zone),
    `03:04:05.123456`, objects and lists as JSON with sorted keys and no spaces. Years before 1 are `0000`
    (1 BC), `-0001` and so on, those after 9999 have more digits. Bytes stay as they are.

    Raises:
        TypeError: No column has values of that type.
        UnicodeEncodeError: The text holds half a surrogate pair.
    """
    match value:
        case str():
            return value.encode()
        case bytes():
            return value
        case bool():
            return b"true" if value else b"false"
        case int():  # also days and moments that Python has not: `-0043-03-15`, `12026-01-01`
            return str(value).encode()
        case Decimal():
            return format(value or abs(value), "f").encode()  # no table has a decimal of -0
        case float():
            return repr(value).encode()
        case dt.datetime():
            if value.tzinfo is None:
                return value.isoformat(timespec="microseconds").encode()
            utc = value.astimezone(dt.UTC).replace(tzinfo=None)
            return utc.isoformat(timespec="microseconds").encode() + b"Z"
        case dt.date():
            return value.isoformat().encode()
        case dt.time():
            return value.isoformat(timespec="microseconds").encode()
        case dict() | list():
            return canonical_json(value)
    raise TypeError(f"no canonical text for a value of type {type(value).__name__}")


def canonical_json(value: object) -> bytes:
    """JSON text with sorted keys and no spaces, `Decimal` as a number with the digits that it has.

    Raises:
        UnicodeEncodeError: A string holds half a surrogate pair.
    """
    return _encode(value)
