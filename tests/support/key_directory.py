"""Keys for plans that are made without a deployment."""

from __future__ import annotations

from airberg.keys.access import state_refusal
from airberg.keys.memory import MemoryKeyStore
from airberg.plan.planner import KeyDirectory


def keys_named(*names: str) -> KeyDirectory:
    """A directory of keys that everybody may use; the first one is the default."""
    store = MemoryKeyStore()
    for name in names:
        store.create(name)
    return KeyDirectory(names[0], lambda name: state_refusal(store, name))
