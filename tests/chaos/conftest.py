"""The short form, which `make test` plays: of each fault one variant. `make chaos` plays all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only the long form has."""
    if "CHAOS_KILLS" in os.environ:
        return
    seen: set[str] = set()
    left_out = []
    for item in items:
        if HERE in item.path.parents and isinstance(item, pytest.Function):
            if item.originalname in seen:
                left_out.append(item)
            seen.add(item.originalname)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
