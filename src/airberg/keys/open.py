"""The key store of a deployment, and the key-encryption keys that its settings name."""

from __future__ import annotations

from airberg.jobs.open import open_migrated
from airberg.keys.address import KekAddress, parse_kek_address
from airberg.keys.kek import Kek, LocalKek, load_master_key
from airberg.keys.ring import KekRing
from airberg.keys.sql import SqlKeyStore
from airberg.settings import Settings


def open_keys(settings: Settings) -> SqlKeyStore:
    """Open the key store in the job store's database, with the default key made if it was never there.

    Raises:
        ConfigurationFailed: A key-encryption key is not usable (no master key, no client library, no access);
            or the database is not at this version's schema.
        Unavailable: The database or the key service does not answer.
    """
    store = SqlKeyStore(open_migrated(settings), open_kek(settings))
    if settings.keys.default_key not in store.names():
        store.create(settings.keys.default_key, exist_ok=True)
    return store


def open_kek(settings: Settings) -> KekRing:
    """The key-encryption key of the settings, with the previous ones that still unwrap.

    Nothing is asked of any service yet, and its client library is not loaded.

    Raises:
        ConfigurationFailed: A client library is not installed; or the local master key is used and there is
            none, or it is not well formed.
    """
    current, *previous = (
        _open(parse_kek_address(a), settings) for a in (settings.keys.kek, *settings.keys.previous_keks)
    )
    return KekRing(current, *previous)


def _open(address: KekAddress, settings: Settings) -> Kek:
    keys = settings.keys
    timeout_s, attempts = keys.kek_timeout_s, keys.kek_attempts
    match address.scheme:
        case "aws-kms":
            from airberg.keys.backends.aws import AwsKmsKek

            return AwsKmsKek(address, timeout_s=timeout_s, attempts=attempts)
        case "vault-transit":
            from airberg.keys.backends.vault import VaultLogin, VaultTransitKek

            login = VaultLogin(keys.vault_token, keys.vault_role_id, keys.vault_secret_id)
            return VaultTransitKek(address, login, timeout_s=timeout_s, attempts=attempts)
        case "gcp-kms":
            from airberg.keys.backends.gcp import GcpKmsKek

            return GcpKmsKek(address, timeout_s=timeout_s, attempts=attempts)
        case "pkcs11":
            from airberg.keys.backends.pkcs11 import Pkcs11Kek

            return Pkcs11Kek(address, keys.pkcs11_pin)
        case _:
            return LocalKek(load_master_key(settings))
