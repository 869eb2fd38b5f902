"""The staging lane: in order, bounded, and nothing behind an error."""

from __future__ import annotations

import threading

import pytest

from airberg.sync.lane import StagingLane


def test_work_is_done_in_order_by_another_thread() -> None:
    """What was handed in is done when it has settled."""
    done: list[tuple[int, bool]] = []
    me = threading.get_ident()
    with StagingLane() as lane:
        for i in range(100):
            lane.submit(lambda i=i: done.append((i, threading.get_ident() == me)), 1)
        lane.settle()
        assert done == [(i, False) for i in range(100)]


def test_whoever_hands_in_too_much_waits() -> None:
    """No more than the limit is ever begun to wait beyond what is being done."""
    go, begun = threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        go.wait()

    with StagingLane(waiting_bytes=10) as lane:
        lane.submit(first, 10)
        begun.wait()
        more = threading.Thread(target=lane.submit, args=(lambda: None, 1))
        more.start()
        more.join(0.05)
        assert more.is_alive()
        go.set()
        more.join()
        lane.settle()


def test_an_error_ends_it() -> None:
    """What waits behind it is not done; everybody is told the same error."""
    done: list[str] = []
    go = threading.Event()

    def fail() -> None:
        go.wait()
        raise OSError("disk full")

    with StagingLane() as lane:
        lane.submit(fail, 1)
        lane.submit(lambda: done.append("behind"), 1)
        go.set()
        for _ in range(2):
            with pytest.raises(OSError, match="disk full"):
                lane.settle()
        with pytest.raises(OSError, match="disk full"):
            lane.submit(lambda: done.append("later"), 1)
        lane.drop()
    assert done == []


def test_dropping_waits_for_what_is_being_done() -> None:
    """Afterwards nothing runs any more, so that files can be deleted."""
    go, begun = threading.Event(), threading.Event()
    done: list[str] = []

    def slow() -> None:
        begun.set()
        go.wait()
        done.append("begun")

    with StagingLane() as lane:
        lane.submit(slow, 1)
        lane.submit(lambda: done.append("waiting"), 1)
        begun.wait()
        threading.Timer(0.05, go.set).start()
        lane.drop()
        assert done == ["begun"]
        lane.submit(lambda: done.append("after"), 1)
        lane.settle()
    assert done == ["begun", "after"]
