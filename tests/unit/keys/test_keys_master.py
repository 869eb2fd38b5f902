"""Master keys, wrapping and sealing."""

from __future__ import annotations

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr

from airberg.errors import ConfigurationFailed
from airberg.keys.kek import (
    LocalKek,
    MasterCipher,
    ensure_master_key,
    load_master_key,
    master_key_path,
)
from airberg.keys.seal import Sealer
from airberg.settings import KeySettings, Settings

OLD, NEW = bytes(range(32)), bytes(range(32, 64))  # fixed: they are in the names of tests


def with_key(home: Path, text: str | None = None) -> Settings:
    """Settings of a home, with the master key given as a setting or not."""
    return Settings(home=home, keys=KeySettings(master_key=SecretStr(text) if text is not None else None))


def encoded(*keys: bytes) -> str:
    """Keys as the setting has them."""
    return ",".join(base64.b64encode(k).decode() for k in keys)


# ---- the master key ----------------------------------------------------------------------------------------


def test_the_setting_wins_over_the_file(tmp_path: Path) -> None:
    """With a setting, the file is neither made nor read."""
    ensure_master_key(with_key(tmp_path))
    settings = with_key(tmp_path, encoded(NEW, OLD))
    assert load_master_key(settings) == [NEW, OLD]
    assert ensure_master_key(with_key(tmp_path / "other", encoded(NEW))) is None
    assert not (tmp_path / "other").exists()


def test_the_file_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    """A fresh home gets a key file 0600 in a folder 0700, which stays as it is."""
    settings = with_key(tmp_path / "home")
    path = ensure_master_key(settings)
    assert path == master_key_path(settings)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    keys = load_master_key(settings)
    assert [len(k) for k in keys] == [32]
    assert ensure_master_key(settings) is None
    assert load_master_key(settings) == keys
    assert [p.name for p in path.parent.iterdir()] == ["master.key"]


def test_many_at_once_make_one_file(tmp_path: Path) -> None:
    """Of many that find no file, one makes it, and nobody sees half of it."""
    settings = with_key(tmp_path)

    def ensure_and_load(_: int) -> tuple[bool, bytes]:
        return ensure_master_key(settings) is not None, load_master_key(settings)[0]

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(ensure_and_load, range(16)))
    assert sum(made for made, _ in seen) == 1
    assert len({key for _, key in seen}) == 1
    assert [p.name for p in settings.secrets_dir.iterdir()] == ["master.key"]


def test_no_key_at_all(tmp_path: Path) -> None:
    """Without setting and file the error says what to set."""
    with pytest.raises(ConfigurationFailed, match="no master key") as e:
        load_master_key(with_key(tmp_path))
    assert "AIRBERG_KEYS__MASTER_KEY" in e.value.guidance


@pytest.mark.parametrize("text", ["", "?", "c2hvcnQ=", encoded(NEW) + ",", encoded(NEW) + ",x", "ä"])
def test_ill_formed_keys(tmp_path: Path, text: str) -> None:
    """What is not base64 of 32 bytes is refused, from either place, without showing it."""
    for_file = with_key(tmp_path)
    for_file.secrets_dir.mkdir()
    master_key_path(for_file).write_text(text, encoding="utf-8")
    for settings in (for_file, with_key(tmp_path, text)):
        with pytest.raises(ConfigurationFailed) as e:
            load_master_key(settings)
        assert e.value.code == "bad-master-key"
        assert encoded(NEW) not in e.value.sentence()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A home that is a file is a configuration error, not a crash."""
    (tmp_path / "home").write_text("")
    with pytest.raises(ConfigurationFailed, match="cannot be written"):
        ensure_master_key(with_key(tmp_path / "home"))


def test_an_unreadable_file(tmp_path: Path) -> None:
    """A folder in the place of the file is a configuration error."""
    settings = with_key(tmp_path)
    master_key_path(settings).mkdir(parents=True)
    with pytest.raises(ConfigurationFailed, match="cannot be read"):
        load_master_key(settings)


# ---- wrapping ----------------------------------------------------------------------------------------------

CONTEXT = {"name": "crm", "version": "1", "id": "7"}


def test_wrapped_keys_open_in_their_place_only() -> None:
    """Another context, another key and a changed byte are refused."""
    kek = LocalKek([NEW])
    blob = kek.wrap(b"d" * 32, CONTEXT)
    assert kek.unwrap(blob, dict(reversed(list(CONTEXT.items())))) == b"d" * 32
    changed = blob[:-1] + bytes([blob[-1] ^ 1])
    for opener, data, context in (
        (kek, blob, {**CONTEXT, "version": "2"}),
        (LocalKek([OLD]), blob, CONTEXT),
        (kek, changed, CONTEXT),
        (kek, b"", CONTEXT),
    ):
        with pytest.raises(ConfigurationFailed) as e:
            opener.unwrap(data, context)
        assert e.value.code == "cannot-unwrap-key"


def test_rotation_of_the_master_key() -> None:
    """The first key wraps; what older ones wrapped still opens while they are given."""
    blob = LocalKek([OLD]).wrap(b"d" * 32, CONTEXT)
    both = LocalKek([NEW, OLD])
    assert both.unwrap(blob, CONTEXT) == b"d" * 32
    assert LocalKek([NEW]).unwrap(both.wrap(b"d" * 32, CONTEXT), CONTEXT) == b"d" * 32


@pytest.mark.parametrize("keys", [[], [b"short"], [NEW, b""]])
def test_master_keys_of_the_wrong_size(keys: list[bytes]) -> None:
    """Only 32-byte keys make a cipher."""
    with pytest.raises(ValueError, match="32 bytes"):
        LocalKek(keys)


# ---- sealing -----------------------------------------------------------------------------------------------


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300), st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3))
def test_seal_round_trip(plaintext: bytes, context: dict[str, str]) -> None:
    """What is sealed opens in the same context."""
    sealer = Sealer([NEW])
    assert sealer.open(sealer.seal(plaintext, context), context) == plaintext


def test_sealed_values_are_bound_and_versioned() -> None:
    """Other contexts, keys, versions and bytes are refused without showing anything."""
    sealer = Sealer([NEW])
    blob = sealer.seal(b"top-secret", {"job": "1"})
    assert blob[0] == 1
    assert b"top-secret" not in blob
    assert blob != sealer.seal(b"top-secret", {"job": "1"})
    for opener, data, context in (
        (sealer, blob, {"job": "2"}),
        (sealer, blob, {}),
        (Sealer([OLD]), blob, {"job": "1"}),
        (sealer, b"\x02" + blob[1:], {"job": "1"}),
        (sealer, blob[:10], {"job": "1"}),
    ):
        with pytest.raises(ConfigurationFailed) as e:
            opener.open(data, context)
        assert e.value.code == "cannot-open-sealed"
        assert "top-secret" not in e.value.sentence()


def test_sealing_survives_a_new_master_key() -> None:
    """With the older key behind the new one, what was sealed still opens."""
    blob = Sealer([OLD]).seal(b"x", {})
    assert Sealer([NEW, OLD]).open(blob, {}) == b"x"


def test_sealing_and_wrapping_do_not_open_each_other() -> None:
    """Each purpose has a key of its own."""
    with pytest.raises(ConfigurationFailed):
        LocalKek([NEW]).unwrap(Sealer([NEW]).seal(b"x", {}), {})


def test_master_keys_are_not_shown() -> None:
    """Neither repr has key bytes."""
    for thing in (LocalKek([NEW]), Sealer([NEW]), MasterCipher([NEW], b"x")):
        assert repr(NEW) not in repr(thing)
        assert NEW.hex() not in repr(thing)
