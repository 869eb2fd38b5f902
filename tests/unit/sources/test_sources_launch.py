"""What keeps a connector from being prepared is told."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from airberg.errors import Unavailable
from airberg.settings import Settings
from airberg.sources.launch import install_environment, resolve
from airberg.sources.registry import load_registry


def test_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """It is read-only, or something else has its name."""
    settings = Settings(home=tmp_path)
    settings.connectors_dir.touch()
    with pytest.raises(Unavailable, match="its folder cannot be written: Not a directory") as caught:
        resolve(load_registry(settings).find("source-faker"), settings, deadline=time.monotonic())
    assert caught.value.code == "connector-install-failed"


# ---- uv's cache --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("home", ["/dev/null", "/dev/null/nobody"])
def test_without_a_home_the_cache_is_below_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    """As in a container, whose user has none that can be written to."""
    for name in ("UV_CACHE_DIR", "UV_NO_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", home)
    settings = Settings(home=tmp_path)
    assert install_environment(settings)["UV_CACHE_DIR"] == str(tmp_path / "uv-cache")
    monkeypatch.setenv("UV_CACHE_DIR", "/cache")
    assert install_environment(settings)["UV_CACHE_DIR"] == "/cache"


def test_with_a_home_the_cache_is_where_uv_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which other programs may share."""
    for name in ("UV_CACHE_DIR", "UV_NO_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for home in (tmp_path, tmp_path / "not-yet"):
        monkeypatch.setenv("HOME", str(home))
        assert "UV_CACHE_DIR" not in install_environment(Settings(home=tmp_path))
