"""Types of the compiled module; see `native/casts.cpp`."""

from typing import TypeAlias

from typing_extensions import Buffer

Texts: TypeAlias = tuple[int, int, bool, Buffer | None, Buffer | None, Buffer | None]
"""Rows, offset, whether ends have 64 bits, validity, ends, characters."""

Wanted: TypeAlias = tuple[str, int, int, int]
"""Name of the target, bits of an integer, precision and scale of a decimal."""

Made: TypeAlias = tuple[bytes | None, bytes | None, tuple[bytes, ...]]
"""Validity, what was left, buffers."""

def cast(texts: Texts, declared: str, wanted: Wanted, /) -> Made: ...
