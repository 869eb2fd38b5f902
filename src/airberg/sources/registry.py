"""Which connectors there are. An unknown name is never downloaded.

The snapshot `registry.json` names connectors of Airbyte on PyPI with the version that was seen to resolve.
The deployment's own connectors (`airberg.sources.declared`) win over the snapshot.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import msgspec

from airberg.errors import InvalidRequest, Unavailable
from airberg.quoted import quoted
from airberg.sources.declared import declared_entries, settled
from airberg.sources.entry import ConnectorEntry

if TYPE_CHECKING:
    from airberg.settings import Settings

POINTER = "/source_name"
VERSION_POINTER = "/source_version"


class _Snapshot(msgspec.Struct):
    connectors: list[ConnectorEntry]
    snapshot: str = ""


class ConnectorRegistry:
    """The known connectors.

    Args:
        own: Connectors of the deployment, by name, the version for new jobs first; a name that they have is
            not looked for in the snapshot.
    """

    def __init__(self, own: Mapping[str, Sequence[ConnectorEntry]] | None = None) -> None:
        self._entries: dict[str, tuple[ConnectorEntry, ...]] = {entry.name: (entry,) for entry in _snapshot()}
        self._entries |= {name: tuple(entries) for name, entries in (own or {}).items()}

    def entries(self) -> list[ConnectorEntry]:
        """All of them, by name, each in the version that new jobs get."""
        return [_shown(entries[0]) for _, entries in sorted(self._entries.items())]

    def versions(self, name: str) -> tuple[ConnectorEntry, ...]:
        """The versions of a connector, first the one that new jobs get.

        Raises:
            InvalidRequest: There is none of that name; the problem's guidance has the nearest names.
        """
        entries = self._entries.get(name)
        if entries is not None:
            return entries
        near = _nearest(name, self._entries)
        raise InvalidRequest.one(
            POINTER,
            "unknown-source",
            f"There is no connector named {quoted(name[:100])}.",
            (f"Did you mean {', '.join(near)}? " if near else "")
            + "Own connectors are declared in the deployment's connectors file.",
        )

    def find(self, name: str, version: str | None = None) -> ConnectorEntry:
        """The connector of that name, settled, so that a job may keep it.

        Args:
            version: Which of its versions; the one that new jobs get when None.

        Raises:
            InvalidRequest: There is none of that name (the problem's guidance has the nearest names), or not
                in that version.
            Unavailable: Its manifest is not there.
        """
        known = self.versions(name)
        if version is None:
            return settled(known[0])
        for entry in known:
            if (entry.version or settled(entry).known_version) == version:
                return settled(entry)
        raise InvalidRequest.one(
            VERSION_POINTER,
            "unknown-source-version",
            f"There is no version {quoted(version[:100])} of {name}.",
            f"Known: {', '.join(settled(entry).known_version for entry in known)}. "
            "Others are declared in the deployment's connectors file.",
        )


def load_registry(settings: Settings) -> ConnectorRegistry:
    """The snapshot with the connectors of `settings.connectors_file`.

    Raises:
        Unavailable: The file exists but is not well formed.
    """
    return ConnectorRegistry(declared_entries(settings.connectors_file))


def _shown(entry: ConnectorEntry) -> ConnectorEntry:
    """The entry settled, if that is possible: a list is one of all, also when one manifest is lost."""
    try:
        return settled(entry)
    except Unavailable:
        return entry


def _nearest(name: str, names: Collection[str]) -> list[str]:
    wanted = name.strip().lower().replace("_", "-").replace(" ", "-")
    if not wanted.startswith("source-"):
        wanted = f"source-{wanted}"
    stem = wanted.removeprefix("source-")
    containing = sorted(known for known in names if stem and f"-{stem}-" in f"{known}-")
    return list(dict.fromkeys([*containing, *difflib.get_close_matches(wanted, names, n=3, cutoff=0.75)]))[:3]


@cache
def _snapshot() -> tuple[ConnectorEntry, ...]:
    data = resources.files("airberg.sources").joinpath("registry.json").read_bytes()
    return tuple(msgspec.json.decode(data, type=_Snapshot).connectors)


__all__ = ["ConnectorEntry", "ConnectorRegistry", "load_registry"]
