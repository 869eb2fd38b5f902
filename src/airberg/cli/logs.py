"""Where the log lines of a command go."""

from __future__ import annotations

import logging
import sys

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
    _log_to(_StandardOutput(), settings)


def log_to_stderr(settings: Settings) -> None:
    """Log beside standard output, which is what was asked for."""
    _log_to(logging.StreamHandler(sys.stderr), settings)


def _log_to(handler: logging.Handler, settings: Settings) -> None:
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
