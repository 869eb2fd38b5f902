"""Sealed texts: closed without any one of the keys, one word in a log, opened again."""

from __future__ import annotations

import secrets
from uuid import uuid4

import pytest

from airberg.errors import ConfigurationFailed
from airberg.keys.memory import MemoryKeyStore
from airberg.keys.seal import Sealer
from airberg.keys.texts import MAX_BYTES, TextSeal, sealed_texts, unsealed

JOB = str(uuid4())
SAID = 'cannot parse {"email": "ann@example.com"}\n\tline 2: \u00e9\U0001f600'


@pytest.fixture
def keys() -> MemoryKeyStore:
    """With two keys."""
    store = MemoryKeyStore()
    store.create("crm")
    store.create("hr.eu-1")
    return store


@pytest.fixture
def sealer() -> Sealer:
    """Of a deployment."""
    return Sealer([secrets.token_bytes(32)])


def seal_of(keys: MemoryKeyStore, sealer: Sealer, *names: str) -> TextSeal:
    """The seal of a job that uses some keys."""
    return TextSeal(JOB, map(keys.primary, names), sealer)


@pytest.mark.parametrize("names", [(), ("crm",), ("hr.eu-1", "crm", "crm")])
def test_a_text_comes_back(keys: MemoryKeyStore, sealer: Sealer, names: tuple[str, ...]) -> None:
    """Under no, one and several keys, also after they were rotated."""
    word = seal_of(keys, sealer, *names)(SAID)
    assert len(word.split()) == 1
    assert word.isascii()
    for name in set(names):
        keys.rotate(name, actor="ann")
    line = f"12:00 ERROR airberg.connector: {word}\n"
    assert unsealed(line, lambda s: s.open(keys.versions, sealer)) == line.replace(word, SAID)
    [sealed] = sealed_texts(line)
    assert (sealed.job_id, sealed.key_names) == (JOB, tuple(sorted(set(names))))


def test_every_key_is_needed(keys: MemoryKeyStore, sealer: Sealer) -> None:
    """A destroyed key takes the text along; neither another deployment nor another job's text opens it."""
    word = seal_of(keys, sealer, "crm", "hr.eu-1")(SAID)
    [sealed] = sealed_texts(word)
    with pytest.raises(ConfigurationFailed) as other:
        sealed.open(keys.versions, Sealer([secrets.token_bytes(32)]))
    assert other.value.code == "cannot-open-sealed"
    [moved] = sealed_texts(word.replace(JOB, str(uuid4())))
    with pytest.raises(ConfigurationFailed, match="cannot be opened"):
        moved.open(keys.versions, sealer)
    [cut] = sealed_texts(word[:-3])
    with pytest.raises(ConfigurationFailed):
        cut.open(keys.versions, sealer)
    keys.destroy("crm", actor="ann")
    with pytest.raises(ConfigurationFailed) as destroyed:
        sealed.open(keys.versions, sealer)
    assert destroyed.value.code == "key-destroyed"


def test_long_texts_lose_their_middle(keys: MemoryKeyStore, sealer: Sealer) -> None:
    """A sealed text fits into one line of a task's log, however many keys there are."""
    word = seal_of(keys, sealer, "crm", "hr.eu-1")("begin " + "\u00e9" * MAX_BYTES + " end")
    assert len(word) < 16_384 - 200
    [sealed] = sealed_texts(word)
    opened = sealed.open(keys.versions, sealer)
    assert opened.startswith("begin \u00e9")
    assert " [...] " in opened
    assert opened.endswith("\u00e9 end")


def test_broken_texts_can_be_sealed(keys: MemoryKeyStore, sealer: Sealer) -> None:
    """Half of a surrogate pair, as a connector may print it."""
    [sealed] = sealed_texts(seal_of(keys, sealer, "crm")("a \ud800 b"))
    assert sealed.open(keys.versions, sealer) == "a ? b"
