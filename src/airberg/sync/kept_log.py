"""The log of a run on its way into the job store, where people find it without Airflow.

What is kept is what the log of the task shows, made by the same formatter: secrets are taken out, what a
connector says of protected columns is sealed, and exceptions are lines of code.

A thread writes it, now and then. It never holds up the run and never fails it: when the store does not
answer, lines wait, and when too many wait, further ones are only counted.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime

from airberg.errors import Unavailable
from airberg.jobs.model import Run
from airberg.jobs.run_logs import LogLine, RunLogs
from airberg.logs.plain import PlainFormatter
from airberg.logs.scrub import Scrubber, secrets_in
from airberg.settings import RunLogSettings, Settings

WRITE_EVERY_S = 1.0
WRITE_LINES = 200
"""So many lines are written before that."""
AGAIN_AFTER_S = 5.0
"""When the store did not answer."""
WAITING_LINES = 5_000
CLOSE_WITHIN_S = 10.0
"""The end of a run waits so long for its last lines to be written."""
MESSAGE_CHARACTERS = 32 * 1024
"""Of one message; above what a connector's may have, so that nothing sealed is cut."""
TAIL_LINES = 200
TAIL_BYTES = 256 * 1024
"""The last lines of a log that is too long: the reason why a run failed stands at its end."""
_FRAME_BYTES = 100
"""What time, level and name add to a message."""


@contextlib.contextmanager
def kept_log(store: RunLogs, run: Run, settings: Settings) -> Iterator[None]:
    """Keep what is logged while the block lasts; afterwards it is in the store, if that answers.

    Args:
        store: Where to.
        run: The run, in the attempt that it is in.
        settings: How much, and which secrets never show.
    """
    handler = KeptLog(store, run, settings.run_logs)
    handler.setFormatter(PlainFormatter(Scrubber(secrets_in(settings)), "%(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


class KeptLog(logging.Handler):
    """Hands the lines of one attempt to the store; see the module.

    Args:
        store: Where to.
        run: The run, in the attempt that it is in.
        settings: How much.
    """

    def __init__(self, store: RunLogs, run: Run, settings: RunLogSettings) -> None:
        super().__init__()
        self._store = store
        self._run = run
        self._settings = settings
        self._changed = threading.Condition()
        self._waiting: deque[LogLine] = deque()
        self._taken = self._taken_bytes = 0
        self._lost = 0
        self._tail: deque[LogLine] = deque()
        self._tail_bytes = 0
        self._left_out = 0
        self._closing = False
        self._answered = True
        self._thread = threading.Thread(target=self._write_all, name="kept log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line; never waits for the store."""
        if threading.current_thread() is self._thread:
            return  # what writing a line says must not become another line
        # A record that cannot be formatted is told of by the handler that shows the log.
        with contextlib.suppress(Exception):
            line = self._line(record.levelno, record.name, self.format(record), record.created)
            with self._changed:
                self._take(line)
                if len(self._waiting) >= WRITE_LINES:
                    self._changed.notify_all()

    def close(self) -> None:
        """Write what is left, if the store answers soon."""
        with self._changed:
            if not self._closing:
                self._add_tail()
            self._closing = True
            self._changed.notify_all()
        self._thread.join(CLOSE_WITHIN_S)
        super().close()

    # ---- what is kept ------------------------------------------------------------------------------------

    def _line(self, level: int, logger: str, text: str, created: float | None = None) -> LogLine:
        if len(text) > MESSAGE_CHARACTERS:
            text = f"{text[:MESSAGE_CHARACTERS]} … (cut)"
        at = datetime.now(UTC) if created is None else datetime.fromtimestamp(created, UTC)
        return LogLine(at=at, level=level, logger=logger, message=text, attempt=self._run.attempt)

    def _own(self, text: str) -> LogLine:
        return self._line(logging.WARNING, __name__, text)

    def _take(self, line: LogLine) -> None:
        size = _size(line)
        full = self._taken >= self._settings.max_lines or self._taken_bytes + size > self._settings.max_bytes
        if full or self._tail:
            self._put_aside(line, size)
        elif len(self._waiting) >= WAITING_LINES:
            self._lost += 1
        else:
            self._taken += 1
            self._taken_bytes += size
            self._waiting.append(line)

    def _put_aside(self, line: LogLine, size: int) -> None:
        if not self._tail:
            told = f"{self._settings.max_lines:,} lines or {self._settings.max_bytes:,} bytes"
            self._waiting.append(
                self._own(f"This attempt logs more than is kept here ({told}): only its last lines follow.")
            )
        self._tail.append(line)
        self._tail_bytes += size
        while len(self._tail) > 1 and (len(self._tail) > TAIL_LINES or self._tail_bytes > TAIL_BYTES):
            self._tail_bytes -= _size(self._tail.popleft())
            self._left_out += 1

    def _add_tail(self) -> None:
        if self._left_out:
            self._waiting.append(self._own(f"{self._left_out:,} lines are left out here."))
        self._waiting += self._tail
        self._tail.clear()

    # ---- writing -----------------------------------------------------------------------------------------

    def _write_all(self) -> None:
        while True:
            with self._changed:
                pause = WRITE_EVERY_S if self._answered else AGAIN_AFTER_S
                self._changed.wait_for(self._is_time, pause)
                closing = self._closing
            self._answered = self._write()
            if closing and not (self._answered and self._waiting):
                return

    def _is_time(self) -> bool:
        return self._closing or (self._answered and len(self._waiting) >= WRITE_LINES)

    def _write(self) -> bool:
        """Write what waits. Returns whether the store answered."""
        with self._changed:
            lines = list(self._waiting)
            lost = self._lost
        if not lines and not lost:
            return self._answered
        if lost:
            lines.append(self._own(f"{lost:,} lines were lost here: the job store did not take them."))
        taken = len(lines) - bool(lost)
        try:
            self._store.append(self._run.id, lines)
        except Unavailable:
            return False
        except Exception:  # noqa: BLE001 - whatever it is, later lines may well be stored
            lost = -taken
        with self._changed:
            for _ in range(taken):
                self._waiting.popleft()
            self._lost -= lost
        return True


def _size(line: LogLine) -> int:
    return len(line.message.encode("utf-8", "replace")) + _FRAME_BYTES
