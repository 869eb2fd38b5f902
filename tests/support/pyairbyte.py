"""PyAirbyte's environment for tests: made once from the lock, kept between test runs in pytest's cache."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from airberg.settings import Settings, SourceSettings
from airberg.stack.environments import ensure_pyairbyte_environment


def pyairbyte_environment(config: pytest.Config) -> Path:
    """The folder of the environment."""
    locked = config.rootpath / "requirements" / "pyairbyte.txt"
    version = hashlib.sha256(locked.read_bytes()).hexdigest()[:12]
    if config.cache is None:
        pytest.skip("the cache of pytest is switched off")
    folder = config.cache.mkdir(f"pyairbyte-{version}")
    settings = Settings(home=folder / "home", sources=SourceSettings(pyairbyte_dir=folder / "venv"))
    settings.home.mkdir(exist_ok=True)
    return ensure_pyairbyte_environment(settings, lambda _: None)
