"""Where an exception came from, without what it says.

Messages of exceptions may quote the values that a library stumbled over; lines of code cannot.
"""

from __future__ import annotations

import traceback

from airberg.errors import AirbergError


def lines_of_code(error: BaseException) -> str:
    """The traceback of an exception and of those that it came from: files, lines and types.

    Messages of our own errors are told: they hold no values.
    """
    chain: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        name = f"{type(seen).__module__}.{type(seen).__qualname__}"
        told = f": {seen.message}" if isinstance(seen, AirbergError) else ""
        chain.append("".join(traceback.format_tb(seen.__traceback__)) + name + told)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return "\ncaused by\n".join(chain)
