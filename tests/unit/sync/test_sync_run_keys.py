"""The keys of a run: what it says when they are going to be slow."""

from __future__ import annotations

import pytest

from airberg.keys.memory import MemoryKeyStore
from airberg.sync.keys import RunKeys
from support.ciphers import CIPHER_WAYS, CipherWay, ciphered_by


@pytest.mark.parametrize("way", CIPHER_WAYS)
@pytest.mark.parametrize("names", [(), ("k",)], ids=["plain", "encrypted"])
def test_encryption_without_the_compiled_cipher_is_said(
    way: CipherWay, names: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """Once a run, and only if it encrypts."""
    store = MemoryKeyStore()
    store.create("k")
    with ciphered_by(way):
        RunKeys(store, names)
    slow = way == "python" and bool(names)
    assert [r.levelname for r in caplog.records] == (["WARNING"] if slow else [])
