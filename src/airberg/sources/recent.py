"""What sources were found to offer a short while ago, so that an ingest after a discover need not ask again.

It is kept in the memory of the service alone, under a keyed hash of who asked and with which configuration;
the key is made at the start and never leaves the process. A source may have handed out a new configuration
while it was asked (a rotated token): that one is kept along, because the one that was sent is of no use then.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import msgspec

from airberg.sources.entry import ConnectorEntry

MAX_BYTES = 64 * 1024 * 1024
"""All that is kept together; the oldest goes first."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a preflight found with one configuration.

    Attributes:
        fingerprint: Of the connector's launch description: another version, and it holds no longer.
        version: The connector's version.
        streams: `AirbyteStream` objects; None when the source was only checked.
        at: When, in seconds since 1970.
        renewed_config: A configuration that the source handed out meanwhile; holds secrets.
    """

    fingerprint: str
    version: str
    streams: list[dict[str, Any]] | None
    at: float
    renewed_config: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"Found(version={self.version!r}, streams=<{len(self.streams or ())}>)"


class RecentlyFound:
    """Keeps what was found for a while. Safe for threads.

    Args:
        keep_s: How long, in seconds; 0 keeps nothing.
        max_bytes: How much of it.
    """

    def __init__(self, keep_s: float, max_bytes: int = MAX_BYTES) -> None:
        self._keep_s = keep_s
        self._max_bytes = max_bytes
        self._secret = os.urandom(32)
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0

    def __repr__(self) -> str:
        return "RecentlyFound(...)"

    def key(self, entry: ConnectorEntry, config: dict[str, Any], owner: str, roles: Iterable[str]) -> bytes:
        """Under what it is kept. Nobody gets what another owner found, whatever they refer to."""
        asked = msgspec.json.encode(
            [entry.name, entry.known_version, owner, sorted(roles), config], order="sorted"
        )
        return hmac.new(self._secret, asked, hashlib.sha256).digest()

    def get(self, key: bytes) -> Found | None:
        """What was found, unless it is too old."""
        with self._lock:
            self._forget_old()
            kept = self._kept.get(key)
        return msgspec.json.decode(kept[1], type=Found) if kept else None

    def put(self, key: bytes, found: Found) -> None:
        """Keep what was found."""
        data = msgspec.json.encode(found)
        if self._keep_s <= 0 or len(data) > self._max_bytes:
            return
        with self._lock:
            self._drop(key)
            self._kept[key] = (time.monotonic() + self._keep_s, data)
            self._bytes += len(data)
            self._forget_old()
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._kept)))

    def _forget_old(self) -> None:
        now = time.monotonic()
        for key in [key for key, (until, _) in self._kept.items() if until <= now]:
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        dropped = self._kept.pop(key, None)
        if dropped is not None:
            self._bytes -= len(dropped[1])
