"""A process that holds rows, keys or secrets takes them along when it ends, however it ends."""

from __future__ import annotations

import logging
import resource
import sys
import threading
from types import TracebackType

from airberg.traces import lines_of_code

log = logging.getLogger(__name__)

_NO_DUMP = 1
"""Bytes that a core dump may have. None fits into one, and Linux takes this very number for the wish that no
program gets the dump either (core(5), "Piping core dumps to a program"), which 0 does not say."""


def forbid_core_dumps() -> None:
    """No image of the memory of this process, or of those that it starts, goes to disk when one crashes."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    limit = _NO_DUMP if most == resource.RLIM_INFINITY else min(most, _NO_DUMP)
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


def log_without_messages() -> None:
    """Exceptions that nobody catches, in any thread, are logged as lines of code, without what they say.

    Python would print their messages, which may quote values.
    """
    sys.excepthook = _uncaught
    threading.excepthook = lambda event: _failed(event.exc_value)
    sys.unraisablehook = lambda event: _failed(event.exc_value)


def _uncaught(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    log.critical("ended unexpectedly\n%s", lines_of_code(error))


def _failed(error: BaseException | None) -> None:
    if error is not None:
        log.error("unexpected failure\n%s", lines_of_code(error))
