"""How many questions may be asked at once: each is a process, and so is the connector that answers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from airberg.errors import TooManyRequests


class PreflightSlots:
    """A limit for submissions, checks, discovers and specifications together; another for tables.

    Args:
        limit: How many at once.
        busy: What is said to who finds none free.
    """

    def __init__(self, limit: int, busy: str = "Too many sources are being checked at this moment.") -> None:
        self._busy = busy
        self._free = threading.BoundedSemaphore(limit)

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Take a slot while the block lasts.

        Raises:
            TooManyRequests: There is none; nobody waits for one.
        """
        if not self._free.acquire(blocking=False):
            raise TooManyRequests(self._busy, guidance="Try again in a few seconds.")
        try:
            yield
        finally:
            self._free.release()
