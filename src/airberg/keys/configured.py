"""Key-encryption keys and sealing keys, as the settings of a deployment name them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine

from airberg.errors import ConfigurationFailed
from airberg.keys.address import LOCAL, KekAddress, parse_kek_address
from airberg.keys.kek import Kek, LocalKek, load_master_key
from airberg.keys.ring import KekRing
from airberg.keys.seal import Sealer
from airberg.keys.system import SystemKeys
from airberg.settings import Settings


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


def system_keys(settings: Settings, engine: Engine, ring: KekRing) -> SystemKeys:
    """The sealing keys in a deployment's database.

    Raises:
        ConfigurationFailed: The master key is not well formed; or there is none, and the local
            key-encryption key is the current one.
    """
    return SystemKeys(engine, ring, _master_keys(settings, needed=ring.uri == LOCAL))


def open_sealer(settings: Settings, engine: Engine) -> Sealer:
    """What seals configurations and states. No service is asked before something is sealed or opened.

    Args:
        engine: Of the job store's database, with its tables.

    Raises:
        ConfigurationFailed: As `open_kek` and `system_keys`.
    """
    return Sealer(system_keys(settings, engine, open_kek(settings)).loaders)


def _master_keys(settings: Settings, *, needed: bool) -> Sequence[bytes]:
    try:
        return load_master_key(settings)
    except ConfigurationFailed as e:
        if needed or e.code != "no-master-key":
            raise
        return ()
