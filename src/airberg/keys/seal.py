"""Sealing: small secrets at rest (a source configuration, a connector's state), bound to their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airberg.errors import ConfigurationFailed
from airberg.keys.kek import MasterCipher


class Sealer:
    """Encrypts under a key derived from the master key; the first master key seals, all of them open.

    The context says what the secret is and where it belongs (`{"job": id, "part": "source_config"}`). It is
    authenticated but not stored: a sealed value that was moved elsewhere does not open.
    """

    def __init__(self, master_keys: Sequence[bytes]) -> None:
        self._cipher = MasterCipher(master_keys, b"airberg seal v1")

    def seal(self, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt; 29 bytes longer than the plaintext. The first byte is the version of the format."""
        return self._cipher.encrypt(plaintext, context)

    def open(self, blob: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt.

        Raises:
            ConfigurationFailed: Master key, context or bytes do not match.
        """
        plaintext = self._cipher.decrypt(blob, context)
        if plaintext is None:
            raise ConfigurationFailed(
                "A sealed value cannot be opened: the master key is another one, or the value was moved or "
                "changed.",
                guidance="Give all master keys that were ever used, comma-separated, the current one first.",
                code="cannot-open-sealed",
            )
        return plaintext
