"""How much may be at work at once: what is a process, or a connection that stays."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from airberg.errors import TooManyRequests


class Slots:
    """A limit, for whatever takes a slot of it while it is at work.

    Args:
        limit: How many at once.
        busy: What is said to who finds none free.
        guidance: What to do then.
    """

    def __init__(self, limit: int, busy: str, guidance: str = "Try again in a few seconds.") -> None:
        self._busy = busy
        self._guidance = guidance
        self._free = threading.BoundedSemaphore(limit)

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Take a slot while the block lasts.

        Raises:
            TooManyRequests: There is none; nobody waits for one.
        """
        if not self._free.acquire(blocking=False):
            raise TooManyRequests(self._busy, guidance=self._guidance)
        try:
            yield
        finally:
            self._free.release()
