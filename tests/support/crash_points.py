"""Crashes inside this process, at the named steps of a checkpoint and of upkeep."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from airberg.lake.steps import EVENT
from airberg.lake.upkeep.steps import EVENT as UPKEEP_EVENT
from support.lake_tables import Killed

_armed: list[CrashPoint] = []


class CrashPoint:
    """Raises `Killed` at the n-th of the steps that are reached, counted from 0.

    Attributes:
        seen: The steps so far, with the table's name.
        hit: The step that it was.
    """

    def __init__(self, n: int, step: str | None = None) -> None:
        self._left = n
        self._step = step
        self.seen: list[tuple[str, str]] = []
        self.hit: tuple[str, str] | None = None

    def reached(self, step: str, table: str) -> None:
        """Count a step, and crash at the one that was asked for."""
        self.seen.append((step, table))
        if self.hit is not None or self._step not in (None, step):
            return
        self._left -= 1
        if self._left < 0:
            self.hit = (step, table)
            raise Killed


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in (EVENT, UPKEEP_EVENT) and _armed:
        _armed[-1].reached(*arguments)


sys.addaudithook(_hook)  # there is no way to take one away again: it does nothing while nothing is armed


@contextlib.contextmanager
def crash_at(n: int, step: str | None = None) -> Iterator[CrashPoint]:
    """Crash at the n-th step (of one kind) inside the block; the crash ends the block and goes no further."""
    point = CrashPoint(n, step)
    _armed.append(point)
    try:
        with contextlib.suppress(Killed):
            yield point
    finally:
        _armed.remove(point)
