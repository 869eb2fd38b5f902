"""The compiled modules, or None where the package was installed without a compiler."""

from __future__ import annotations

from types import ModuleType

compiled: ModuleType | None
casts: ModuleType | None
try:
    from airberg.columns import _records as compiled
except ImportError:
    compiled = None
try:
    from airberg.columns import _casts as casts
except ImportError:
    casts = None


def available() -> bool:
    """Whether the compiled reader is there."""
    return compiled is not None
