"""A deployment with the CeleryExecutor, for `make test-celery`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.celery_stack import CeleryStack, NotHere, running_celery_stack
from support.postgresql import Server


@pytest.fixture(scope="session", autouse=True)
def _asked_for() -> None:
    """Nothing is started for tests that are not run."""
    if "CELERY_TESTS" not in os.environ:
        pytest.skip("Celery: not part of `make test`; `make test-celery` runs these tests")


@pytest.fixture(scope="session")
def celery_stack(
    tmp_path_factory: pytest.TempPathFactory, postgresql_server: Server, pyairbyte_dir: Path
) -> Iterator[CeleryStack]:
    """The deployment, with both of its workers; one for all of these tests."""
    folder = tmp_path_factory.mktemp("celery")
    try:
        with running_celery_stack(folder, postgresql_server, pyairbyte_dir) as stack:
            yield stack
    except NotHere as e:
        pytest.skip(f"Celery: {e}")
