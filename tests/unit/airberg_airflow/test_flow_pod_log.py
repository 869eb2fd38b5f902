"""The log of a pod in pieces: no line is lost, none comes twice, wherever a piece ends."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from datetime import UTC, datetime

import pytest

from airberg_airflow.pod_log import MARGIN_S, Place, PodLog, parsed

SECOND = 10**9


def stamp(at: int) -> str:
    """A time in nanoseconds as Kubernetes writes it: without zeros at the end."""
    text = datetime.fromtimestamp(at // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{at % SECOND:09}".rstrip("0")
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"


class Node:
    """What a node has of a log: lines with their times, by a clock of its own."""

    def __init__(self, ahead_s: float = 0.0) -> None:
        self.lines: list[tuple[int, str]] = []
        self.now = time.time_ns() + int(ahead_s * SECOND)
        self.asked: list[int | None] = []
        self.open = ""

    def write(self, *texts: str, later_ns: int = 0) -> None:
        """Lines of one moment."""
        self.now += later_ns
        self.lines += [(self.now, text) for text in texts]

    def read(self, since_s: int | None) -> Iterable[bytes]:
        """As the API gives it."""
        self.asked.append(since_s)
        first = 0 if since_s is None else self.now - since_s * SECOND
        for at, text in self.lines:
            if at >= first:
                yield f"{stamp(at)} {text}\n".encode()
        if self.open:
            yield f"{stamp(self.now)} {self.open}".encode()


@pytest.mark.parametrize("seed", range(30))
def test_pieces_are_the_whole(seed: int) -> None:
    """Lines of the same nanosecond, of equal words, any number of them between two readings."""
    dice = random.Random(seed)
    node, place, got = Node(dice.choice([0.0, -2.5, 30.0, 5000.0, -5000.0])), None, []
    for _ in range(dice.randrange(1, 12)):
        for _ in range(dice.randrange(0, 6)):
            words = [dice.choice(["a", "b", "", "a b "]) for _ in range(dice.randrange(1, 4))]
            node.write(*words, later_ns=dice.choice([0, 1, 10, 999_999_990, SECOND, 70 * SECOND]))
        log = PodLog(node.read, place)
        got += list(log.more(ended=False))
        place = log.place
    got += list(PodLog(node.read, place).more(ended=True))
    assert got == [text for _, text in node.lines]


def test_no_more_than_is_needed_is_asked_for() -> None:
    """From the line that is known, and what clocks may differ by."""
    node = Node()
    node.write("first")
    log = PodLog(node.read)
    assert list(log.more(ended=False)) == ["first"]
    assert list(log.more(ended=False)) == []
    assert node.asked[0] is None
    assert node.asked[1] in range(MARGIN_S, MARGIN_S + 30)
    assert len(node.asked) == 2


def test_a_line_that_is_being_written_waits() -> None:
    """It comes when it is whole; at the end it is."""
    node = Node()
    node.write("first")
    node.open = "hal"
    log = PodLog(node.read)
    assert list(log.more(ended=False)) == ["first"]
    node.open = "half"
    assert list(log.more(ended=True)) == ["half"]


def test_a_log_whose_beginning_was_thrown_away_goes_on() -> None:
    """The line that is known is gone with it: what is later is new."""
    node = Node()
    node.write("first")
    log = PodLog(node.read)
    assert list(log.more(ended=False)) == ["first"]
    node.write("second", later_ns=5)
    node.write("third", later_ns=5)
    del node.lines[:1]
    assert list(log.more(ended=False)) == ["second", "third"]


def test_a_reading_that_breaks_off_goes_on_where_it_was() -> None:
    """What was given out is known."""
    node = Node()
    node.write("first", "second", "third")
    broken = iter(node.read(None))

    def read(since_s: int | None) -> Iterable[bytes]:
        if len(node.asked) > 1:
            yield from node.read(since_s)
            return
        node.asked.append(since_s)
        yield next(broken)
        yield next(broken)
        raise OSError("the connection is gone")

    log, got = PodLog(read), []
    with pytest.raises(OSError, match="gone"):
        got += [got.append(line) or line for line in log.more(ended=False)]
    node.asked.append(None)
    got += list(log.more(ended=False))
    assert got == ["first", "second", "third"]


@pytest.mark.parametrize(
    ("line", "at", "text"),
    [
        pytest.param(b"1970-01-01T00:00:01.5Z a b\n", 1_500_000_000, "a b", id="fraction"),
        pytest.param(b"1970-01-01T02:00:01+02:00 a\r\n", SECOND, "a", id="zone"),
        pytest.param(b"1970-01-01T00:00:00.000000001Z \xff", 1, "\N{REPLACEMENT CHARACTER}", id="bytes"),
        pytest.param(b"no time\n", None, "no time", id="none"),
    ],
)
def test_times_of_lines(line: bytes, at: int | None, text: str) -> None:
    """With nine digits or none, in whatever zone the node is."""
    assert parsed(line) == (at, text)


def test_a_place_is_numbers() -> None:
    """It goes through Airflow's database; nothing of what the pod said does."""
    assert Place(1, 2) == (1, 2)
