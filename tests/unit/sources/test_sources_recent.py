"""What was found a short while ago is kept for who found it, and not for long."""

from __future__ import annotations

from typing import Any

import pytest

from airberg.sources import recent
from airberg.sources.entry import ConnectorEntry
from airberg.sources.recent import Found, RecentlyFound

ENTRY = ConnectorEntry(name="source-x", version="1")
CONFIG: dict[str, Any] = {"a": 1, "b": {"token": "s3cr3t"}}


def found(*names: str, **changes: Any) -> Found:
    """Streams of those names."""
    streams = [{"name": name} for name in names]
    return Found(**({"fingerprint": "f", "version": "1", "streams": streams, "at": 1.0} | changes))


def test_the_same_question_gets_it_back() -> None:
    """The order of members does not matter; everything that could be in a catalog comes back."""
    kept = RecentlyFound(60.0)
    key = kept.key(ENTRY, CONFIG, "ann", ["b", "a"])
    renewed = found("users", renewed_config={"token": "new"})
    kept.put(key, renewed)
    again = {"b": {"token": "s3cr3t"}, "a": 1}
    assert kept.get(kept.key(ENTRY, again, "ann", ["a", "b"])) == renewed


@pytest.mark.parametrize(
    ("entry", "config", "owner", "roles"),
    [
        (ConnectorEntry(name="source-y", version="1"), CONFIG, "ann", ["a"]),
        (ConnectorEntry(name="source-x", version="2"), CONFIG, "ann", ["a"]),
        (ENTRY, CONFIG | {"a": 2}, "ann", ["a"]),
        (ENTRY, CONFIG, "bob", ["a"]),
        (ENTRY, CONFIG, "ann", []),
    ],
)
def test_another_question_does_not(
    entry: ConnectorEntry, config: dict[str, Any], owner: str, roles: list[str]
) -> None:
    """Another connector, version, configuration, owner, or other roles."""
    kept = RecentlyFound(60.0)
    kept.put(kept.key(ENTRY, CONFIG, "ann", ["a"]), found("users"))
    assert kept.get(kept.key(entry, config, owner, roles)) is None


def test_it_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time that it holds; with none, at once."""
    now = 1_000.0
    monkeypatch.setattr(recent.time, "monotonic", lambda: now)
    kept = RecentlyFound(60.0)
    kept.put(b"k", found("users"))
    now = 1_059.0
    assert kept.get(b"k") is not None
    now = 1_060.0
    assert kept.get(b"k") is None
    never = RecentlyFound(0.0)
    never.put(b"k", found("users"))
    assert never.get(b"k") is None


def test_it_does_not_grow_without_bound() -> None:
    """The oldest goes first; what is too large alone is not kept, and drives nothing out."""
    kept = RecentlyFound(60.0, max_bytes=1_000)
    for i in range(20):
        kept.put(b"%d" % i, found("x" * 100))
    assert kept.get(b"0") is None
    assert kept.get(b"19") is not None
    kept.put(b"large", found("x" * 2_000))
    assert kept.get(b"large") is None
    assert kept.get(b"19") is not None


def test_it_does_not_show() -> None:
    """Neither the keys nor what is kept is in a log by accident; keys of two processes differ."""
    kept = RecentlyFound(60.0)
    shown = repr(found("users", renewed_config={"token": "s3cr3t"})) + repr(kept)
    assert "s3cr3t" not in shown
    assert kept.key(ENTRY, CONFIG, "ann", []) != RecentlyFound(60.0).key(ENTRY, CONFIG, "ann", [])
