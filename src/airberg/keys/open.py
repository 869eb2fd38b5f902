"""The key store of a deployment."""

from __future__ import annotations

from airberg.jobs.open import open_migrated
from airberg.keys.kek import LocalKek, load_master_key
from airberg.keys.sql import SqlKeyStore
from airberg.settings import Settings


def open_keys(settings: Settings) -> SqlKeyStore:
    """Open the key store in the job store's database, with the default key made if it was never there.

    Raises:
        ConfigurationFailed: There is no master key, or it is not well formed; or the database is not at this
            version's schema.
        Unavailable: The database does not answer.
    """
    kek = LocalKek(load_master_key(settings))
    store = SqlKeyStore(open_migrated(settings), kek)
    if settings.keys.default_key not in store.names():
        store.create(settings.keys.default_key, exist_ok=True)
    return store
