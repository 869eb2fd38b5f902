"""One of each kind of key-encryption key, with what a behaviour suite needs to know of it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import SecretStr

from airberg.keys.kek import Kek
from airberg.keys.open import open_kek
from airberg.settings import KeySettings, Settings
from support import gcp_kms_double, softhsm, vault_double
from support.free_ports import free_ports
from support.gcp_kms_double import GcpKmsDouble
from support.moto_kms import MotoKms
from support.softhsm import SoftHsm
from support.vault_double import VaultDouble

LOCAL_KEY, OTHER_LOCAL_KEY = bytes(range(32)), bytes(range(32, 64))
SERVICES = ("aws-kms", "vault-transit", "gcp-kms", "pkcs11")


@dataclass(frozen=True)
class KekCase:
    """A kind of key.

    Attributes:
        settings: Settings of the key group that name a key that works.
        other: Those that name another key of the same place.
        down: Those of the same key where nobody answers; None for the local one.
        refused: Those with credentials that may not use it; None for the local one.
        secrets: What must never be shown.
        before_refusal: To be called before `refused` is used.
        foreign_code: Code of the error when another key is to unwrap.
    """

    settings: KeySettings
    other: KeySettings
    secrets: tuple[str, ...]
    down: KeySettings | None = None
    refused: KeySettings | None = None
    before_refusal: Callable[[], None] = lambda: None
    foreign_code: str = "cannot-unwrap-key"


def opened(keys: KeySettings) -> Kek:
    """The key that settings name."""
    return open_kek(Settings(keys=keys)).current


def _settings(kek: str, **more: object) -> KeySettings:
    return KeySettings(kek=kek, kek_timeout_s=10, kek_attempts=1, **more)  # type: ignore[arg-type]


def _nobody() -> str:
    return f"http://127.0.0.1:{free_ports(1)[0]}"


def local_case() -> KekCase:
    """The master key of a deployment."""

    def settings(key: bytes) -> KeySettings:
        return KeySettings(master_key=SecretStr(base64.b64encode(key).decode()))

    shown = (base64.b64encode(LOCAL_KEY).decode(), LOCAL_KEY.hex())
    return KekCase(settings(LOCAL_KEY), settings(OTHER_LOCAL_KEY), shown)


def aws_case(moto: MotoKms, environment: pytest.MonkeyPatch) -> KekCase:
    """AWS KMS, as moto has it. No machine outside is asked for credentials."""
    environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(moto.credentials))
    environment.setenv("AWS_CONFIG_FILE", "/dev/null")
    environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return KekCase(
        _settings(moto.address()),
        _settings(moto.address("alias/other")),
        moto.secrets,
        down=_settings(moto.address(url=_nobody())),
        refused=_settings(moto.address(profile="nobody")),
        foreign_code="kek-refused",  # moto answers AccessDeniedException where AWS has IncorrectKeyException
    )


def vault_address(vault: VaultDouble, key: str = "transit/airberg", more: str = "", url: str = "") -> str:
    """The address of a key in the double."""
    return f"vault-transit://vault.example.com/{key}?endpoint={url or vault.url}{more}"


def vault_case(vault: VaultDouble) -> KekCase:
    """Vault's Transit engine, as the double has it."""
    token = SecretStr(vault_double.TOKEN)
    wrong = "hvs.a-token-of-nobody"
    return KekCase(
        _settings(vault_address(vault), vault_token=token),
        _settings(vault_address(vault, "transit/other"), vault_token=token),
        (vault_double.TOKEN, wrong),
        down=_settings(vault_address(vault, url=_nobody()), vault_token=token),
        refused=_settings(vault_address(vault), vault_token=SecretStr(wrong)),
    )


def gcp_address(kms: GcpKmsDouble, key: str = "airberg", url: str = "") -> str:
    """The address of a key in the double."""
    return f"gcp-kms://{gcp_kms_double.RING}/{key}?endpoint={url or kms.url}"


def gcp_case(kms: GcpKmsDouble, folder: Path, environment: pytest.MonkeyPatch) -> KekCase:
    """Google Cloud KMS, as the double has it. No machine outside is asked for credentials."""
    environment.setenv("NO_GCE_CHECK", "true")
    account = kms.write_account(folder / "account.json")
    environment.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
    stranger = kms.write_account(folder / "stranger.json", rsa.generate_private_key(65537, 2048))
    return KekCase(
        _settings(gcp_address(kms)),
        _settings(gcp_address(kms, "other")),
        tuple(line for line in account.read_text().split("\\n") if len(line) > 40),
        down=_settings(gcp_address(kms, url=_nobody())),
        refused=_settings(gcp_address(kms)),
        before_refusal=lambda: environment.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(stranger)),
    )


def pkcs11_case(hsm: SoftHsm) -> KekCase:
    """A PKCS#11 token. Nobody answers where no token has the label."""
    pin, wrong = SecretStr(softhsm.PIN), "not-the-pin"
    return KekCase(
        _settings(hsm.address(), pkcs11_pin=pin),
        _settings(hsm.address("other"), pkcs11_pin=pin),
        (softhsm.PIN, wrong),
        down=_settings(hsm.address(token="taken away"), pkcs11_pin=pin),
        refused=_settings(hsm.address(), pkcs11_pin=SecretStr(wrong)),
    )
