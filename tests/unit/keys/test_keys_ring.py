"""Several key-encryption keys of one deployment."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from airberg.errors import ConfigurationFailed
from airberg.keys.kek import LocalKek
from airberg.keys.open import open_kek
from airberg.keys.ring import KekRing
from airberg.settings import KeySettings, Settings

CONTEXT = {"name": "crm", "version": "2", "id": "7"}
MASTER = base64.b64encode(b"m" * 32).decode()
AWS = "aws-kms://alias/airberg?region=eu-west-1"
VAULT = "vault-transit://vault.example.com/transit/airberg"
GCP = "gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k"
PKCS11 = "pkcs11://token/key?module=/usr/lib/softhsm/libsofthsm2.so"


class Named(LocalKek):
    """A local key under another name."""

    def __init__(self, uri: str, key: bytes) -> None:
        super().__init__([key])
        self.uri = uri


A, B, C = (Named(f"test://{name}", name.encode() * 32) for name in "abc")


def test_one_wraps_and_all_unwrap() -> None:
    """Each blob is opened by the key that is recorded with it."""
    ring = KekRing(B, A)
    assert ring.unwrap_from("test://a", A.wrap(b"d", CONTEXT), CONTEXT) == b"d"
    assert B.unwrap(ring.wrap(b"e", CONTEXT), CONTEXT) == b"e"
    assert ring.unwrap(ring.wrap(b"e", CONTEXT), CONTEXT) == b"e"
    assert (ring.uri, ring.uris, ring.current) == ("test://b", ("test://b", "test://a"), B)


def test_a_key_that_is_not_configured_names_both() -> None:
    """The recorded one and those that are there, and what to set."""
    with pytest.raises(ConfigurationFailed) as e:
        KekRing(B, C).unwrap_from("test://a", A.wrap(b"d", CONTEXT), CONTEXT)
    assert e.value.code == "kek-not-configured"
    assert all(text in e.value.message for text in ("'crm', version 2", "test://a", "test://b", "test://c"))
    assert "AIRBERG_KEYS__PREVIOUS_KEKS" in e.value.guidance


def test_the_wrong_record_does_not_open() -> None:
    """A record that names another key of the ring is not tried with the right one."""
    with pytest.raises(ConfigurationFailed) as e:
        KekRing(B, A).unwrap_from("test://b", A.wrap(b"d", CONTEXT), CONTEXT)
    assert e.value.code == "cannot-unwrap-key"


def test_of_the_same_identity_the_current_one_counts() -> None:
    """Also when one more is added."""
    older, newer = Named("test://x", b"1" * 32), Named("test://x", b"2" * 32)
    blob = newer.wrap(b"d", CONTEXT)
    for ring in (KekRing(newer, older), KekRing(newer).also(older)):
        assert ring.unwrap_from("test://x", blob, CONTEXT) == b"d"
        assert ring.uris == ("test://x",)


def test_a_ring_of_one() -> None:
    """A key alone becomes a ring; a ring stays what it is."""
    ring = KekRing.of(A)
    assert ring.uris == ("test://a",)
    assert KekRing.of(ring) is ring
    assert ring.also(B).uris == ("test://a", "test://b")


# ---- from settings -----------------------------------------------------------------------------------------


def test_keys_of_the_settings(tmp_path: Path) -> None:
    """The current one and the previous ones, none of which is asked for anything."""
    keys = KeySettings(
        kek=AWS,
        previous_keks=("local", VAULT, GCP, PKCS11),
        master_key=SecretStr(MASTER),
        vault_token=SecretStr("hvs.secret"),
        pkcs11_pin=SecretStr("hvs.secret"),
    )
    ring = open_kek(Settings(home=tmp_path, keys=keys))
    assert ring.uri == AWS
    assert set(ring.uris) == {
        AWS,
        "local://master",
        GCP,
        "vault-transit://vault.example.com:8200/transit/airberg",
        "pkcs11://token/key",
    }
    assert "hvs.secret" not in f"{ring!r} {keys!r}"


def test_the_master_key_is_not_needed_where_it_is_not_used(tmp_path: Path) -> None:
    """Only `local`, as current or previous key, reads it."""
    assert open_kek(Settings(home=tmp_path, keys=KeySettings(kek=AWS))).uris == (AWS,)
    for keys in (KeySettings(), KeySettings(kek=AWS, previous_keks=("local",))):
        with pytest.raises(ConfigurationFailed) as e:
            open_kek(Settings(home=tmp_path, keys=keys))
        assert e.value.code == "no-master-key"


@pytest.mark.parametrize(
    ("address", "library", "extra"),
    [
        (AWS, "boto3", "aws-kms"),
        (VAULT, "hvac", "vault"),
        (GCP, "google.cloud.kms_v1", "gcp-kms"),
        (GCP, "google_crc32c", "gcp-kms"),
        (PKCS11, "pkcs11", "pkcs11"),
    ],
)
def test_a_client_library_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, library: str, extra: str
) -> None:
    """It says which extra to install."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigurationFailed) as e:
        open_kek(Settings(home=tmp_path, keys=KeySettings(kek=address)))
    assert e.value.code == "kek-driver-missing"
    assert library in e.value.message
    assert f"airberg[{extra}]" in e.value.guidance
