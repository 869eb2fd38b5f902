"""The keys of a run are those of its beginning."""

from __future__ import annotations

import pytest

from airberg.errors import ConfigurationFailed, NotFound
from airberg.keys.memory import MemoryKeyStore
from airberg.sync.keys import RunKeys


def test_what_happens_to_a_key_counts_from_the_next_run_on() -> None:
    """All rows of a run have one version, whether the key is rotated or destroyed meanwhile."""
    store = MemoryKeyStore()
    first = store.create("a")
    run = RunKeys(store, ["a", "a"])
    assert list(run.versions("a")) == [first]
    store.rotate("a", actor="ann")
    assert (run.primary("a"), list(run.versions("a"))) == (first, [first])
    assert RunKeys(store, ["a"]).primary("a") == store.primary("a") != first
    store.destroy("a", actor="ann")
    assert run.primary("a") == first
    with pytest.raises(ConfigurationFailed):
        RunKeys(store, ["a"])


def test_a_key_that_is_not_there_stops_the_run() -> None:
    """As soon as it is named, not when the first row comes."""
    with pytest.raises(NotFound):
        RunKeys(MemoryKeyStore(), ["a"])
