"""Showing how far a run is: bars on a terminal, else a line now and then; and always the job store."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from airberg.jobs.model import RunReport, StreamReport

log = logging.getLogger(__name__)

SAVE_EVERY_S = 5.0
DRAW_EVERY_S = 0.25


class Display(Protocol):
    """Shows people how far the streams are."""

    @property
    def every_s(self) -> float:
        """How often there is something new to show."""
        ...

    def show(self, report: RunReport) -> None:
        """Show this."""
        ...

    def close(self) -> None:
        """Show nothing more."""
        ...


class LogDisplay:
    """A line in the log for each stream that has moved."""

    every_s = SAVE_EVERY_S

    def __init__(self) -> None:
        self._shown: dict[str, StreamReport] = {}

    def show(self, report: RunReport) -> None:
        """See `Display.show`."""
        for stream in report.streams:
            before = self._shown.get(stream.table)
            if stream.rows_read and (before is None or moved(before, stream)):
                log.info("%s", progress_line(stream))
            self._shown[stream.table] = stream

    def close(self) -> None:
        """See `Display.close`."""


class BarDisplay:
    """A bar for each stream, on a terminal. Log lines go above them."""

    every_s = DRAW_EVERY_S

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[line]}"),
            TimeElapsedColumn(),
            console=console,
            transient=False,
            auto_refresh=False,
        )
        self._tasks: dict[str, TaskID] = {}
        self._bars.start()

    def show(self, report: RunReport) -> None:
        """See `Display.show`."""
        for stream in report.streams:
            task = self._tasks.get(stream.table)
            if task is None:
                task = self._tasks[stream.table] = self._bars.add_task(stream.stream, line="")
            total = stream.rows_read if stream.complete else stream.rows_estimated
            completed = min(stream.rows_read, total) if total is not None else stream.rows_read
            self._bars.update(task, total=total or None, completed=completed, line=progress_facts(stream))
        self._bars.refresh()

    def close(self) -> None:
        """See `Display.close`."""
        self._bars.stop()


def open_display() -> Display:
    """Bars where standard output is a terminal, else lines in the log."""
    return BarDisplay(Console(file=sys.stdout)) if sys.stdout.isatty() else LogDisplay()


def moved(before: StreamReport, now: StreamReport) -> bool:
    """Whether there is anything to tell."""
    facts = ("rows_read", "rows_staged", "rows_written", "phase", "complete")
    return any(getattr(before, fact) != getattr(now, fact) for fact in facts)


def progress_line(stream: StreamReport) -> str:
    """One line: `users: reading, 12,000 of 50,000 records read (7.1 MB, 6,000/s), ...`."""
    return f"{stream.stream}: {progress_facts(stream)}"


def progress_facts(stream: StreamReport) -> str:
    """Phase, records, bytes, rate, and what became of them."""
    of = f" of {stream.rows_estimated:,}" if stream.rows_estimated and not stream.complete else ""
    nulled = f", {stream.values_nulled:,} values nulled" if stream.values_nulled else ""
    return (
        f"{stream.phase}, {stream.rows_read:,}{of} records read "
        f"({stream.bytes_read / 1e6:,.1f} MB, {stream.rows_per_s:,.0f}/s), "
        f"{stream.rows_staged:,} rows staged, {stream.rows_written:,} committed{nulled}"
    )


class ProgressKeeper:
    """Shows and stores the report of a run while it works.

    Args:
        report: Makes the report as it stands.
        save: Stores it.
        display: Shows it.
        clock: Seconds, for how often.
    """

    def __init__(
        self,
        report: Callable[[], RunReport],
        save: Callable[[RunReport], None],
        display: Display,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report = report
        self._save = save
        self._display = display
        self._clock = clock
        self._saved_at = self._shown_at = clock()

    def tick(self) -> None:
        """Called often; does something now and then."""
        now = self._clock()
        show, save = now - self._shown_at >= self._display.every_s, now - self._saved_at >= SAVE_EVERY_S
        if show or save:
            self._tell(show=show, save=save)

    def now(self) -> None:
        """Something happened that should be known: a checkpoint."""
        self._tell(show=self._display.every_s < SAVE_EVERY_S, save=True)

    def close(self) -> None:
        """The run has ended; whoever ends it stores the last report."""
        self._tell(show=True, save=False)
        self._display.close()

    def _tell(self, *, show: bool, save: bool) -> None:
        report = self._report()
        if show:
            self._shown_at = self._clock()
            self._display.show(report)
        if save:
            self._saved_at = self._clock()
            self._save(report)
