"""The compiled module, or None where the package was installed without a compiler."""

from __future__ import annotations

from types import ModuleType

compiled: ModuleType | None
try:
    from airberg.columns import _records as compiled
except ImportError:
    compiled = None


def available() -> bool:
    """Whether the compiled module is there."""
    return compiled is not None
