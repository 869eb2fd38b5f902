"""Snapshots of the connectors that Airbyte publishes: the package's, and a newer one of the deployment."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

import msgspec

from airberg.errors import Unavailable
from airberg.sources.entry import ConnectorEntry


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Connectors at a date.

    Attributes:
        connectors: By name.
        snapshot: The date, ISO 8601.
        listed: Name → version of packages that are named like connectors and that nobody has confirmed.
        images: Name → language of the others of Airbyte's: it publishes no package of them.
    """

    connectors: list[ConnectorEntry]
    snapshot: str = ""
    listed: dict[str, str] = {}
    images: dict[str, str] = {}


@cache
def packaged_snapshot() -> Snapshot:
    """The one inside the package, written by `scripts/write_registry.py`."""
    data = resources.files("airberg.sources").joinpath("registry.json").read_bytes()
    return msgspec.json.decode(data, type=Snapshot)


def newest_snapshot(file: Path) -> Snapshot:
    """The package's, with what a newer one of the deployment says in its place.

    Args:
        file: The deployment's, where there is one (`airberg.sources.refresh`).

    Raises:
        Unavailable: The file is there and is no snapshot; code `registry-file`.
    """
    packaged = packaged_snapshot()
    try:
        own = msgspec.json.decode(file.read_bytes(), type=Snapshot)
    except FileNotFoundError:
        return packaged
    except (OSError, msgspec.DecodeError):
        raise Unavailable(
            f"The snapshot of connectors {file.name} cannot be read.",
            retry_after=60,
            guidance="The operator of this deployment has to delete it, or to refresh it.",
            code="registry-file",
        ) from None
    if own.snapshot < packaged.snapshot:  # Airberg was upgraded since
        return packaged
    merged = {entry.name: entry for entry in (*packaged.connectors, *own.connectors)}
    images = packaged.images | own.images
    return msgspec.structs.replace(
        packaged,
        connectors=list(merged.values()),
        snapshot=own.snapshot,
        images={name: language for name, language in images.items() if name not in merged},
    )
