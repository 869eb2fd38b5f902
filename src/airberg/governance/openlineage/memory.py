"""The twin of OpenLineage's client, for tests of everything that tells events."""

from __future__ import annotations

import json
from typing import Any

from openlineage.client.serde import Serde

from airberg.errors import Unavailable
from airberg.governance.openlineage.port import Event


class MemoryLineage:
    """Keeps events, as the JSON objects that others would get.

    Attributes:
        events: What was told, in order.
        available: Set to False to have it refuse.
        closed: Whether it was closed.
    """

    def __init__(self, *, available: bool = True) -> None:
        self.available = available
        self.events: list[dict[str, Any]] = []
        self.closed = False

    def emit(self, event: Event) -> None:
        """Keep the event; see `LineageSink.emit`."""
        self._must_be_there()
        self.events.append(json.loads(Serde.to_json(event)))

    def close(self, within_s: float) -> None:
        """See `LineageSink.close`."""
        del within_s
        self.closed = True
        self._must_be_there()

    def _must_be_there(self) -> None:
        if not self.available:
            raise Unavailable("OpenLineage is switched off.", code="openlineage-unavailable")
