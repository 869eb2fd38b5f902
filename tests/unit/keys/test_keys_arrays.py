"""Whole arrays encrypted and decrypted, by the compiled cipher and by Python: the same as value by value."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.errors import ConfigurationFailed
from airberg.keys.arrays import decrypt_array
from airberg.keys.cipher import ColumnCipher, decrypt_value
from airberg.keys.port import DataKey
from airberg.plan.model import EncryptionMode
from support.ciphers import CIPHER_WAYS, ciphered_by

KEY = DataKey("k", 1, 0x01020304, bytes(range(32)))
NEXT = DataKey("k", 2, 0x0A0B0C0D, bytes(range(1, 33)))
AAD = b"s.t.c"
TYPES = (pa.string(), pa.binary(), pa.large_string(), pa.large_binary())
MODES: tuple[EncryptionMode, ...] = ("random", "deterministic")


@pytest.fixture(scope="module", params=CIPHER_WAYS, autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test is about both."""
    with ciphered_by(request.param):
        yield request.param


def cipher(mode: EncryptionMode = "random", key: DataKey = KEY, aad: bytes = AAD) -> ColumnCipher:
    """A cipher of a column."""
    return ColumnCipher(key, aad, mode)


def sliced(texts: list[str | None], kind: pa.DataType, skip: int = 0) -> pa.Array:
    """The array of some texts; `skip` others were cut off before them, and one behind."""
    values = [None if t is None else t.encode() for t in ["x", None, "yy"][:skip] + texts + ["z"]]
    whole = pa.array(values, pa.large_binary()).cast(kind)
    return whole.slice(skip, len(texts))


def plain(array: pa.Array) -> list[Any]:
    """The values as bytes."""
    large = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    values: list[Any] = array.cast(pa.large_binary() if large else pa.binary()).to_pylist()
    return values


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=70), max_size=12),
    kind=st.sampled_from(TYPES),
    skip=st.integers(0, 3),
    aad=st.binary(max_size=150),
    mode=st.sampled_from(MODES),
)
def test_an_array_is_encrypted_like_its_values(
    texts: list[str | None], kind: pa.DataType, skip: int, aad: bytes, mode: EncryptionMode
) -> None:
    """Any type of text or bytes, nulls, slices: every ciphertext is one of its value, and decrypts to it."""
    values = sliced(texts, kind, skip)
    found = cipher(mode, aad=aad).encrypt_array(values)
    found.validate(full=True)
    assert found.type == (pa.large_binary() if "large" in str(kind) else pa.binary())
    one = cipher(mode, aad=aad)
    for value, sealed in zip(plain(values), found.to_pylist(), strict=True):
        assert (value is None) == (sealed is None)
        if sealed is not None:
            assert decrypt_value([KEY], sealed, aad) == value
            assert mode == "random" or sealed == one.encrypt_value(value)
    opened = decrypt_array([NEXT, KEY], found, aad)
    opened.validate(full=True)
    assert opened.type == found.type
    assert opened.to_pylist() == plain(values)


@pytest.mark.parametrize("mode", MODES)
def test_ciphertexts_of_single_values_and_of_another_way_decrypt(mode: EncryptionMode, way: str) -> None:
    """What one way has encrypted the other one decrypts, and so does the cipher of single values."""
    values = pa.array([None if i % 5 == 2 else "v" * i for i in range(80)], pa.string())
    one = cipher(mode)
    singly = pa.array([None if v is None else one.encrypt_value(v.encode()) for v in values.to_pylist()])
    with ciphered_by("python" if way == "native" else "native"):
        elsewhere = one.encrypt_array(values)
    for sealed in (singly, elsewhere):
        assert decrypt_array([KEY], sealed, AAD).cast(pa.string()) == values


@pytest.mark.parametrize("mode", MODES)
def test_lengths_around_the_blocks_of_cipher_and_hash(mode: EncryptionMode) -> None:
    """Every length up to four blocks of SHA-256, with associated data that ends anywhere in a block."""
    values = pa.array([b"v" * size for size in range(260)], pa.binary())
    for aad in (b"", b"a" * 10, b"a" * 60, b"a" * 64, b"a" * 200):
        one = cipher(mode, aad=aad)
        found = one.encrypt_array(values)
        assert decrypt_array([KEY], found, aad) == values
        if mode == "deterministic":
            assert found.to_pylist() == [one.encrypt_value(v) for v in values.to_pylist()]


