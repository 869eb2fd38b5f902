"""The HTTP service on its twins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api_service import Service, running_service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The application, empty."""
    with running_service(tmp_path) as running:
        yield running
