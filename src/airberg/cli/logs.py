"""Where the log lines of a command go, and in which form."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import TextIO

from airberg.logs.plain import PlainFormatter
from airberg.logs.scrub import Scrubber, secrets_in
from airberg.settings import Settings

_NOISY = ("httpx", "httpcore", "pyiceberg", "sqlalchemy", "alembic", "datahub")


class _StandardOutput(logging.Handler):
    """Writes to what standard output is at the moment: bars of progress stand in for it while they show."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stdout.write(self.format(record) + "\n")
            sys.stdout.flush()
        except (OSError, ValueError):
            self.handleError(record)


def log_to_stdout(settings: Settings) -> None:
    """Log where the orchestrator shows what its tasks print."""
    _log_to(_StandardOutput(), _formatter(settings), settings)


def log_to_stderr(settings: Settings) -> None:
    """Log beside standard output, which is what was asked for."""
    _log_to(logging.StreamHandler(sys.stderr), _formatter(settings), settings)


def log_of_service(settings: Settings, secrets: Iterable[str] = ()) -> None:
    """Log lines with fields: columns in a terminal, else JSON, unless the settings say how.

    Args:
        secrets: What must not show, besides the secrets of the settings.
    """
    formatter = _formatter(settings, secrets, service=True, stream=sys.stdout)
    _log_to(_StandardOutput(), formatter, settings)


def _formatter(
    settings: Settings,
    secrets: Iterable[str] = (),
    *,
    service: bool = False,
    stream: TextIO | None = None,
) -> logging.Formatter:
    scrubber = Scrubber({*secrets_in(settings), *secrets})
    form = settings.log_format
    if form == "auto":
        form = ("console" if stream and stream.isatty() else "json") if service else "plain"
    if form == "plain":
        return PlainFormatter(scrubber)
    from airberg.logs.structured import structured_formatter  # not loaded by the tasks of flows

    return structured_formatter(scrubber, terminal=form == "console")


def _log_to(handler: logging.Handler, formatter: logging.Formatter, settings: Settings) -> None:
    handler.setFormatter(formatter)
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
