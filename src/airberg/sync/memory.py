"""The memory that the tables of a run share: rows that wait to be written.

Each table gathers rows until they make a good row group. With one table that is a few dozen megabytes;
a source with hundreds of streams would need gigabytes. So all tables together have a bound, and when it is
reached the one that holds most writes what it has.
"""

from __future__ import annotations

from airberg.lake.writers import TableWriter

WAITING_BYTES = 96 * 1024 * 1024
"""Arrow bytes of rows that wait in all tables of a run."""


class WaitingRows:
    """Bounds the rows that wait in all writers of a run. Used by the staging lane only.

    Args:
        limit: How many bytes may wait.
    """

    def __init__(self, limit: int = WAITING_BYTES) -> None:
        self._limit = limit
        self._writers: list[TableWriter] = []

    def watch(self, writer: TableWriter) -> None:
        """Let a writer take part."""
        self._writers.append(writer)

    def bound(self) -> None:
        """Have the writers that hold most write, until all together are within the limit.

        Raises:
            TransientFailed, ConfigurationFailed: The storage failed or refused.
        """
        while (held := sum(writer.waiting_bytes for writer in self._writers)) > self._limit:
            largest = max(self._writers, key=lambda writer: writer.waiting_bytes)
            largest.relieve()
            if sum(writer.waiting_bytes for writer in self._writers) >= held:
                return  # nothing that could be written now
