"""Key-encryption keys: they wrap the data keys, so that a copy of the store alone decrypts nothing.

`Kek` is what a key service has to offer (AWS KMS, Vault Transit, PKCS#11 fit in a few lines each);
`LocalKek` is the one that needs no service: master keys from a setting or from a file of this deployment.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from airberg.errors import ConfigurationFailed
from airberg.keys.address import LOCAL, parse_kek_address
from airberg.settings import Settings

KEY_BYTES = 32
_IV_BYTES = 12
_TAG_BYTES = 16
_VERSION = b"\x01"


class Kek(Protocol):
    """Wraps data keys. The context is authenticated: a wrapped key opens in its own place only."""

    @property
    def uri(self) -> str:
        """Which key it is, for the store's records; at most 200 characters, no secret."""
        ...

    def wrap(self, dek: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt a data key."""
        ...

    def unwrap(self, blob: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt a data key. Raises ConfigurationFailed when key, context or bytes do not match."""
        ...


class MasterCipher:
    """AES-256-GCM under keys derived from the master keys: the first encrypts, all decrypt.

    Wrapping and sealing derive keys of their own (HKDF-SHA256, RFC 5869, told apart by `info`), so that
    what one has encrypted is never accepted by the other. Bytes: version 1, 12 of IV, ciphertext, tag.
    """

    def __init__(self, master_keys: Sequence[bytes], info: bytes) -> None:
        if not master_keys or any(len(k) != KEY_BYTES for k in master_keys):
            raise ValueError("a master key has 32 bytes, and there must be one")
        self._ciphers = [AESGCM(derive_key(k, info)) for k in master_keys]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._ciphers)} keys)"

    def encrypt(self, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt with the first key."""
        iv = os.urandom(_IV_BYTES)
        return _VERSION + iv + self._ciphers[0].encrypt(iv, plaintext, associated_data(context))

    def decrypt(self, blob: bytes, context: Mapping[str, str]) -> bytes | None:
        """Decrypt with whichever key fits; None when none does."""
        if len(blob) < 1 + _IV_BYTES + _TAG_BYTES or blob[:1] != _VERSION:
            return None
        iv, body, data = blob[1:13], blob[13:], associated_data(context)
        for cipher in self._ciphers:
            with contextlib.suppress(InvalidTag):
                return cipher.decrypt(iv, body, data)
        return None


class LocalKek:
    """Master keys that this process holds; the first one wraps, all of them unwrap (rotation)."""

    uri = LOCAL

    def __init__(self, master_keys: Sequence[bytes]) -> None:
        self._cipher = MasterCipher(master_keys, b"airberg kek v1")

    def wrap(self, dek: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt a data key with the first master key."""
        return self._cipher.encrypt(dek, context)

    def unwrap(self, blob: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt a data key.

        Raises:
            ConfigurationFailed: No master key opens it, or it was moved or changed.
        """
        dek = self._cipher.decrypt(blob, context)
        if dek is None:
            raise ConfigurationFailed(
                "A data key cannot be unwrapped: the master key is another one, or its record was changed.",
                guidance="Give all master keys that were ever used, comma-separated, the current one first.",
                code="cannot-unwrap-key",
            )
        return dek


def derive_key(key: bytes, info: bytes) -> bytes:
    """A 32-byte key for one purpose (HKDF-SHA256 without salt, RFC 5869)."""
    return HKDF(hashes.SHA256(), KEY_BYTES, None, info).derive(key)


def associated_data(context: Mapping[str, str]) -> bytes:
    """The context as canonical JSON: keys sorted, no spaces."""
    return json.dumps(dict(context), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


# ---- master keys -------------------------------------------------------------------------------------------


def master_key_path(settings: Settings) -> Path:
    """Where the deployment's own master key lives when no setting gives one."""
    return settings.secrets_dir / "master.key"


def load_master_key(settings: Settings) -> list[bytes]:
    """The master keys, the current one first: from the setting, else from the deployment's file.

    Raises:
        ConfigurationFailed: There is none, or it is not base64 of 32 bytes.
    """
    if settings.keys.master_key is not None:
        return _parse(settings.keys.master_key.get_secret_value(), "The setting AIRBERG_KEYS__MASTER_KEY")
    path = master_key_path(settings)
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise ConfigurationFailed(
            "There is no master key.",
            guidance=f"Set AIRBERG_KEYS__MASTER_KEY (base64 of 32 random bytes), or restore {path}.",
            code="no-master-key",
        ) from None
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigurationFailed(
            f"The master key file {path} cannot be read ({type(e).__name__}).",
            guidance="It must be a text file that this user may read.",
            code="bad-master-key",
        ) from None
    return _parse(text, f"The master key file {path}")


def ensure_master_key(settings: Settings) -> Path | None:
    """Make the master key file if one is needed and there is neither a setting nor a file.

    None is needed when another key-encryption key wraps, and the local one is not among the previous ones.
    Whoever comes first wins; the file appears complete or not at all.

    Returns:
        The file, if this call made it.

    Raises:
        ConfigurationFailed: The file cannot be written.
    """
    path = master_key_path(settings)
    addresses = (settings.keys.kek, *settings.keys.previous_keks)
    used = any(parse_kek_address(a).scheme == "local" for a in addresses)
    if not used or settings.keys.master_key is not None or path.exists():
        return None
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    text = base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)  # unlike a rename, it fails when another process was faster
        except FileExistsError:
            return None
        finally:
            draft.unlink()
    except OSError as e:
        raise ConfigurationFailed(
            f"The master key file {path} cannot be written ({e.strerror}).",
            guidance="Make its folder writable, or set AIRBERG_KEYS__MASTER_KEY.",
            code="no-master-key",
        ) from None
    return path


def _parse(text: str, where: str) -> list[bytes]:
    try:
        keys = [base64.b64decode(part.strip(), validate=True) for part in text.strip().split(",")]
    except (binascii.Error, ValueError):
        keys = []
    if not keys or any(len(k) != KEY_BYTES for k in keys):
        raise ConfigurationFailed(
            f"{where} does not hold base64 of 32 bytes.",
            guidance="Make one with `openssl rand -base64 32`; several are separated by commas.",
            code="bad-master-key",
        )
    return keys
