"""Waiting on a condition instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], within_s: float = 60.0, every_s: float = 0.1) -> T:
    """The first true value of a condition.

    Raises:
        AssertionError: It was never true in time; the message has its last value.
    """
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {within_s:.0f} s; last value: {value!r}"
        time.sleep(every_s)
    return value
