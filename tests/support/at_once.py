"""Calls that start at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def at_once(*calls: Callable[[], T]) -> list[T | Exception]:
    """The results, or exceptions, of calls that start at the same moment, each in a thread."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T | Exception:
        gate.wait()
        try:
            return call()
        except Exception as e:  # noqa: BLE001 - the test looks at it
            return e

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))
