"""Hashes of columns: pinned, keyed, joinable, and the same for whole arrays."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.errors import ConfigurationFailed
from airberg.keys.cipher import CipherShelf
from airberg.keys.hashing import ColumnHash
from airberg.keys.memory import MemoryKeyStore
from airberg.keys.port import DataKey
from airberg.plan.model import HashRule
from support.ciphers import CIPHER_WAYS, ciphered_by

KEY = DataKey("k", 1, 7, bytes(range(32)))


@pytest.fixture(scope="module", params=CIPHER_WAYS, autouse=True)
def _way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test is about the compiled hash and about Python's."""
    with ciphered_by(request.param):
        yield


def test_a_hash_by_the_standard_library_alone() -> None:
    """HKDF-SHA256 (RFC 5869) without salt gives the key, HMAC-SHA256 the hash: for everybody to compute."""
    extracted = hmac.digest(bytes(32), KEY.raw, "sha256")
    derived = hmac.digest(extracted, b"airberg hash v1\x01", "sha256")
    expected = hmac.digest(derived, b"ann@example.com", "sha256").hex()
    assert ColumnHash(KEY).hash_value(b"ann@example.com") == expected
    assert expected == "bdabc0c4d3120b7bb6fd4ed1728e4ae819e2a688aae72cab0f5fb83fd53a5002"


def test_it_is_no_plain_hash_and_no_other_key_gives_it() -> None:
    """Who has a list of all addresses cannot find one by hashing them."""
    other = DataKey("k", 1, 7, bytes(range(1, 33)))
    values = {ColumnHash(k).hash_value(b"a@b.c") for k in (KEY, other)}
    assert len(values | {hashlib.sha256(b"a@b.c").hexdigest()}) == 3


@settings(max_examples=50, deadline=None)
@given(st.lists(st.none() | st.binary(max_size=70), max_size=12))
def test_an_array_is_hashed_like_its_values(values: list[bytes | None]) -> None:
    """Nulls stay null, and a slice is hashed alone."""
    hasher = ColumnHash(KEY)
    made = hasher.hash_array(pa.array([b"x", *values], pa.binary()).slice(1))
    assert made.type == pa.string()
    assert made.to_pylist() == [None if v is None else hasher.hash_value(v) for v in values]


def test_values_that_repeat() -> None:
    """The same, however many there are of each."""
    hasher = ColumnHash(KEY)
    texts = [None if i % 7 == 0 else f"user {i % 11}" for i in range(5_000)]
    made = hasher.hash_array(pa.array(texts)).to_pylist()
    assert made == [None if t is None else hasher.hash_value(t.encode()) for t in texts]


def test_other_types_are_refused() -> None:
    """What has no bytes of its own is given as text."""
    with pytest.raises(TypeError):
        ColumnHash(KEY).hash_array(pa.array([1]))


def test_hashes_stay_with_a_version() -> None:
    """The oldest in use, or the one that the table notes: with another one nothing would be found again."""
    store = MemoryKeyStore()
    store.create("crm")
    rule = HashRule(key_name="crm")
    first = CipherShelf(store).cipher_for(rule).hash_value(b"x")
    store.rotate("crm", actor="ann")
    assert CipherShelf(store).cipher_for(rule).hash_value(b"x") == first
    assert CipherShelf(store, {"crm": 1}).cipher_for(rule).hash_value(b"x") == first
    second = CipherShelf(store, {"crm": 2}).cipher_for(rule).hash_value(b"x")
    assert second != first
    store.disable("crm", actor="ann", version=1)
    assert CipherShelf(store).cipher_for(rule).hash_value(b"x") == second
    with pytest.raises(ConfigurationFailed) as e:
        CipherShelf(store, {"crm": 1}).cipher_for(rule)
    assert e.value.code == "key-version-unusable"
