"""Columns encrypted by the compiled cipher or by Python, so that one suite says what both have to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from airberg.keys import compiled

CipherWay: TypeAlias = Literal["python", "native"]
CIPHER_WAYS: tuple[CipherWay, ...] = ("python", "native")
_BUILT = compiled.compiled


@contextmanager
def ciphered_by(way: CipherWay) -> Iterator[None]:
    """As if Airberg was installed with a compiler, or without one."""
    assert _BUILT is not None
    before, compiled.compiled = compiled.compiled, _BUILT if way == "native" else None
    try:
        yield
    finally:
        compiled.compiled = before
