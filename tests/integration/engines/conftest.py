"""A deployment whose tables other engines read; once for all of these tests, which run in one worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.deployment import Deployment
from support.engines import Engines, running_engines


@pytest.fixture(scope="session")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, pyairbyte_dir: Path, connectors_dir: Path
) -> Deployment:
    """A deployment in a folder of its own."""
    return Deployment(tmp_path_factory.mktemp("engines") / "home", pyairbyte_dir, connectors_dir)


@pytest.fixture(scope="session")
def engines(deployment: Deployment) -> Iterator[Engines]:
    """The engines, which see the folder of the deployment."""
    with running_engines(deployment.home) as started:
        yield started
