"""Which manifests are written anew as fewer ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from airberg.lake.upkeep.packing import packed
from airberg.lake.upkeep.policy import Policy

_SMALL = 0.5
"""A manifest below this part of the target is small."""
_MOST_ENTRIES = 40_000
"""Entries that one commit holds in memory: about 100 MB with the bounds of a dozen columns."""


@dataclass(frozen=True, slots=True)
class ManifestFacts:
    """What decides about a manifest.

    Attributes:
        path: Its path.
        kind: Its content and partition spec; only those of one kind can be written together.
        size: Its bytes.
        entries: Files that it names and that are not deleted.
        bounds: Smallest values of its partitions, to put neighbours together.
    """

    path: str
    kind: tuple[str, int]
    size: int
    entries: int
    bounds: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class ManifestPart:
    """Manifests that one commit writes anew, and how many entries each new one gets."""

    paths: tuple[str, ...]
    entries: int


def plan_manifests(manifests: Iterable[ManifestFacts], policy: Policy) -> tuple[ManifestPart, ...]:
    """Say which manifests are written together, a commit each part.

    Args:
        manifests: All manifests of a snapshot.
        policy: The thresholds.
    """
    small: dict[tuple[str, int], list[ManifestFacts]] = defaultdict(list)
    for manifest in manifests:
        if manifest.size < policy.manifest_target_bytes * _SMALL:
            small[manifest.kind].append(manifest)
    parts: list[ManifestPart] = []
    for found in small.values():
        if len(found) < policy.min_manifests:
            continue
        found.sort(key=lambda manifest: (manifest.bounds, manifest.path))
        for together in packed(found, lambda manifest: manifest.entries, _MOST_ENTRIES):
            if len(together) > 1:
                size = sum(manifest.size for manifest in together)
                entries = sum(manifest.entries for manifest in together)
                count = max(1, size // policy.manifest_target_bytes)
                parts.append(ManifestPart(tuple(m.path for m in together), max(1, -(-entries // count))))
    return tuple(parts)
