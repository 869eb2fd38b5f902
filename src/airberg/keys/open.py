"""The key store of a deployment."""

from __future__ import annotations

from airberg.jobs.open import open_engine
from airberg.keys.kek import LocalKek, load_master_key
from airberg.keys.sql import SqlKeyStore
from airberg.settings import Settings


def open_keys(settings: Settings) -> SqlKeyStore:
    """Open the key store in the job store's database, with the default key made if it is missing.

    Raises:
        ConfigurationFailed: There is no master key, or it is not well formed.
    """
    store = SqlKeyStore(open_engine(settings), LocalKek(load_master_key(settings)))
    store.create(settings.keys.default_key, exist_ok=True)
    return store
