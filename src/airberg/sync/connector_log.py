"""The log of a connector on its way into ours: how much of it there may be."""

from __future__ import annotations

import logging

from airberg.protocol.messages import Log
from airberg.sources.limits import Limits
from airberg.sync.texts import SHOWN_CHARACTERS, ConnectorTexts, connector_log

SHOWN_BYTES = 64 * 1024 * 1024
"""Of one run. Logs of an orchestrator are kept on disk, and a connector may write for days."""
_FRAME_BYTES = 100
"""What time, level and name add to a message."""

LEVELS = {"FATAL": logging.ERROR, "ERROR": logging.ERROR, "WARN": logging.WARNING, "INFO": logging.INFO}


class ConnectorLog:
    """The log of one read.

    Args:
        texts: Writes it into our log.
        limits: Of these `log_bytes`.
        shown_bytes: How much of it goes into our log.
    """

    def __init__(self, texts: ConnectorTexts, limits: Limits, *, shown_bytes: int = SHOWN_BYTES) -> None:
        self._texts = texts
        self._limits = limits
        self._left_to_show = shown_bytes
        self._taken = 0

    def add(self, message: Log, size: int) -> None:
        """Log a message of the connector.

        Args:
            message: The message.
            size: Bytes of the line that it came in.

        Raises:
            TransientFailed: It has written more than the limit (`connector-log`).
        """
        self._taken += size
        if self._taken > self._limits.log_bytes > 0:
            raise self._limits.too_much_log()
        if self._left_to_show <= 0:
            return
        # The cut that shows is made after secrets were taken out; this one only saves the work.
        text = message.message[: 4 * SHOWN_CHARACTERS]
        if shown := self._texts.log(LEVELS.get(message.level, logging.DEBUG), text):
            self._left_to_show -= shown + _FRAME_BYTES
            if self._left_to_show <= 0:
                connector_log.warning("it has logged a lot; its further messages are left out")
