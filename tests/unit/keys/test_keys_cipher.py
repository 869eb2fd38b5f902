"""Column ciphers: their bytes, what they bind to, and the text that they encrypt."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import struct
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.errors import ConfigurationFailed, NotFound
from airberg.keys.cipher import OVERHEAD, CipherShelf, ColumnCipher, canonical_text, decrypt_value
from airberg.keys.memory import MemoryKeyStore
from airberg.keys.port import DataKey
from airberg.plan.model import EncryptRule

KEY = DataKey("k", 1, 0x01020304, bytes(range(32)))
AAD = b"s.t.c"
PINNED = "01010203048b915e9e27974f5d10765c2b3f746ca960290d8afc4818b8c973ff0a6b55c967a7"


def stdlib_iv(plaintext: bytes, aad: bytes = AAD) -> bytes:
    """The synthetic IV by the standard library alone: HKDF (RFC 5869) is two HMACs."""
    extracted = hmac.digest(bytes(32), KEY.raw, hashlib.sha256)
    iv_key = hmac.digest(extracted, b"airberg iv v1\x01", hashlib.sha256)
    return hmac.digest(iv_key, struct.pack(">I", len(aad)) + aad + plaintext, hashlib.sha256)[:12]


def test_pinned_vector() -> None:
    """The bytes of a deterministic ciphertext never change: tables hold them."""
    ciphertext = ColumnCipher(KEY, AAD, "deterministic").encrypt_value(b"alice")
    assert ciphertext.hex() == PINNED
    assert ciphertext[:5] == b"\x01\x01\x02\x03\x04"
    assert ciphertext[5:17] == stdlib_iv(b"alice")


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=40), st.sampled_from(["random", "deterministic"]))
def test_round_trip(plaintext: bytes, aad: bytes, mode: str) -> None:
    """Whatever is encrypted decrypts to itself, at a fixed overhead."""
    ciphertext = ColumnCipher(KEY, aad, mode).encrypt_value(plaintext)  # type: ignore[arg-type]  # sampled
    assert len(ciphertext) == len(plaintext) + OVERHEAD
    assert decrypt_value([KEY], ciphertext, aad) == plaintext


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=50), st.binary(max_size=20))
def test_deterministic_iv_is_the_documented_one(plaintext: bytes, aad: bytes) -> None:
    """The IV of any value can be derived with the standard library."""
    cipher = ColumnCipher(KEY, aad, "deterministic")
    assert cipher.encrypt_value(plaintext)[5:17] == stdlib_iv(plaintext, aad)


def test_random_differs_and_deterministic_repeats() -> None:
    """Equal values are equal ciphertexts in one mode only."""
    random, fixed = ColumnCipher(KEY, AAD, "random"), ColumnCipher(KEY, AAD, "deterministic")
    assert len({random.encrypt_value(b"x") for _ in range(20)}) == 20
    assert len({fixed.encrypt_value(b"x") for _ in range(20)}) == 1
    assert fixed.encrypt_value(b"x") != fixed.encrypt_value(b"y")


def test_a_ciphertext_is_bound_to_its_place_key_and_bytes() -> None:
    """Another column, another key, a changed byte and foreign bytes all fail, without content."""
    ciphertext = ColumnCipher(KEY, AAD, "random").encrypt_value(b"s3cret-value")
    other = DataKey("k", 2, 0x01020304, bytes(32))
    stranger = DataKey("k", 3, 5, KEY.raw)
    flipped = ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])
    for keys, data, aad in (
        ([KEY], ciphertext, b"s.t.other"),
        ([other], ciphertext, AAD),
        ([stranger], ciphertext, AAD),
        ([], ciphertext, AAD),
        ([KEY], flipped, AAD),
        ([KEY], b"\x02" + ciphertext[1:], AAD),
        ([KEY], ciphertext[:32], AAD),
        ([KEY], b"", AAD),
    ):
        with pytest.raises(ConfigurationFailed) as e:
            decrypt_value(keys, data, aad)
        assert e.value.code == "cannot-decrypt"
        assert "s3cret" not in e.value.sentence()


def test_the_right_version_is_found_by_its_id() -> None:
    """After a rotation old and new ciphertexts decrypt with the same set of keys."""
    store = MemoryKeyStore()
    store.create("k")
    old = ColumnCipher(store.primary("k"), AAD, "random").encrypt_value(b"old")
    store.rotate("k", actor="ann")
    new = ColumnCipher(store.primary("k"), AAD, "random").encrypt_value(b"new")
    assert [decrypt_value(store.versions("k"), c, AAD) for c in (old, new)] == [b"old", b"new"]


def test_shelf_uses_the_new_version_at_random_and_the_oldest_for_equality() -> None:
    """A rotation must not break the merge by a deterministic column."""
    store = MemoryKeyStore()
    random = EncryptRule(key_name="k", mode="random", aad="a")
    fixed = EncryptRule(key_name="k", mode="deterministic", aad="k")
    first = store.create("k")
    before = CipherShelf(store).cipher_for(fixed).encrypt_value(b"x")
    second = store.rotate("k", actor="ann")
    shelf = CipherShelf(store)
    assert shelf.cipher_for(fixed).encrypt_value(b"x") == before
    assert shelf.cipher_for(fixed) is shelf.cipher_for(fixed)
    assert before[1:5] == first.key_id.to_bytes(4, "big")
    assert shelf.cipher_for(random).encrypt_value(b"x")[1:5] == second.key_id.to_bytes(4, "big")


def test_shelf_stays_with_the_version_that_it_is_told() -> None:
    """Equality holds under one version; without it there is no cipher, rather than another one."""
    store = MemoryKeyStore()
    store.create("k")
    second = store.rotate("k", actor="ann")
    fixed = EncryptRule(key_name="k", mode="deterministic", aad="k")
    told = CipherShelf(store, {"k": 2}).cipher_for(fixed)
    assert told.encrypt_value(b"x")[1:5] == second.key_id.to_bytes(4, "big")
    store.disable("k", actor="ann", version=1)
    with pytest.raises(ConfigurationFailed) as e:
        CipherShelf(store, {"k": 1}).cipher_for(fixed)
    assert e.value.code == "key-version-unusable"


def test_shelf_without_the_key() -> None:
    """A key that is gone is reported as such."""
    with pytest.raises(NotFound):
        CipherShelf(MemoryKeyStore()).cipher_for(EncryptRule(key_name="k", mode="random", aad="a"))


UTC = dt.UTC
EAST = dt.timezone(dt.timedelta(hours=5))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, b"1"),
        (-(10**37), b"-10000000000000000000000000000000000000"),
        (Decimal("1.50"), b"1.50"),
        (Decimal("0E-9"), b"0.000000000"),
        (1.5, b"1.5"),
        (True, b"true"),
        (False, b"false"),
        ("ünï", "ünï".encode()),
        ("", b""),
        (b"\x00\xff", b"\x00\xff"),
        (dt.date(26, 1, 2), b"0026-01-02"),
        (dt.time(3, 4, 5), b"03:04:05.000000"),
        (dt.datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC), b"2026-01-02T03:04:05.123456Z"),
        (dt.datetime(2026, 1, 2, 8, 4, 5, tzinfo=EAST), b"2026-01-02T03:04:05.000000Z"),
        (dt.datetime(2026, 1, 2, 3, 4, 5, 123456), b"2026-01-02T03:04:05.123456"),
        (
            {"b": 1, "a": ["é", None, True, 1.5, Decimal("1.10")]},
            '{"a":["é",null,true,1.5,1.10],"b":1}'.encode(),
        ),
        ([], b"[]"),
    ],
)
def test_canonical_text(value: object, text: bytes) -> None:
    """Each type has one text."""
    assert canonical_text(value) == text


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
    lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(max_size=5), c, max_size=3),
    max_leaves=10,
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), JSON, max_size=4))
def test_canonical_json_is_json_and_ignores_order(value: dict[str, object]) -> None:
    """The text of an object reads back as that object, whatever order its members had."""
    turned = dict(reversed(list(value.items())))
    assert canonical_text(value) == canonical_text(turned)
    assert json.loads(canonical_text(value)) == value


def test_canonical_text_of_an_unknown_type() -> None:
    """What no column holds is refused."""
    with pytest.raises(TypeError):
        canonical_text(object())
