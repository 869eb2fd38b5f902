"""Plain lines for the log of a flow's task, which knows the rest: time, level, logger, message."""

from __future__ import annotations

import logging

from airberg.logs.scrub import Scrubber
from airberg.traces import lines_of_code


class PlainFormatter(logging.Formatter):
    """A formatter for handlers of Python's `logging`, without a library besides.

    Args:
        scrubber: Takes the secrets out of the lines.
        form: What a line has.
    """

    def __init__(
        self, scrubber: Scrubber, form: str = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    ) -> None:
        super().__init__(form)
        self._scrubber = scrubber

    def formatException(self, ei: object) -> str:
        """Lines of code instead of what an exception says; see `airberg.traces`."""
        error = ei[1] if isinstance(ei, tuple) else None
        return lines_of_code(error) if isinstance(error, BaseException) else ""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        own = logging.makeLogRecord(record.__dict__)  # others may have cached an exception's text in it
        own.exc_text = None
        return self._scrubber.text(super().format(own))
