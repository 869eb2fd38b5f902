"""What every key service can answer, as errors of ours: which key, what was found, what to do.

None of them repeats what a service or its client library says in free text: a few quote the request.
"""

from __future__ import annotations

from collections.abc import Mapping

from airberg.errors import ConfigurationFailed, Unavailable
from airberg.service_clients import installed


def require(module: str, extra: str) -> None:
    """Look whether a client library is there, without loading it.

    Raises:
        ConfigurationFailed: It is not installed.
    """
    if not installed(module):
        raise ConfigurationFailed(
            f"The library {module} that this key-encryption key needs is not installed.",
            guidance=f"Install it where Airberg is: pip install 'airberg[{extra}]'.",
            code="kek-driver-missing",
        )


def kek_unavailable(uri: str, why: str) -> Unavailable:
    """The service does not answer, is overloaded or failed by itself: another time it may work."""
    return Unavailable(
        f"The key-encryption key {uri} cannot be used at the moment: {why}.",
        guidance="It is tried again; look at the key service if this lasts.",
        code="kek-unavailable",
    )


def kek_refused(uri: str, why: str, guidance: str) -> ConfigurationFailed:
    """The service does not accept who we are, or we may not use the key."""
    return ConfigurationFailed(
        f"The use of the key-encryption key {uri} is refused: {why}.", guidance=guidance, code="kek-refused"
    )


def kek_unusable(uri: str, why: str, guidance: str) -> ConfigurationFailed:
    """There is no such key, or it is not one that can wrap."""
    return ConfigurationFailed(
        f"The key-encryption key {uri} cannot be used: {why}.", guidance=guidance, code="kek-unusable"
    )


def cannot_unwrap(uri: str, context: Mapping[str, str]) -> ConfigurationFailed:
    """The wrapped bytes do not open: another key, another place, or changed bytes."""
    return ConfigurationFailed(
        f"The data key {context.get('name', '')!r}, version {context.get('version', '?')}, cannot be "
        f"unwrapped by {uri}: it was wrapped by another key, or its record was moved or changed.",
        guidance="See that the address still names the key that wrapped it (an alias may have been moved), "
        "or restore the record from a backup.",
        code="cannot-unwrap-key",
    )
