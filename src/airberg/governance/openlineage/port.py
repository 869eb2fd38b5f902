"""Where events go. The client of OpenLineage is the real one, `memory` the one for tests."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

Event: TypeAlias = Any
"""A `RunEvent` of `openlineage.client.event_v2`."""


class LineageSink(Protocol):
    """Takes the events of runs, in order."""

    def emit(self, event: Event) -> None:
        """Hand an event over.

        Raises:
            Unavailable: It was not taken (`openlineage-unavailable`).
        """
        ...

    def close(self, within_s: float) -> None:
        """Wait for events that are on their way, and release what was opened.

        Raises:
            Unavailable: Not all were taken in time.
        """
        ...
