"""What is told of what a connector says: its log lines, its errors, its last words."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from airberg.sources.redact import Redactor

connector_log = logging.getLogger("airberg.connector")

SEALED: Final = "[sealed: see the run's log]"
"""Stands in errors for what a connector said."""

SHOWN_CHARACTERS = 16 * 1024
"""Of one message; the rest of it is left out."""


class ConnectorTexts:
    """Tells what a connector says.

    Its secrets are taken out. Of a job that protects columns nothing is told in clear: a connector quotes the
    rows that it reads where it likes, and no search finds a value in every form. What it says goes into the
    log sealed, so that whoever may read the columns can read it.

    Args:
        protects: Whether the job protects columns. Then nothing is told before there is a seal.

    Attributes:
        redactor: Takes the secrets out. A new one takes its place when the source hands out a configuration.
        seal: Seals a text.
    """

    def __init__(self, *, protects: bool) -> None:
        self.protects = protects
        self.redactor = Redactor()
        self.seal: Callable[[str], str] | None = None

    def log(self, level: int, text: str) -> int:
        """Write what the connector says into the log. Returns how much that is, in characters."""
        if not connector_log.isEnabledFor(level):
            return 0
        told = _shown(self.redactor.text(text))
        if self.protects:
            told = "[withheld]" if self.seal is None else self.seal(told)
        connector_log.log(level, "%s", told)
        return len(told)

    def told(self, text: str) -> str:
        """What an error may have of a text: all but the secrets, or that it is in the log, sealed."""
        if not self.protects:
            return self.redactor.text(text)
        if not text.strip() or text == SEALED:
            return text
        self.log(logging.ERROR, text)
        return SEALED


def _shown(text: str) -> str:
    """A text of bounded length whose further lines are indented: none of them can pass for one of ours."""
    if len(text) > SHOWN_CHARACTERS:
        text = f"{text[:SHOWN_CHARACTERS]} … (cut)"
    return text.replace("\n", "\n    ")
