"""One running stack for all end-to-end tests; they share a worker (`xdist_group`) and so the stack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.live_stack import LiveStack, running_stack

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the one Airflow."""
    for item in items:
        if HERE in Path(str(item.path)).parents:
            item.add_marker(pytest.mark.airflow)
            item.add_marker(pytest.mark.xdist_group("airflow"))


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    """The embedded stack, started once."""
    with running_stack(tmp_path_factory.mktemp("stack") / "home") as stack:
        yield stack
