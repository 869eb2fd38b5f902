"""What ends a run, told so that everybody may read it."""

from __future__ import annotations

import logging
import traceback

from airberg.errors import (
    AirbergError,
    ConfigurationFailed,
    InvalidRequest,
    RequestError,
    RunError,
    TransientFailed,
)
from airberg.sync.texts import ConnectorTexts
from airberg.traces import lines_of_code

log = logging.getLogger(__name__)


def as_run_error(error: Exception, texts: ConnectorTexts) -> RunError:
    """What ends the run, without secrets. What a request could be refused for needs a person here too."""
    if not isinstance(error, AirbergError):
        _log_unexpected(error, texts)
        return TransientFailed(
            f"Airberg failed unexpectedly ({type(error).__name__}).",
            guidance="The run's log has the details; please report it.",
            code="internal-error",
        )
    if isinstance(error, RunError):
        kind: type[RunError] = type(error)
    elif isinstance(error, RequestError):
        kind = ConfigurationFailed
    else:
        kind = TransientFailed
    redact = texts.redactor.text
    message = redact(error.message)
    if isinstance(error, InvalidRequest):
        message = redact(" ".join(p.message for p in error.problems))
    return kind(message, guidance=redact(error.guidance), code=error.code)


def _log_unexpected(error: Exception, texts: ConnectorTexts) -> None:
    """A library's message may quote a row: where columns are protected it is sealed, and the code is told."""
    whole = "".join(traceback.format_exception(error))
    if not texts.protects:
        log.error("unexpected failure\n%s", texts.redactor.text(whole))
        return
    log.error("unexpected failure\n%s", lines_of_code(error))
    texts.told(whole)
