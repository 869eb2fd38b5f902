"""How many sources may be asked at once: each question is a process, and so is the connector that answers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from airberg.errors import TooManyRequests


class PreflightSlots:
    """A limit for submissions, checks, discovers and specifications together.

    Args:
        limit: How many at once.
    """

    def __init__(self, limit: int) -> None:
        self._free = threading.BoundedSemaphore(limit)

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Take a slot while the block lasts.

        Raises:
            TooManyRequests: There is none; nobody waits for one.
        """
        if not self._free.acquire(blocking=False):
            raise TooManyRequests(
                "Too many sources are being checked at this moment.", guidance="Try again in a few seconds."
            )
        try:
            yield
        finally:
            self._free.release()
