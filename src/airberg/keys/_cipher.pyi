"""Types of the compiled module; see `native/cipher.cpp`."""

from typing import TypeAlias

from typing_extensions import Buffer

Texts: TypeAlias = tuple[int, int, bool, Buffer | None, Buffer | None, Buffer | None]
Made: TypeAlias = tuple[bytes | None, bytes, bytes]
Fault: TypeAlias = tuple[int, int, int]

def available() -> bool: ...
def encrypt(
    key: bytes, iv_key: bytes | None, iv_prefix: bytes, head: bytes, aad: bytes, threads: int, texts: Texts, /
) -> Made: ...
def decrypt(
    keys: tuple[tuple[int, bytes], ...], aad: bytes, threads: int, texts: Texts, /
) -> Made | Fault: ...
def hashes(key: bytes, threads: int, texts: Texts, /) -> Made: ...
def texts(
    form: str, scale: int, rows: int, offset: int, validity: Buffer | None, values: Buffer | None, /
) -> Made: ...
