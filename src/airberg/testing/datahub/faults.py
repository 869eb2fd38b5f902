"""Ways in which a service fails."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with a request.

    Attributes:
        status: Answered instead of doing anything: 503 of an outage, 429 of a limit.
        retry_after: The header of that answer: seconds, or a date of HTTP.
        delay_s: Seconds before anything is done.
        cut: The connection ends in the middle: `before` the request is carried out, or `after` it was, with
            half of the answer.
        times: How many requests it hits; None: all, until it is taken away.
        only: It hits only requests whose path contains this.
        over: It hits only requests with a body of more bytes.
    """

    status: int | None = None
    retry_after: int | str | None = None
    delay_s: float = 0.0
    cut: Literal["before", "after"] | None = None
    times: int | None = None
    only: str = ""
    over: int = -1


class Breakage:
    """The fault of the moment, and how often it still hits; used by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fault: Fault | None = None
        self._left: int | None = None
        self._healed = threading.Event()

    @property
    def fault(self) -> Fault | None:
        """What goes wrong now, or None."""
        return self._fault

    def put(self, fault: Fault | None) -> None:
        """From now on this goes wrong; requests that are being delayed go on at once."""
        with self._lock:
            self._healed.set()
            self._healed = threading.Event()
            self._fault = fault
            self._left = fault.times if fault else None

    def hits(self, path: str, size: int) -> Fault | None:
        """The fault, if it hits this request; waits as long as it says."""
        with self._lock:
            fault, healed = self._fault, self._healed
            if fault is None or fault.only not in path or size <= fault.over or self._left == 0:
                return None
            if self._left is not None:
                self._left -= 1
        if fault.delay_s:
            healed.wait(fault.delay_s)
        return fault
