"""Connectors of Airbyte from the package index, for `make test-connectors`.

Their environments have hundreds of megabytes, so they are kept between runs in pytest's cache. Where the
package index cannot be reached, the tests of a connector that is not in the cache are skipped.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from airberg.errors import TransientFailed, Unavailable
from airberg.settings import Settings, SourceSettings, SyncSettings
from airberg.sources.launch import resolve
from airberg.sources.registry import load_registry
from support.deployment import Deployment

INSTALL_WITHIN_S = 600.0
UNREACHABLE = re.compile(r"(?i)failed to fetch|error sending request|dns error")
Deploy = Callable[[str], Deployment]


@pytest.fixture(autouse=True)
def _loopback_without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers of the tests are reached directly, whatever proxy leads to the package index."""
    for name in ("NO_PROXY", "no_proxy"):
        others = os.environ.get(name, "")
        monkeypatch.setenv(name, f"127.0.0.1,localhost,{others}".strip(","))


@pytest.fixture(scope="session")
def installed_connectors(
    pytestconfig: pytest.Config, request: pytest.FixtureRequest
) -> Callable[[str], SourceSettings]:
    """Installs a connector of the list; where it is. Skips where it cannot be had."""
    if "CONNECTOR_TESTS" not in os.environ:
        pytest.skip("connectors: not part of `make test`; `make test-connectors` runs these tests")
    if pytestconfig.cache is None:
        pytest.skip("connectors: the cache of pytest is switched off")
    home = pytestconfig.cache.mkdir("connectors")
    try:
        pyairbyte: Path = request.getfixturevalue("pyairbyte_dir")
    except TransientFailed as e:
        if not UNREACHABLE.search(str(e)):
            raise
        pytest.skip("connectors: PyAirbyte cannot be installed: the package index cannot be reached")
    sources = SourceSettings(pyairbyte_dir=pyairbyte, connectors_dir=home / "connectors")
    settings = Settings(home=home, sources=sources)
    unreachable: dict[str, str] = {}

    def install(name: str) -> SourceSettings:
        if name not in unreachable:
            try:
                deadline = time.monotonic() + INSTALL_WITHIN_S
                resolve(load_registry(settings).find(name), settings, deadline=deadline)
            except Unavailable as e:
                if e.code != "connector-install-failed" or not UNREACHABLE.search(str(e)):
                    raise
                unreachable[name] = str(e)
            else:
                return sources
        pytest.skip(f"connectors: the package index cannot be reached: {unreachable[name][:200]}")

    return install


@pytest.fixture
def deploy(tmp_path: Path, installed_connectors: Callable[[str], SourceSettings]) -> Deploy:
    """A deployment where a connector is installed; it makes a checkpoint at every state."""

    def made(name: str) -> Deployment:
        sources = installed_connectors(name)
        assert sources.pyairbyte_dir is not None
        assert sources.connectors_dir is not None
        sync = SyncSettings(checkpoint_seconds=0.0)
        return Deployment(
            tmp_path / "home", sources.pyairbyte_dir, sources.connectors_dir, sync, wait_s=120.0
        )

    return made
