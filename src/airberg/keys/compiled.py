"""The compiled cipher (`native/cipher.cpp`), where it was built and has found OpenSSL's libcrypto."""

from __future__ import annotations

from types import ModuleType

compiled: ModuleType | None
try:
    from airberg.keys import _cipher as compiled
except ImportError:
    compiled = None


def cipher() -> ModuleType | None:
    """The compiled module, if it can encrypt: without a libcrypto it only writes texts."""
    return compiled if compiled is not None and compiled.available() else None
