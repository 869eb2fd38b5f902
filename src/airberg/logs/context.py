"""What a log line belongs to: the request and its caller, or the job and the run.

A request's fields are one mapping that is changed in place. Routes run in threads with a copy of the context,
and the copy has the same mapping: what a thread notes, the line that is written after the answer has too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_of_process: dict[str, str] = {}
_of_request: ContextVar[dict[str, str] | None] = ContextVar("airberg_log_fields", default=None)


@contextlib.contextmanager
def request_fields(**fields: str) -> Iterator[dict[str, str]]:
    """Fields for lines that are logged in the block, in its threads and tasks too; `note` adds to them."""
    mine = dict(fields)
    token = _of_request.set(mine)
    try:
        yield mine
    finally:
        _of_request.reset(token)


def note(**fields: str) -> None:
    """Add fields to those of the current request. Outside of one it does nothing."""
    mine = _of_request.get()
    if mine is not None:
        mine.update(fields)


def note_for_process(**fields: str) -> None:
    """Add fields to every line of this process: one that carries out a run."""
    _of_process.update(fields)


def log_fields() -> dict[str, str]:
    """The fields of a line that is logged here and now."""
    return _of_process | (_of_request.get() or {})
