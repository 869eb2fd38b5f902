"""Client libraries of secret stores; none is needed unless its store is used."""

from __future__ import annotations

from airberg.service_clients import installed
from airberg.sources.secret_stores import refused


def require_driver(module: str, extra: str) -> None:
    """Look whether a client library is there, without loading it.

    Raises:
        ConfigurationFailed: It is not installed.
    """
    if not installed(module):
        raise refused(
            extra, f"the library {module} is not installed", f"Install airberg[{extra}] where Airberg is."
        )
