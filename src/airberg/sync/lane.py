"""The staging lane: one thread that converts batches and writes them while the next records are read.

Reading lines and writing files both give the interpreter lock away, so the two go on side by side on two
cores. What is handed in is done in that order. How much may wait is bounded, and so is memory.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType

WAITING_BYTES = 32 * 1024 * 1024
"""When so much waits, whoever hands in more has to wait too.

More than a row group: writing one takes as long as reading the records of the next, and whoever reads should
not have to stop for it.
"""


class StagingLane:
    """Does work in order, in a thread of its own; use as a context manager.

    After work has failed nothing else is done, because later rows must not be staged without earlier ones;
    the error is raised to whoever hands in more or waits for the end.

    Args:
        waiting_bytes: How much may wait.
    """

    def __init__(self, waiting_bytes: int = WAITING_BYTES) -> None:
        self._limit = waiting_bytes
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Callable[[], None], int]] = deque()
        self._waiting_bytes = 0
        self._working = False
        self._closed = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="staging", daemon=True)

    def submit(self, work: Callable[[], None], nbytes: int) -> None:
        """Hand in work; waits while too much is waiting.

        Args:
            work: What to do.
            nbytes: How much memory it holds until it is done.

        Raises:
            Exception: What earlier work raised.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting_bytes < self._limit or self._error is not None)
            self._raise()
            self._waiting.append((work, nbytes))
            self._waiting_bytes += nbytes
            self._changed.notify_all()

    def settle(self) -> None:
        """Wait until everything handed in is done.

        Raises:
            Exception: What it raised.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._working)
            self._raise()

    def drop(self) -> None:
        """Forget what waits, and wait for the end of what is being done."""
        with self._changed:
            self._forget()
            self._changed.wait_for(lambda: not self._working)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _forget(self) -> None:
        self._waiting.clear()
        self._waiting_bytes = 0
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting) or self._closed)
                if not self._waiting:
                    return
                work, nbytes = self._waiting.popleft()
                self._working = True
            error: Exception | None = None
            try:
                work()
            except Exception as e:  # noqa: BLE001 - raised again where the rows came from
                error = e
            del work  # it holds the batch
            with self._changed:
                self._working = False
                self._waiting_bytes = max(0, self._waiting_bytes - nbytes)
                if error is not None:
                    self._error = error
                    self._forget()
                self._changed.notify_all()

    def __enter__(self) -> StagingLane:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
