"""How far a run is: what is shown to people and stored, and how often."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from airberg.jobs.model import RunReport, StreamReport
from airberg.sync.progress import BarDisplay, LogDisplay, ProgressKeeper, progress_line

USERS = StreamReport(
    stream="users",
    table="users",
    rows_read=12_000,
    bytes_read=7_100_000,
    rows_staged=9_000,
    rows_written=3_000,
    rows_estimated=50_000,
    rows_per_s=6_000.4,
    phase="reading",
)


class Moments:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The moment, in seconds."""
        return self.now


def test_a_line_says_it_all() -> None:
    """Phase, records of how many, bytes, rate, staged and committed rows, nulled values."""
    assert progress_line(USERS) == (
        "users: reading, 12,000 of 50,000 records read (7.1 MB, 6,000/s), 9,000 rows staged, 3,000 committed"
    )
    done = StreamReport(stream="a", table="a", rows_read=2, rows_written=2, complete=True, phase="complete")
    nulled = StreamReport(stream="a", table="a", rows_read=2, values_nulled=1_000)
    assert progress_line(done) == ("a: complete, 2 records read (0.0 MB, 0/s), 0 rows staged, 2 committed")
    assert progress_line(nulled).endswith("0 committed, 1,000 values nulled")


def test_log_tells_what_moved(caplog: pytest.LogCaptureFixture) -> None:
    """Streams that have not begun or stand still are not repeated."""
    display = LogDisplay()
    silent = StreamReport(stream="b", table="b")
    with caplog.at_level(logging.INFO):
        display.show(RunReport(streams=(USERS, silent)))
        display.show(RunReport(streams=(USERS, silent)))
    assert [r.getMessage() for r in caplog.records] == [progress_line(USERS)]


@pytest.mark.parametrize("estimate", [None, 0, 10, 50_000])
def test_bars_show_each_stream(estimate: int | None) -> None:
    """With and without an estimate, and with one that was too low."""
    out = io.StringIO()
    display = BarDisplay(Console(file=out, width=160, force_terminal=True))
    report = RunReport(
        streams=(
            StreamReport(stream="users", table="u", rows_read=100, rows_estimated=estimate, phase="reading"),
        )
    )
    display.show(report)
    display.close()
    assert "users" in out.getvalue()
    assert "100" in out.getvalue()
    assert "records read" in out.getvalue()


def test_how_often(caplog: pytest.LogCaptureFixture) -> None:
    """A tick does nothing until it is time; a checkpoint is stored at once; the end is shown."""
    clock, saved = Moments(), []
    keeper = ProgressKeeper(lambda: RunReport(streams=(USERS,)), saved.append, LogDisplay(), clock)
    with caplog.at_level(logging.INFO):
        keeper.tick()
        clock.now += 4.9
        keeper.tick()
        assert (len(saved), len(caplog.records)) == (0, 0)
        clock.now += 0.2
        keeper.tick()
        keeper.tick()
        assert (len(saved), len(caplog.records)) == (1, 1)
        keeper.now()
        assert (len(saved), len(caplog.records)) == (2, 1)
        keeper.close()
    assert len(saved) == 2
