"""The log of a pod, read bit by bit: each of its lines once. No Airflow and no client in here.

Kubernetes gives a log from so many seconds ago, by the clock of its node: not from a line. So we remember the
line that was read last, ask for more than we need, and go on behind it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

MARGIN_S = 60
"""How far clocks may differ before the whole log is read to find the line."""
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


class Place(NamedTuple):
    """The line of a log that was read last.

    Attributes:
        at: When it was written, in nanoseconds since 1970.
        lines: How many lines of that very time there were, up to this one.
    """

    at: int
    lines: int


class PodLog:
    """One log.

    Args:
        read: Gives its lines with their times, from so many seconds ago; None: from the beginning.
        place: Of the line after which it is read; None: from the beginning.

    Attributes:
        place: Of the line that was given out last.
    """

    def __init__(self, read: Callable[[int | None], Iterable[bytes]], place: Place | None = None) -> None:
        self.place = place
        self._read = read

    def more(self, *, ended: bool) -> Iterator[str]:
        """The lines that are new.

        Args:
            ended: Nothing will be written any more: the last line is whole, even if nothing says so.
        """
        known = self.place
        if known is None:
            yield from self._given(self._read(None), ended)
            return
        ago = int(time.time() - known.at / 1e9) + MARGIN_S
        for since in (max(ago, 1), None):
            lines = iter(self._read(since))
            if _found(lines, known):
                yield from self._given(lines, ended)
                return
        # The node has thrown that part of the log away.
        yield from self._given(self._read(None), ended, later_than=known.at)

    def _given(self, lines: Iterable[bytes], ended: bool, later_than: int = -1) -> Iterator[str]:
        for at, line in _with_times(lines):
            if at <= later_than:
                continue
            if not line.endswith(b"\n") and not ended:
                return  # it is being written
            known = self.place
            self.place = Place(at, known.lines + 1 if known is not None and known.at == at else 1)
            yield parsed(line)[1]


def parsed(line: bytes) -> tuple[int | None, str]:
    """When a line was written, in nanoseconds since 1970, and the line; None where no time is before it."""
    text = line.decode("utf-8", errors="replace").rstrip("\r\n")
    time_text, _, rest = text.partition(" ")
    found = _TIME.fullmatch(time_text)
    if found is None:
        return None, text
    second, fraction, zone = found.groups()
    since = datetime.fromisoformat(second + ("+00:00" if zone == "Z" else zone))
    return int(since.timestamp()) * 10**9 + int((fraction or "0").ljust(9, "0")), rest


def _with_times(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """A line without a time is of the time of the one before."""
    known = 0
    for line in lines:
        at, _ = parsed(line)
        known = known if at is None else at
        yield known, line


def _found(lines: Iterator[bytes], known: Place) -> bool:
    """Read up to the line that is known, and say whether it is there."""
    same = 0
    for at, _ in _with_times(lines):
        same += at == known.at
        if same == known.lines:
            return True
    return False
