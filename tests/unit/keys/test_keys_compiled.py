"""The compiled cipher itself: what it is given, what it refuses, and threads."""

from __future__ import annotations

import hashlib
import hmac
import mmap
import struct
import subprocess
import sys
import threading
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airberg.keys import compiled
from airberg.keys.cipher import ColumnCipher
from airberg.keys.port import DataKey

pytestmark = pytest.mark.skipif(compiled.cipher() is None, reason="built without a compiler, or no libcrypto")

KEY = bytes(range(32))
HEAD = b"\x01\x00\x00\x00\x07"
ENDS = struct.pack("<4i", 0, 1, 1, 3)
TEXTS = (3, 0, False, None, ENDS, b"abc")


def native() -> Any:
    """The module."""
    assert compiled.compiled is not None
    return compiled.compiled


def encrypt(
    texts: Any = TEXTS, key: bytes = KEY, iv_key: bytes | None = None, head: bytes = HEAD, threads: int = 1
) -> Any:
    """A call with one thing changed."""
    return native().encrypt(key, iv_key, b"", head, b"aad", threads, texts)


def test_a_call_and_its_way_back() -> None:
    """Offsets, values and no nulls; the way back gives what was given."""
    validity, ends, chars = encrypt()
    assert validity is None
    assert struct.unpack("<4i", ends) == (0, 34, 67, 102)
    assert native().decrypt(((7, KEY),), b"aad", 1, (3, 0, False, None, ends, chars)) == (None, ENDS, b"abc")
    assert native().decrypt(((8, KEY),), b"aad", 1, (3, 0, False, None, ends, chars)) == (0, 2, 7)
    assert native().decrypt(((7, KEY),), b"add", 1, (3, 0, False, None, ends, chars)) == (0, 3, 7)


@pytest.mark.parametrize(
    "texts",
    [
        (3, 0, False, None, ENDS[:-1], b"abc"),
        (3, 1, False, None, ENDS, b"abc"),
        (3, 0, True, None, ENDS, b"abc"),
        (3, 0, False, None, struct.pack("<4i", 0, 4, 4, 4), b"abc"),
        (3, 0, False, None, None, None),
        (3, 0, False, b"", ENDS, b"abc"),
        (3, 7, False, b"\x00", ENDS * 9, b"abc"),
        (-1, 0, False, None, ENDS, b"abc"),
        (1, -1, False, None, ENDS, b"abc"),
        (2**60, 0, False, None, ENDS, b"abc"),
        (3, 2**61, False, None, ENDS, b"abc"),
        (1, 0, False, None, struct.pack("<2i", 2, 1), b"abc"),
        (1, 0, False, None, struct.pack("<2i", -1, 1), b"abc"),
        (1, 0, True, None, struct.pack("<2q", 0, 2**62), b"abc"),
        [],
        None,
    ],
)
def test_arrays_that_are_none_are_refused(texts: Any) -> None:
    """Nothing outside of the memory that was given is read."""
    for call in (
        lambda: encrypt(texts),
        lambda: encrypt(texts, iv_key=KEY),
        lambda: native().decrypt(((7, KEY),), b"", 1, texts),
        lambda: native().hashes(KEY, 1, texts),
    ):
        with pytest.raises((ValueError, TypeError)):
            call()


@pytest.mark.parametrize(
    "more",
    [{"key": b"short"}, {"iv_key": b""}, {"head": b"\x01"}, {"texts": (0,)}, {"threads": 0}, {"threads": 65}],
)
def test_arguments_of_the_wrong_size_are_refused(more: dict[str, Any]) -> None:
    """Keys have 32 bytes, heads five."""
    with pytest.raises((ValueError, TypeError)):
        encrypt(**more)
    for keys in ([], ((7,),), ((7, b"short"),), ("key",)):
        with pytest.raises((ValueError, TypeError)):
            native().decrypt(keys, b"", 1, TEXTS)


@pytest.mark.parametrize(
    "values",
    [
        ("int64", 0, 2, 0, None, bytes(15)),
        ("int64", 0, 2, 1, None, bytes(16)),
        ("boolean", 0, 9, 0, None, bytes(1)),
        ("decimal", 39, 1, 0, None, bytes(16)),
        ("decimal", -1, 1, 0, None, bytes(16)),
        ("int64", 0, 9, 0, bytes(1), bytes(72)),
        ("int64", 0, -1, 0, None, bytes(16)),
        ("int64", 0, 1, 2**61, None, bytes(16)),
        ("int64", 0, 1, 0, None, None),
        ("time", 0, 1, 0, None, struct.pack("<q", -1)),
        ("time", 0, 1, 0, None, struct.pack("<q", 86_400_000_000)),
        ("int16", 0, 1, 0, None, bytes(16)),
    ],
)
def test_values_that_are_none_are_refused(values: Any) -> None:
    """The same for values of a fixed width."""
    with pytest.raises((ValueError, TypeError)):
        native().texts(*values)


