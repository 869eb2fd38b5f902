"""Secrets between Airberg and its Airflow."""

from __future__ import annotations

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from pydantic import SecretStr

from airberg.errors import ConfigurationFailed
from airberg.flows.credentials import credentials_path, ensure_credentials, load_credentials
from airberg.settings import AirflowSettings, Settings


def test_secrets_are_made_once_and_privately(tmp_path: Path) -> None:
    """The file is made with mode 0600 in a folder of mode 0700, and read again afterwards."""
    settings = Settings(home=tmp_path / "home")
    first = ensure_credentials(settings)
    path = credentials_path(settings)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert ensure_credentials(settings) == first == load_credentials(settings)
    made = [v for k, v in msgspec.to_builtins(first).items() if k != "token"]
    assert len(set(made)) == 6
    assert all(len(secret) >= 16 for secret in made)
    assert len(base64.urlsafe_b64decode(first.fernet_key)) == 32


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    """However many ask for the secrets at once, there is one set of them."""
    settings = Settings(home=tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: ensure_credentials(settings), range(16)))
    assert all(c == found[0] for c in found)


def test_a_setting_wins_and_is_not_stored(tmp_path: Path) -> None:
    """Password, token and bundle token of the settings replace those of the file, which does not change."""
    made = ensure_credentials(Settings(home=tmp_path))
    own = AirflowSettings(
        password=SecretStr("own-password"), token=SecretStr("own-token"), bundle_token=SecretStr("own-bundle")
    )
    found = ensure_credentials(Settings(home=tmp_path, airflow=own))
    assert (found.password, found.token, found.bundle_token) == ("own-password", "own-token", "own-bundle")
    assert found.jwt_secret == made.jwt_secret
    assert "own-" not in credentials_path(Settings(home=tmp_path)).read_text()
    assert ensure_credentials(Settings(home=tmp_path)) == made


def test_nothing_is_shown(tmp_path: Path) -> None:
    """Neither `repr` nor `str` has a secret."""
    made = ensure_credentials(Settings(home=tmp_path))
    shown = f"{made!r} {made} {[made]}"
    assert not [s for s in msgspec.to_builtins(made).values() if s and s in shown]


def test_an_incomplete_file_is_completed(tmp_path: Path) -> None:
    """What an older version did not have is added; what is there stays."""
    settings = Settings(home=tmp_path)
    settings.secrets_dir.mkdir()
    credentials_path(settings).write_text('{"password": "kept", "unknown": 1}')
    found = ensure_credentials(settings)
    assert found.password == "kept"
    assert found.fernet_key


def test_a_broken_file_is_an_error_without_its_content(tmp_path: Path) -> None:
    """A file that is not ours is not overwritten, and its content is not in the message."""
    settings = Settings(home=tmp_path)
    settings.secrets_dir.mkdir()
    credentials_path(settings).write_text("hunter2 is not json")
    with pytest.raises(ConfigurationFailed) as caught:
        ensure_credentials(settings)
    assert "hunter2" not in caught.value.sentence()
    assert credentials_path(settings).read_text() == "hunter2 is not json"


def test_ones_own_airflow_needs_settings(tmp_path: Path) -> None:
    """Without an embedded Airflow nothing is made up: the missing settings are named."""
    with pytest.raises(ConfigurationFailed) as caught:
        load_credentials(Settings(home=tmp_path, airflow=AirflowSettings(embedded=False)))
    assert "AIRBERG_AIRFLOW__PASSWORD" in caught.value.guidance
    assert "AIRBERG_AIRFLOW__BUNDLE_TOKEN" in caught.value.guidance
    assert not credentials_path(Settings(home=tmp_path)).exists()
    own = AirflowSettings(embedded=False, token=SecretStr("t"), bundle_token=SecretStr("b"))
    assert load_credentials(Settings(home=tmp_path, airflow=own)).token == "t"
