"""Fixtures that several folders of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.postgresql import NoServer, Server, running_server


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """A real PostgreSQL, started when the first test asks for it; without one, those tests are skipped."""
    try:
        with running_server() as server:
            yield server
    except NoServer as e:
        pytest.skip(f"PostgreSQL: {e}")
