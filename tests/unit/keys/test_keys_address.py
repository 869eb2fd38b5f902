"""Addresses of key-encryption keys: what is read, what is recorded, what is refused."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from airberg.keys.address import LOCAL, MAX_IDENTITY, parse_kek_address
from airberg.settings import KeySettings

ARN = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
GCP = "projects/p-1/locations/europe-west1/keyRings/ring/cryptoKeys/airberg"
utf8 = st.characters(codec="utf-8")
MODULE = "module=/usr/lib/softhsm/libsofthsm2.so"


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        ("local", LOCAL),
        (LOCAL, LOCAL),
        ("aws-kms://alias/airberg?region=eu-west-1", "aws-kms://alias/airberg?region=eu-west-1"),
        (
            "aws-kms://alias/airberg?profile=p&region=eu-west-1&endpoint=https://kms.example.com",
            "aws-kms://alias/airberg?region=eu-west-1",
        ),
        (f"aws-kms://{ARN}", f"aws-kms://{ARN}"),
        (f"aws-kms://{ARN}?region=eu-west-1&endpoint=http://127.0.0.1:5000", f"aws-kms://{ARN}"),
        (
            "vault-transit://Vault.example.com/transit/airberg",
            "vault-transit://vault.example.com:8200/transit/airberg",
        ),
        (
            "vault-transit://10.0.0.1:8300/team/transit/a?namespace=admin/team&token_file=/run/t",
            "vault-transit://10.0.0.1:8300/team/transit/a?namespace=admin/team",
        ),
        (
            "vault-transit://[::1]:8200/transit/a?endpoint=http://[::1]:8200",
            "vault-transit://[::1]:8200/transit/a",
        ),
        (f"gcp-kms://{GCP}", f"gcp-kms://{GCP}"),
        (f"gcp-kms://{GCP}?endpoint=https://cloudkms.example.com", f"gcp-kms://{GCP}"),
        (f"pkcs11://My%20token/key?{MODULE}&pin_file=/run/pin", "pkcs11://My%20token/key"),
        (f"pkcs11://t/a%2Fb?id=0AFF&{MODULE}", "pkcs11://t/a%2Fb?id=0aff"),
    ],
)
def test_the_identity_leaves_out_how_a_key_is_reached(text: str, identity: str) -> None:
    """Options of the way are not recorded; an identity is an address of the same key."""
    assert parse_kek_address(text).identity == identity
    assert KeySettings(kek=text).kek == text


def test_parts() -> None:
    """What a backend needs is read, percent-encoding undone."""
    vault = parse_kek_address("vault-transit://v.example.com/a/b/key?namespace=n")
    assert dict(vault.parts) == {"host": "v.example.com:8200", "mount": "a/b", "key": "key"}
    assert dict(parse_kek_address(f"aws-kms://{ARN}").parts) == {"key": ARN, "region": "eu-west-1"}
    hsm = parse_kek_address(f"pkcs11://My%20token/k%2F1?{MODULE}&id=0a")
    assert dict(hsm.parts) == {"token": "My token", "label": "k/1", "id": "0a"}
    assert dict(hsm.options) == {"module": MODULE.removeprefix("module="), "id": "0a"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Local",
        "local?x=1",
        "https://example.com/key",
        "aws-kms:alias/airberg",
        "aws-kms://alias/airberg",
        "aws-kms://airberg?region=eu-west-1",
        "aws-kms://alias/airberg?region=EU",
        "aws-kms://alias/airberg?region=eu-west-1&region=eu-west-2",
        "aws-kms://alias/airberg?region=eu-west-1&secret=x",
        "aws-kms://alias/airberg?region",
        "aws-kms://alias/airberg?region=",
        f"aws-kms://{ARN}?region=us-east-1",
        f"aws-kms://alias/{'a' * 200}?region=eu-west-1",
        "aws-kms://alias/a?region=eu-west-1&endpoint=http://kms.example.com",
        "aws-kms://alias/a?region=eu-west-1&endpoint=kms.example.com",
        "aws-kms://alias/a?region=eu-west-1&endpoint=https://user:pw@kms.example.com",
        "aws-kms://alias/a?region=eu-west-1&endpoint=ftp://127.0.0.1",
        "vault-transit://vault.example.com/airberg",
        "vault-transit://token@vault.example.com/transit/airberg",
        "vault-transit://vault.example.com:0/transit/airberg",
        "vault-transit://vault.example.com:99999/transit/airberg",
        "vault-transit://vault.example.com/transit/../airberg/",
        "vault-transit://v.example.com/transit/a?endpoint=http://v.example.com:8200",
        f"gcp-kms://{GCP}/cryptoKeyVersions/1",
        "gcp-kms://projects/p/locations/l/keyRings/r",
        "pkcs11://token/key",
        "pkcs11://token/key?module=libsofthsm2.so",
        f"pkcs11://token?{MODULE}",
        f"pkcs11://token/key?{MODULE}&pin=1234",
        f"pkcs11://token/key?{MODULE}&id=abc",
    ],
)
def test_what_is_no_address(text: str) -> None:
    """It is refused when the settings are read."""
    with pytest.raises(ValueError, match=r"."):
        parse_kek_address(text)
    for settings in ({"kek": text}, {"previous_keks": ["local", text]}):
        with pytest.raises(ValidationError):
            KeySettings(**settings)


def test_refusals_do_not_repeat_what_was_given() -> None:
    """Somebody will try to put a secret there."""
    for text in (
        "vault-transit://hvs.secret@vault.example.com/transit/airberg",
        f"pkcs11://token/key?{MODULE}&hvs.secret=1",
        f"pkcs11://token/key?{MODULE}&pin=hvs.secret",
        "hvs.secret://x",
    ):
        with pytest.raises(ValueError, match=r".") as e:
            parse_kek_address(text)
        assert "hvs.secret" not in str(e.value)


@hypothesis_settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=40) | st.from_regex(r"(aws-kms|vault-transit|gcp-kms|pkcs11)://.{0,40}", fullmatch=True)
)
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """Nothing else is raised, and identities fit into their column."""
    try:
        found = parse_kek_address(text)
    except ValueError:
        return
    assert len(found.identity) <= MAX_IDENTITY


@given(st.text(utf8, min_size=1, max_size=6), st.text(utf8, min_size=1, max_size=6))
def test_any_labels_of_a_token(token: str, label: str) -> None:
    """Percent-encoded labels come back as they are; different ones have different identities."""
    address = f"pkcs11://{quote(token, safe='')}/{quote(label, safe='')}?{MODULE}"
    found = parse_kek_address(address)
    assert (found.parts["token"], found.parts["label"]) == (token, label)
    assert found.identity == address.partition("?")[0]
