"""Whole columns encrypted and decrypted: Arrow arrays in, Arrow arrays out.

The compiled cipher (`native/cipher.cpp`) does it where it was built and has found OpenSSL's libcrypto: the
same bytes as value by value, several times as fast, and without the interpreter lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from airberg.errors import ConfigurationFailed
from airberg.keys import compiled
from airberg.keys.cipher import (
    FOREIGN,
    MISMATCH,
    OVERHEAD,
    Decipher,
    Undecryptable,
    cannot_decrypt,
    no_such_key,
)
from airberg.keys.port import DataKey

if TYPE_CHECKING:
    from airberg.keys._cipher import Made, Texts
    from airberg.keys.cipher import ColumnCipher
    from airberg.keys.hashing import ColumnHash

_FOREIGN, _MISMATCH = 1, 3  # faults of the compiled cipher

_SAMPLE: Final = 1_000
_ROWS_A_THREAD: Final = 2_500
_MOST_THREADS: Final = min(4, len(os.sched_getaffinity(0)))
_MAX_BYTES: Final = 2**31 - 1
"""What the 32-bit offsets of an Arrow array reach."""


def encrypt_array(cipher: ColumnCipher, values: pa.Array) -> pa.Array:
    """The ciphertexts of texts or bytes. Nulls stay null.

    Args:
        cipher: How.
        values: Of the type string or binary, or the large forms of them.

    Returns:
        A binary array, a large one for a large one.

    Raises:
        TypeError: The values are something else.
        pyarrow.ArrowCapacityError: The ciphertexts need the large form.
    """
    plain = _as_binary(values)
    size = pc.sum(pc.binary_length(plain)).as_py() or 0
    if pa.types.is_binary(plain.type) and size + OVERHEAD * len(plain) > _MAX_BYTES:
        raise pa.ArrowCapacityError("more than 2 GiB of ciphertexts: give the values as large_binary")
    if cipher.mode == "deterministic":
        return _each_once(plain, lambda distinct: _encrypted(cipher, distinct))
    return _encrypted(cipher, plain)


def hash_array(hasher: ColumnHash, values: pa.Array) -> pa.Array:
    """The hashes of texts or bytes, as a string array. Nulls stay null.

    Args:
        hasher: Under which key.
        values: Of the type string or binary, or the large forms of them.

    Raises:
        TypeError: The values are something else.
    """
    return _each_once(_as_binary(values), lambda distinct: _hashed(hasher, distinct))


def decrypt_array(keys: Iterable[DataKey], values: pa.Array, aad: bytes, *, first_row: int = 0) -> pa.Array:
    """The plaintexts of ciphertexts, each with whichever of the keys it names. Nulls stay null.

    Args:
        keys: All versions that may occur.
        values: Of the type binary or large_binary.
        aad: The associated data that they were encrypted with.
        first_row: The number of the first value in what the caller reads, for the error.

    Returns:
        An array of the same type.

    Raises:
        TypeError: The values are something else.
        ConfigurationFailed: A value does not decrypt (`cannot-decrypt`); the message has its row, from 0 on,
            and nothing of the value.
    """
    sealed = _as_binary(values)
    raw = {key.key_id: key for key in keys}
    if (native := compiled.cipher()) is None:
        return _decrypted(Decipher(raw.values(), aad), sealed, first_row)
    known = tuple((key_id, key.raw) for key_id, key in raw.items())
    found = native.decrypt(known, aad, _threads(sealed), _texts(sealed))
    if isinstance(found[1], bytes):
        return _array(sealed.type, len(sealed), found)
    row, fault, key_id = found
    why = {_FOREIGN: FOREIGN, _MISMATCH: MISMATCH}.get(fault) or no_such_key(key_id)
    raise _cannot_decrypt(first_row + row, why)


def _as_binary(values: pa.Array) -> pa.Array:
    """The same bytes as a binary array, without a copy."""
    kind = values.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return values
    if pa.types.is_string(kind):
        return values.cast(pa.binary())
    if pa.types.is_large_string(kind):
        return values.cast(pa.large_binary())
    raise TypeError(f"texts or bytes are encrypted, not {kind}")


def _encrypted(cipher: ColumnCipher, plain: pa.Array) -> pa.Array:
    if (native := compiled.cipher()) is not None:
        return _array(plain.type, len(plain), cipher.encrypt_texts(native, _threads(plain), _texts(plain)))
    encrypt = cipher.encrypt_value
    return pa.array([None if v is None else encrypt(v) for v in plain.to_pylist()], plain.type)


def _hashed(hasher: ColumnHash, plain: pa.Array) -> pa.Array:
    if (native := compiled.cipher()) is not None:
        return _array(pa.string(), len(plain), hasher.hash_texts(native, _threads(plain), _texts(plain)))
    hashed = hasher.hash_value
    return pa.array([None if v is None else hashed(v) for v in plain.to_pylist()], pa.string())


def _decrypted(decipher: Decipher, sealed: pa.Array, first_row: int) -> pa.Array:
    plain: list[bytes | None] = []
    for row, value in enumerate(sealed.to_pylist(), first_row):
        try:
            plain.append(None if value is None else decipher.plaintext(value))
        except Undecryptable as e:
            raise _cannot_decrypt(row, str(e)) from None
    return pa.array(plain, sealed.type)


def _cannot_decrypt(row: int, why: str) -> ConfigurationFailed:
    return cannot_decrypt(f"The value in row {row}", why)


def _each_once(values: pa.Array, work: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """What a pure function makes of an array; where values repeat, of each of them once."""
    if len(values) < _SAMPLE or pc.count_distinct(values.slice(0, _SAMPLE)).as_py() > _SAMPLE // 2:
        return work(values)
    encoded = values.dictionary_encode()
    return work(encoded.dictionary).take(encoded.indices)


# ---- the compiled cipher -----------------------------------------------------------------------------------


def _threads(array: pa.Array) -> int:
    """How many threads may share the work on an array; a thread takes as long to begin as some 200 values."""
    return max(1, min(_MOST_THREADS, len(array) // _ROWS_A_THREAD))


def _texts(array: pa.Array) -> Texts:
    """The array as the compiled cipher wants to see it."""
    validity, ends, chars = array.buffers()
    nulls = validity if array.null_count else None
    return len(array), array.offset, pa.types.is_large_binary(array.type), nulls, ends, chars


def _array(kind: pa.DataType, length: int, made: Made) -> pa.Array:
    buffers = [None if buffer is None else pa.py_buffer(buffer) for buffer in made]
    return pa.Array.from_buffers(kind, length, buffers)
