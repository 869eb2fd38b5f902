"""Which connectors there are. An unknown name is never downloaded.

A snapshot (`airberg.sources.snapshot`) names connectors of Airbyte on the package index with exact versions.
The deployment's own connectors (`airberg.sources.declared`) win over it.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from airberg.errors import InvalidRequest, Unavailable
from airberg.quoted import quoted
from airberg.sources.declared import declared_entries, settled
from airberg.sources.entry import ConnectorEntry
from airberg.sources.snapshot import Snapshot, newest_snapshot, packaged_snapshot

if TYPE_CHECKING:
    from airberg.settings import Settings

POINTER = "/source_name"
VERSION_POINTER = "/source_version"


class ConnectorRegistry:
    """The known connectors.

    Args:
        own: Connectors of the deployment, by name, the version for new jobs first; a name that they have is
            not looked for in the snapshot.
        snapshot: Those of Airbyte; default the package's.
    """

    def __init__(
        self, own: Mapping[str, Sequence[ConnectorEntry]] | None = None, snapshot: Snapshot | None = None
    ) -> None:
        snapshot = snapshot or packaged_snapshot()
        self._listed = snapshot.listed
        self._images = snapshot.images
        self._entries: dict[str, tuple[ConnectorEntry, ...]] = {e.name: (e,) for e in snapshot.connectors}
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
        if name in self._listed:
            raise InvalidRequest.one(
                POINTER,
                "source-not-confirmed",
                f"The package index has a package for {name}, and nobody has confirmed that it is Airbyte's.",
                f'To use it, the operator declares it in the connectors file: package = "airbyte-{name}", '
                f'version = "{self._listed[name]}".',
            )
        if name in self._images:
            raise _no_package(name, self._images[name])
        near = _nearest(name, {*self._entries, *self._images})
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
    """The newest snapshot with the connectors of `settings.connectors_file`.

    Raises:
        Unavailable: That file, or the deployment's snapshot, is not well formed.
    """
    own = declared_entries(settings.connectors_file)
    return ConnectorRegistry(own, newest_snapshot(settings.registry_file))


def _shown(entry: ConnectorEntry) -> ConnectorEntry:
    """The entry settled, if that is possible: a list is one of all, also when one manifest is lost."""
    try:
        return settled(entry)
    except Unavailable:
        return entry


def _no_package(name: str, language: str) -> InvalidRequest:
    if language == "manifest-only":
        how = f'The operator gets its manifest.yaml, and declares it: manifest = "{name}.yaml".'
    else:
        how = (
            "Where a container engine runs, the operator declares its image with the tag to use: "
            f'image = "docker.io/airbyte/{name}:TAG".'
        )
    return InvalidRequest.one(
        POINTER,
        "source-has-no-package",
        f"Airbyte publishes {name} ({language}) in a form that cannot be installed by its name.",
        how,
    )


def _nearest(name: str, names: Collection[str]) -> list[str]:
    wanted = name.strip().lower().replace("_", "-").replace(" ", "-")
    if not wanted.startswith("source-"):
        wanted = f"source-{wanted}"
    stem = wanted.removeprefix("source-")
    containing = sorted(known for known in names if stem and f"-{stem}-" in f"{known}-")
    return list(dict.fromkeys([*containing, *difflib.get_close_matches(wanted, names, n=3, cutoff=0.75)]))[:3]


__all__ = ["ConnectorEntry", "ConnectorRegistry", "load_registry"]