def test_lengths_that_need_wider_offsets_are_refused() -> None:
    """Before the value is looked at: its memory is not there."""
    size = 2**31 - 20
    with pytest.raises(OverflowError):
        encrypt((1, 0, False, None, struct.pack("<2i", 0, size), mmap.mmap(-1, size)))


@settings(max_examples=50, deadline=None)
@given(key=st.binary(max_size=64), texts=st.lists(st.none() | st.binary(max_size=130), max_size=8))
def test_hashes_are_those_of_the_standard_library(key: bytes, texts: list[bytes | None]) -> None:
    """HMAC-SHA256 in hexadecimal; a null stays one."""
    array = pa.array(texts, pa.binary())
    validity, ends, chars = array.buffers()
    made = native().hashes(key, 3, (len(array), 0, False, validity, ends, chars))
    buffers = [None if buffer is None else pa.py_buffer(buffer) for buffer in made]
    found = pa.Array.from_buffers(pa.string(), len(array), buffers)
    found.validate(full=True)
    assert found.to_pylist() == [
        None if t is None else hmac.digest(key, t, hashlib.sha256).hex() for t in texts
    ]


@pytest.mark.parametrize("rows", [0, 1, 3, 1_000])
def test_work_is_divided_among_threads(rows: int) -> None:
    """However many there are: the same arrays, and the first row that does not decrypt."""
    values = pa.array([None if i % 5 == 3 else b"v" * (i % 70) for i in range(rows)], pa.binary())

    def given(array: pa.Array) -> Any:
        return len(array), array.offset, False, *array.buffers()

    def array(made: Any) -> pa.Array:
        return pa.Array.from_buffers(
            pa.binary(), rows, [None if b is None else pa.py_buffer(b) for b in made]
        )

    for iv_key in (None, KEY):
        one, *others = [encrypt(given(values), iv_key=iv_key, threads=n) for n in (1, 2, 5, 64)]
        for made in others:
            assert iv_key is None or made == one
            for threads in (1, 3, 64):
                opened = native().decrypt(((7, KEY),), b"aad", threads, given(array(made)))
                assert array(opened) == values
    assert native().hashes(KEY, 1, given(values)) == native().hashes(KEY, 7, given(values))
    sealed = array(encrypt(given(values))).to_pylist()
    for bad in [i for i in (0, 400, 999) if i < rows]:
        damaged = pa.array(
            [v and v[:-1] + bytes([v[-1] ^ 1]) if i >= bad else v for i, v in enumerate(sealed)], pa.binary()
        )
        for threads in (1, 2, 7):
            assert native().decrypt(((7, KEY),), b"aad", threads, given(damaged))[:2] == (bad, 3)
        foreign = pa.array([b"?" if i == bad else v for i, v in enumerate(damaged.to_pylist())], pa.binary())
        assert native().decrypt(((7, KEY),), b"aad", 5, given(foreign))[:2] == (bad, 1)


def test_several_threads_encrypt_at_once() -> None:
    """Each call has contexts of its own."""
    cipher = ColumnCipher(DataKey("k", 1, 7, KEY), b"aad", "deterministic")
    values = [pa.array([f"{n}-{i}" for i in range(20_000)], pa.string()) for n in range(4)]
    found: dict[int, pa.Array] = {}

    def work(n: int) -> None:
        found[n] = cipher.encrypt_array(values[n])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(4)] == [cipher.encrypt_array(array) for array in values]


def test_python_takes_over_without_libcrypto() -> None:
    """Where there is no OpenSSL to be found the module says so, and columns are encrypted all the same."""
    program = """
import ctypes, pyarrow as pa
from airberg.keys import compiled
from airberg.keys.arrays import decrypt_array
from airberg.keys.cipher import ColumnCipher
from airberg.keys.port import DataKey
class Without:
    available = staticmethod(lambda: False)
compiled.compiled = Without
key = DataKey("k", 1, 7, bytes(32))
sealed = ColumnCipher(key, b"a", "random").encrypt_array(pa.array(["x", None]))
assert decrypt_array([key], sealed, b"a").to_pylist() == [b"x", None]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
