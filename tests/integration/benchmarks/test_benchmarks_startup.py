"""What a sync does before its connector starts, taken apart as `make bench-live` takes it apart."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.deployment import Deployment
from benchmarks.startup import slowest_imports, steps


@pytest.fixture
def deployment(tmp_path: Path, pyairbyte_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """One with nothing in it."""
    monkeypatch.setenv("AIRBERG_SOURCES__PYAIRBYTE_DIR", str(pyairbyte_dir))
    return Deployment(tmp_path / "home")


def test_each_step_took_its_time(deployment: Deployment, tmp_path: Path) -> None:
    """The child finds what a sync opens; it names those by the modules that have them."""
    found = steps(sys.executable, tmp_path, deployment.environment())
    assert set(found) == {
        "interpreter",
        "settings",
        "imports",
        "job store and master key",
        "keys",
        "catalog",
    }
    assert all(took >= 0 for took in found.values())


def test_the_slowest_imports_are_ranked(deployment: Deployment, tmp_path: Path) -> None:
    """Packages and what is directly in them, the slowest first."""
    found = slowest_imports(sys.executable, tmp_path, deployment.environment())
    assert 0 < len(found) <= 12
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert all(name.count(".") <= 1 for name in found)
