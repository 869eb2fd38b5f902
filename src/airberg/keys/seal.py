"""Sealing: small secrets at rest (a source configuration, a connector's state), bound to their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from airberg.errors import ConfigurationFailed
from airberg.keys.kek import MasterCipher

KeyLoader = Callable[[], bytes]
"""Gives one key of 32 bytes; may ask a key service for it, and fail as that does."""

_INFO = b"airberg seal v1"


class Sealer:
    """Encrypts under keys derived from sealing keys: the first one seals, all of them open.

    The context says what the secret is and where it belongs (`{"job": id, "part": "source_config"}`). It is
    authenticated but not stored: a sealed value that was moved elsewhere does not open.
    """

    def __init__(self, keys: Sequence[bytes] | Callable[[], Sequence[KeyLoader]]) -> None:
        """Take the keys, of 32 bytes each, or a function that finds out what they are.

        The function is called when the first value is sealed or opened, and again for a value that none of
        the keys opens: another process may have made a new one. Each key is loaded when it is needed.
        """
        self._ciphers: dict[bytes, MasterCipher] = {}
        self._loaders: Sequence[KeyLoader] | None = None
        if callable(keys):
            self._find = keys
            self._fixed = False
        else:
            MasterCipher(keys, _INFO)  # refuses keys of other sizes
            loaders = [partial(bytes, key) for key in keys]
            self._find = lambda: loaders
            self._fixed = True

    def seal(self, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt; 29 bytes longer than the plaintext. The first byte is the version of the format.

        Raises:
            ConfigurationFailed, Unavailable: The keys cannot be found, or the first one not loaded.
        """
        return next(self._known()).encrypt(plaintext, context)

    def open(self, blob: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt.

        Raises:
            ConfigurationFailed: Key, context or bytes do not match (`cannot-open-sealed`); or as `seal`.
            Unavailable: As `seal`.
        """
        plaintext = self._try(blob, context)
        if plaintext is None and not self._fixed:
            self._loaders = None
            plaintext = self._try(blob, context)
        if plaintext is None:
            raise ConfigurationFailed(
                "A sealed value cannot be opened: the key is another one, or the value was moved or changed.",
                guidance="Give all master keys that were ever used, comma-separated, the current one first.",
                code="cannot-open-sealed",
            )
        return plaintext

    def _try(self, blob: bytes, context: Mapping[str, str]) -> bytes | None:
        opened = (cipher.decrypt(blob, context) for cipher in self._known())
        return next((plaintext for plaintext in opened if plaintext is not None), None)

    def _known(self) -> Iterator[MasterCipher]:
        loaders = self._loaders
        if loaders is None:
            loaders = self._loaders = self._find()
        for load in loaders:
            key = load()
            if key not in self._ciphers:
                self._ciphers[key] = MasterCipher([key], _INFO)
            yield self._ciphers[key]
