"""What keeps a connector from being prepared is told."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from airberg.errors import Unavailable
from airberg.settings import Settings
from airberg.sources.launch import resolve
from airberg.sources.registry import load_registry


def test_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """It is read-only, or something else has its name."""
    settings = Settings(home=tmp_path)
    settings.connectors_dir.touch()
    with pytest.raises(Unavailable, match="its folder cannot be written: Not a directory") as caught:
        resolve(load_registry(settings).find("source-faker"), settings, deadline=time.monotonic())
    assert caught.value.code == "connector-install-failed"
