"""What a child process is given of the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from airberg.settings import Settings, settings_environment


def test_a_child_has_the_home_of_its_parents_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the settings were not made from the environment, which names another one."""
    monkeypatch.setenv("AIRBERG_HOME", "/somewhere/else")
    monkeypatch.setenv("AIRBERG_API__PORT", "8123")
    given = settings_environment(Settings(home=Path("/data/airberg")))
    assert given["AIRBERG_HOME"] == "/data/airberg"
    assert given["AIRBERG_API__PORT"] == "8123"


def test_a_child_has_the_configuration_of_catalogs_and_of_lineage(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of pyiceberg and of OpenLineage's client, which read variables of their own."""
    monkeypatch.setenv("PYICEBERG_CATALOG__LAKE__URI", "http://catalog")
    monkeypatch.setenv("OPENLINEAGE_URL", "http://marquez:5000")
    monkeypatch.setenv("OTHER", "x")
    given = settings_environment(Settings())
    assert given["PYICEBERG_CATALOG__LAKE__URI"] == "http://catalog"
    assert given["OPENLINEAGE_URL"] == "http://marquez:5000"
    assert "OTHER" not in given
