"""The read loop: messages of the connector, routed to the sinks of their streams."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from airberg.columns.native import NativeReader
from airberg.errors import ConfigurationFailed, RunError
from airberg.protocol.ledger import Ledger
from airberg.protocol.messages import Control, Log, Message, Record, decode
from airberg.protocol.state import State, StateKey
from airberg.sync.checkpoint import checkpoint_together, covered_by
from airberg.sync.connector_log import ConnectorLog
from airberg.sync.progress import ProgressKeeper
from airberg.sync.stream import StreamSink

log = logging.getLogger(__name__)

UNSTAGED_BYTES = 32 * 1024 * 1024
"""Records of all streams together that are in no batch yet."""


class Reader:
    """Feeds the sinks from the connector's output.

    Args:
        sinks: The sink of each stream that is read.
        native: Reads plain RECORD lines into the sinks' builders; without it every line is decoded in Python.
        on_config: Stores a new configuration that the connector hands out (CONTROL).
        progress: Told after each block and each checkpoint.
        connector_log: Takes what the connector logs.
        on_shared_state: For one of several readers that work side by side, each on its own streams: called
            when the connector turns out to give streams a state in common, before the read is given up.
    """

    def __init__(
        self,
        sinks: Mapping[StateKey, StreamSink],
        ledger: Ledger,
        *,
        native: NativeReader | None,
        on_config: Callable[[dict[str, Any]], None],
        progress: ProgressKeeper,
        connector_log: ConnectorLog,
        on_shared_state: Callable[[], None] | None = None,
    ) -> None:
        self._sinks = sinks
        self._ledger = ledger
        self._native = native
        self._on_config = on_config
        self._progress = progress
        self._connector_log = connector_log
        self._on_shared_state = on_shared_state
        self._line = 0
        self._messages = 0

    @property
    def heard(self) -> bool:
        """Whether the connector has written any message; lines that are none do not count."""
        return self._messages > 0

    def consume(self, blocks: Iterable[bytes]) -> None:
        """Handle every line until the connector closes its output.

        Args:
            blocks: Whole lines, each with its end.

        Raises:
            RunError: A line cannot be understood, counts differ, or rows could not be staged.
        """
        for block in blocks:
            self._consume(block)
            self._bound_memory()
            self._progress.tick()
        self._count()

    def _consume(self, block: bytes) -> None:
        position, end = 0, len(block)
        while position < end:
            if self._native is not None:
                position, lines, _ = self._native.feed(block, position)
                self._line += lines
                self._messages += lines
                if position == end:
                    return
            stop = block.index(b"\n", position)
            self._line += 1
            line = block[position:stop]
            self._handle(decode(line, self._line), line)
            position = stop + 1

    def _handle(self, message: Message, line: bytes) -> None:
        if line.lstrip()[:1] == b"{":
            self._messages += 1
        if isinstance(message, Record):
            sink = self._sinks.get(message.key)
            if sink is not None:
                sink.add(message)
            else:
                self._ledger.add_records(message.key)
        elif isinstance(message, State):
            self._count()
            self._state(message)
        elif isinstance(message, Control):
            self._on_config(message.config)
        elif isinstance(message, Log):
            self._connector_log.add(message, len(line))
        else:
            self._ledger.observe(message)

    def _count(self) -> None:
        """Enter into the books what the sinks have taken."""
        for key, sink in self._sinks.items():
            if new := sink.uncounted():
                self._ledger.add_records(key, new)

    def _bound_memory(self) -> None:
        """Hand on what is enough for a batch, and the largest while all together are too much."""
        for sink in self._sinks.values():
            sink.stage_when_full()
        while sum(sink.waiting_bytes for sink in self._sinks.values()) > UNSTAGED_BYTES:
            max(self._sinks.values(), key=lambda sink: sink.waiting_bytes).stage()

    def _state(self, message: State) -> None:
        """A state covers what came before it: of its stream, or of all streams when it is shared.

        The counts are compared first: a state whose records did not all arrive must not be committed.
        """
        if message.key is None and self._on_shared_state is not None:
            self._on_shared_state()
            raise ConfigurationFailed(
                "The source gives its streams a state in common: they cannot be synced side by side.",
                guidance="Nothing is lost. The next run syncs all streams of the job in one task.",
                code="shared-state",
            )
        records = self._ledger.add_state(message)
        covered = covered_by(message, self._sinks)
        for sink in covered:
            sink.cover(message, records)
        if any(sink.due() for sink in covered):
            checkpoint_together(covered)
            self._progress.now()


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
