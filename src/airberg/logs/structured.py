"""Log lines with fields: JSON for machines, columns for people.

All of our code, and the libraries, log through Python's `logging`; here structlog's processors make lines.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

import structlog
from structlog.stdlib import ProcessorFormatter

from airberg.logs.context import log_fields
from airberg.logs.scrub import Scrubber
from airberg.traces import lines_of_code

Event = MutableMapping[str, Any]

_OURS = frozenset({"at", "level", "request_id"})
"""Fields that are made, or checked, by us."""
_OF_RECORDS = {*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName", "color_message"}
"""Attributes that all records have, or get from other formatters and from uvicorn."""


def structured_formatter(scrubber: Scrubber, *, terminal: bool) -> logging.Formatter:
    """A formatter for handlers of Python's `logging`.

    Args:
        scrubber: Takes the secrets out of the lines.
        terminal: Columns and colours for people; else one JSON object a line.
    """

    def scrubbed(_logger: Any, _method: str, event: Event) -> Event:  # noqa: ANN401 - structlog's
        return {
            name: value if name in _OURS else scrubber.value(name, value) for name, value in event.items()
        }

    render = (
        structlog.dev.ConsoleRenderer(timestamp_key="at")
        if terminal
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    return ProcessorFormatter(
        foreign_pre_chain=[_line, _exception],
        processors=[ProcessorFormatter.remove_processors_meta, scrubbed, render],
    )


def _line(_logger: Any, _method: str, event: Event) -> Event:  # noqa: ANN401 - structlog's
    """What all lines have, what it belongs to, and its own fields, which cannot stand in for the others."""
    record: logging.LogRecord = event["_record"]
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    line = {"at": at, "level": record.levelname.lower(), "logger": record.name, "event": event["event"]}
    line |= log_fields()
    line |= {n: v for n, v in record.__dict__.items() if n not in _OF_RECORDS and n not in line}
    return line | {name: value for name, value in event.items() if name not in line}


def _exception(_logger: Any, _method: str, event: Event) -> Event:  # noqa: ANN401 - structlog's
    """Lines of code instead of what an exception says, which may quote values; see `airberg.traces`."""
    info = event.pop("exc_info", None)
    error = info[1] if isinstance(info, tuple) else None
    if isinstance(error, BaseException):
        event["exception"] = lines_of_code(error)
    stack = event.pop("stack_info", None)
    if stack:
        event["stack"] = stack
    return event
