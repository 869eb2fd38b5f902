"""A service that takes OpenLineage events over HTTP, as Marquez and DataHub do, and checks each of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from typing import Any

from support.json_double import Answer, json_server
from support.openlineage_schema import check_event

API_KEY = "lineage-k3y/plus+"


class LineageListener:
    """Keeps the events that it was sent.

    Attributes:
        events: What it has taken, in order.
        wrong: What was wrong with events that it refused.
        status: Answered instead of taking an event, when set.
        hold: While it is set, no request is answered.
    """

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.wrong: list[str] = []
        self.status: int | None = None
        self.hold: threading.Event | None = None
        self.url = ""

    def answer(self, path: str, headers: Message, body: dict[str, Any]) -> Answer:
        """Take one event."""
        if self.hold is not None:
            self.hold.wait(30)
        if self.status is not None:
            return self.status, {"message": f"Bearer {API_KEY}"}  # servers quote what they were sent
        if path != "/api/v1/lineage":
            return 404, {}
        if headers["authorization"] != f"Bearer {API_KEY}":
            return 401, {}
        try:
            check_event(body)
        except Exception as error:  # noqa: BLE001 - whatever is wrong is the test's to look at
            self.wrong.append(f"{type(error).__name__}: {error}")
            return 422, {}
        self.events.append(body)
        return 201, {}

    def told(self) -> list[tuple[str, str]]:
        """State and run id of all events."""
        assert self.wrong == []
        return [(e["eventType"], e["run"]["runId"]) for e in self.events]


@contextmanager
def lineage_listener() -> Iterator[LineageListener]:
    """A running one."""
    listener = LineageListener()
    with json_server(listener.answer) as url:
        listener.url = url
        yield listener
