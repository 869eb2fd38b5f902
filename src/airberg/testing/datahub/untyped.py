"""Names for what is not typed."""

from __future__ import annotations

from typing import Any, TypeAlias

Json: TypeAlias = Any
"""Anything that JSON can be: what others sent."""

Generated: TypeAlias = Any
"""A class, or a value, of DataHub's generated code, which has no types."""
