"""The read of a connector: a process whose output is the data."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from airberg.sources.description import LaunchDescription
from airberg.sources.process import GRACE_S, MAX_LINE_BYTES, ConnectorProcess
from airberg.sources.redact import Redactor
from airberg.sources.secret_fields import secret_values

# A log that quotes a message has backslashes before its quotation marks.
_ABOUT_DATA = re.compile(rb'"type"\s*:\s*"(?:RECORD|STATE|TRACE)"')


class ReadProcess(ConnectorProcess):
    """A connector that reads; use as a context manager.

    Start it in the thread that consumes it: the process dies with the thread that started it.

    The file with its configuration is removed with the first message about data. Connectors read it when they
    start, often twice, some write it anew in between, and they log meanwhile: before that message nobody
    can tell that they have done with it.

    Args:
        launch: How to start it.
        config: The configuration, with secrets.
        configured_catalog: `ConfiguredAirbyteCatalog`: which streams, how.
        state: Content of the state file (`states_for_connector`); None or `[]` begins at the beginning.
        idle_timeout_s: How long the output may be silent before the read counts as hung.
        read_timeout_s: How long it may take altogether; None is no limit.
        grace_s: Time to end by itself, after SIGTERM or after its output has ended.
        max_line_bytes: The longest line that is taken.
        hidden: Further secrets, wherever in the configuration they are.

    Attributes:
        redactor: Takes the secrets of `config` out of texts of this connector.
    """

    def __init__(
        self,
        launch: LaunchDescription,
        config: dict[str, Any],
        configured_catalog: dict[str, Any],
        state: bytes | None = None,
        *,
        idle_timeout_s: float = 3600.0,
        read_timeout_s: float | None = None,
        grace_s: float = GRACE_S,
        max_line_bytes: int = MAX_LINE_BYTES,
        hidden: frozenset[str] = frozenset(),
    ) -> None:
        self.redactor = Redactor(secret_values(launch.spec, config) | hidden)
        self._idle_timeout_s = idle_timeout_s
        self._deadline = None if read_timeout_s is None else time.monotonic() + read_timeout_s
        files = {
            "config": msgspec.json.encode(config),
            "catalog": msgspec.json.encode(configured_catalog),
        }
        if state is not None and state != b"[]":
            files["state"] = state
        super().__init__(
            launch,
            "read",
            files,
            redactor=self.redactor,
            grace_s=grace_s,
            max_line_bytes=max_line_bytes,
        )

    def __enter__(self) -> ReadProcess:
        return self

    def blocks(self, *, idle_timeout_s: float, deadline: float | None = None) -> Iterator[bytes]:
        """See `ConnectorProcess.blocks`."""
        was_read = False
        for block in super().blocks(idle_timeout_s=idle_timeout_s, deadline=deadline):
            if not was_read and _ABOUT_DATA.search(block):
                was_read = True
                self.forget("config")
            yield block

    def line_blocks(self) -> Iterator[bytes]:
        """Its output in blocks of whole lines (about 1 MB at full speed).

        Raises:
            TransientFailed: Silent for too long, not at its end in time, or over a limit.
            ConfigurationFailed: A line is longer than the limit.
        """
        return self.blocks(idle_timeout_s=self._idle_timeout_s, deadline=self._deadline)

    def lines(self) -> Iterator[bytes]:
        """The lines of its output one by one; see `line_blocks`."""
        for lines in self.batches(idle_timeout_s=self._idle_timeout_s, deadline=self._deadline):
            yield from lines
