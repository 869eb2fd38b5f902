"""Several key-encryption keys of one deployment: one wraps, all of them unwrap what they have wrapped."""

from __future__ import annotations

from collections.abc import Mapping

from airberg.errors import ConfigurationFailed
from airberg.keys.kek import Kek


class KekRing:
    """A `Kek` that also unwraps with the keys that were in use before, each told by its recorded identity.

    With it an operator moves from one key to another: the new one is `AIRBERG_KEYS__KEK`, the old one stays
    in `AIRBERG_KEYS__PREVIOUS_KEKS` until every data key is wrapped anew (`KeyStore.rewrap(ring.current)`).
    """

    def __init__(self, current: Kek, *previous: Kek) -> None:
        self.current = current
        """The key that wraps."""
        self._by_uri = {kek.uri: kek for kek in (*reversed(previous), current)}

    @classmethod
    def of(cls, kek: Kek | KekRing) -> KekRing:
        """A ring of a single key; a ring stays as it is."""
        return kek if isinstance(kek, KekRing) else cls(kek)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.uris)})"

    @property
    def uri(self) -> str:
        """Identity of the key that wraps."""
        return self.current.uri

    @property
    def uris(self) -> tuple[str, ...]:
        """Identities of all keys, that of the one that wraps first."""
        return (self.uri, *sorted(self._by_uri.keys() - {self.uri}))

    def also(self, kek: Kek) -> KekRing:
        """A ring in which one more key unwraps, unless it has the identity of one that is there."""
        return KekRing(self.current, *self._by_uri.values(), kek)

    def wrap(self, dek: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt a data key. Record `uri` with it. Raises as the `Kek` does."""
        return self.current.wrap(dek, context)

    def unwrap(self, blob: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt what the current key has wrapped. Raises as the `Kek` does."""
        return self.current.unwrap(blob, context)

    def unwrap_from(self, uri: str, blob: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt what the key with a recorded identity has wrapped.

        Raises:
            ConfigurationFailed: The ring has no such key (`kek-not-configured`), or it refuses, or key,
                context or bytes do not match.
            Unavailable: Its service does not answer.
        """
        kek = self._by_uri.get(uri)
        if kek is None:
            what = f"The data key {context.get('name', '')!r}, version {context.get('version', '?')},"
            raise ConfigurationFailed(
                f"{what} was wrapped by {uri}, but the key-encryption keys of this deployment are: "
                f"{', '.join(self.uris)}.",
                guidance=f"Set AIRBERG_KEYS__KEK to {_setting(uri)}, or add that to "
                "AIRBERG_KEYS__PREVIOUS_KEKS and run `airberg keys rewrap`.",
                code="kek-not-configured",
            )
        return kek.unwrap(blob, context)


def _setting(uri: str) -> str:
    return "local" if uri.startswith("local:") else uri
