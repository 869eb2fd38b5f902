"""The key store of a deployment, and the key-encryption keys that its settings name."""

from __future__ import annotations

from airberg.jobs.open import open_migrated
from airberg.keys.address import LOCAL
from airberg.keys.configured import open_kek, system_keys
from airberg.keys.sql import SqlKeyStore
from airberg.settings import Settings

__all__ = ["open_kek", "open_keys"]


def open_keys(settings: Settings) -> SqlKeyStore:
    """Open the key store in the job store's database, with the default key made if it was never there.

    Raises:
        ConfigurationFailed: A key-encryption key is not usable (no master key, no client library, no access);
            or the database is not at this version's schema.
        Unavailable: The database or the key service does not answer.
    """
    engine, ring = open_migrated(settings), open_kek(settings)
    if ring.uri != LOCAL:
        system_keys(settings, engine, ring).ensure()  # before anybody takes the master key away
    store = SqlKeyStore(engine, ring)
    if settings.keys.default_key not in store.names():
        store.create(settings.keys.default_key, exist_ok=True)
    return store