def test_values_of_a_megabyte() -> None:
    """Large values among small ones."""
    values = pa.array([b"", bytes(1_000_003), b"x", b"\xff" * 1_048_576, None], pa.large_binary())
    for mode in MODES:
        found = cipher(mode).encrypt_array(values)
        assert decrypt_array([KEY], found, AAD) == values
        assert decrypt_value([KEY], found[3].as_py(), AAD) == b"\xff" * 1_048_576


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("distinct", [1, 300, 100_000])
def test_many_values(mode: EncryptionMode, distinct: int) -> None:
    """More than any block of work, whether values repeat or not; random ciphertexts never repeat."""
    values = pa.array([None if i % 17 == 3 else f"value {i % distinct}" for i in range(10_007)], pa.string())
    found = cipher(mode).encrypt_array(values)
    found.validate(full=True)
    assert decrypt_array([KEY], found, AAD).cast(pa.string()) == values
    there = found.drop_null()
    ivs = {sealed[5:17] for sealed in there.to_pylist()}
    assert len(ivs) == (len(there) if mode == "random" else len(values.drop_null().unique()))


@pytest.mark.parametrize("kind", TYPES)
def test_empty_arrays_and_arrays_of_nulls(kind: pa.DataType) -> None:
    """Nothing to do is no special case."""
    for values in (pa.array([], kind), pa.array([None, None], kind), pa.array(["a"], kind).slice(1)):
        found = cipher().encrypt_array(values)
        assert len(found) == len(values) == found.null_count
        assert len(decrypt_array([KEY], found, AAD)) == len(values)


def test_rotated_values_are_decrypted_each_by_its_version() -> None:
    """One column may hold values of any number of versions."""
    old = cipher(key=KEY).encrypt_array(pa.array(["old", None]))
    new = cipher(key=NEXT).encrypt_array(pa.array(["new"]))
    assert decrypt_array([KEY, NEXT], pa.concat_arrays([new, old, new]), AAD).to_pylist() == [
        *(b"new", b"old", None, b"new"),
    ]


def damaged(sealed: bytes) -> list[tuple[bytes, str]]:
    """Ciphertexts that do not decrypt, and what is said of them."""
    foreign, mismatch = "it is not a ciphertext", "the key or the associated data is another one"
    return [
        (b"", foreign),
        (sealed[:32], foreign),
        (b"\x02" + sealed[1:], foreign),
        (sealed[:1] + b"\x00\x00\x00\x63" + sealed[5:], "the key with id 00000063 is not there"),
        (sealed[:20] + bytes([sealed[20] ^ 1]) + sealed[21:], mismatch),
        (sealed[:-1] + bytes([sealed[-1] ^ 1]), mismatch),
        (sealed + b"x", mismatch),
    ]


@pytest.mark.parametrize("place", range(7))
def test_a_value_that_does_not_decrypt_is_named_by_its_row(place: int) -> None:
    """The first of them, with the reason, and nothing of any value."""
    sealed = cipher().encrypt_array(pa.array(["s3cret-one", None, "s3cret-two"], pa.string()))
    bad, why = damaged(sealed[2].as_py())[place]
    values = pa.array([None, sealed[0].as_py(), None, bad, b""], pa.binary()).slice(1)
    with pytest.raises(ConfigurationFailed, match="The value in row 2 cannot be decrypted: " + why) as e:
        decrypt_array([KEY], values, AAD)
    assert e.value.code == "cannot-decrypt"
    assert "s3cret" not in e.value.sentence()
    with pytest.raises(ConfigurationFailed, match="The value in row 102 "):
        decrypt_array([KEY], values, AAD, first_row=100)


def test_another_key_or_place_does_not_decrypt() -> None:
    """Neither with a key of the same id, nor with other associated data, nor without keys."""
    values = cipher().encrypt_array(pa.array(["x"]))
    for keys, aad in (([DataKey("k", 1, KEY.key_id, bytes(32))], AAD), ([KEY], b"s.t.d"), ([], AAD)):
        with pytest.raises(ConfigurationFailed, match="row 0"):
            decrypt_array(keys, values, aad)


@pytest.mark.parametrize("kind", [pa.int64(), pa.list_(pa.binary()), pa.binary(3)])
def test_other_types_are_refused(kind: pa.DataType) -> None:
    """Only text has a ciphertext."""
    values = pa.array([None], kind)
    with pytest.raises(TypeError):
        cipher().encrypt_array(values)
    with pytest.raises(TypeError):
        decrypt_array([KEY], values, AAD)


def test_ciphertexts_beyond_the_offsets_are_refused() -> None:
    """A value whose ciphertext needs 64-bit offsets. Its memory is never looked at, so it takes none."""
    size = 2**31 - 20
    offsets = pa.array([0, size], pa.int32()).buffers()[1]
    values = pa.Array.from_buffers(pa.binary(), 1, [None, offsets, pa.py_buffer(mmap.mmap(-1, size))])
    with pytest.raises(pa.ArrowCapacityError, match="large_binary"):
        cipher().encrypt_array(values)
