"""The read loop: messages of the connector, routed to the sinks of their streams."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from airberg.errors import RunError
from airberg.protocol.ledger import Ledger
from airberg.protocol.messages import Control, Log, Record, decode
from airberg.protocol.state import State, StateKey
from airberg.sync.checkpoint import checkpoint_together, covered_by
from airberg.sync.stream import StreamSink

log = logging.getLogger(__name__)
connector_log = logging.getLogger("airberg.connector")

PROGRESS_EVERY_S = 5.0

LEVELS = {"FATAL": logging.ERROR, "ERROR": logging.ERROR, "WARN": logging.WARNING, "INFO": logging.INFO}


class Reader:
    """Feeds the sinks from the connector's output lines.

    Args:
        sinks: The sink of each stream that is read.
        on_config: Stores a new configuration that the connector hands out (CONTROL).
        on_checkpoint: Called after each commit and now and then, to report progress.
        redact: Hides secrets in what the connector logs.
    """

    def __init__(
        self,
        sinks: Mapping[StateKey, StreamSink],
        ledger: Ledger,
        *,
        on_config: Callable[[dict[str, Any]], None],
        on_progress: Callable[[], None],
        redact: Callable[[str], str],
    ) -> None:
        self._sinks = sinks
        self._ledger = ledger
        self._on_config = on_config
        self._on_progress = on_progress
        self._redact = redact
        self._reported_at = time.monotonic()

    def consume(self, lines: Iterable[bytes]) -> None:
        """Handle every line until the connector closes its output.

        Raises:
            RunError: A line cannot be understood, or counts differ.
        """
        sinks, ledger = self._sinks, self._ledger
        for number, line in enumerate(lines, 1):
            message = decode(line, number)
            if isinstance(message, Record):
                key = message.key
                if ledger.add_records(key):
                    sinks[key].add(message)
            elif isinstance(message, State):
                self._state(message)
            elif isinstance(message, Control):
                self._on_config(message.config)
            elif isinstance(message, Log):
                level = LEVELS.get(message.level, logging.DEBUG)
                connector_log.log(level, "%s", self._redact(message.message))
            else:
                ledger.observe(message)
            if number % 1000 == 0:
                self._progress()

    def _state(self, message: State) -> None:
        """A state covers what came before it: of its stream, or of all streams when it is shared.

        The counts are compared first: a state whose records did not all arrive must not be committed.
        """
        self._ledger.add_state(message)
        covered = covered_by(message, self._sinks)
        for sink in covered:
            sink.cover(message)
        if any(sink.due() for sink in covered):
            checkpoint_together(covered)
            self._on_progress()

    def _progress(self) -> None:
        now = time.monotonic()
        if now - self._reported_at < PROGRESS_EVERY_S:
            return
        self._reported_at = now
        for sink in self._sinks.values():
            if sink.rows_read:
                log.info(
                    "%s: %s records read, %s rows committed",
                    sink.plan.name,
                    f"{sink.rows_read:,}",
                    f"{sink.report.rows_written:,}",
                )
        self._on_progress()


def commit_what_is_covered(sinks: Iterable[StreamSink]) -> None:
    """After a failure: keep what the connector's states cover, so that a retry goes on from there."""
    kept = list(sinks)
    sharing = [sink for sink in kept if sink.shares_state]
    groups = [sharing, *([sink] for sink in kept if not sink.shares_state)]
    for group in groups:
        try:
            checkpoint_together(group)
        except RunError as e:
            names = ", ".join(sink.plan.name for sink in group)
            log.warning("%s: the last checkpoint could not be kept: %s", names, e.message)
        finally:
            for sink in group:
                sink.discard()
