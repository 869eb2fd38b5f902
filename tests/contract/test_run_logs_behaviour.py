"""What keeps the logs of runs behaves the same, whatever it keeps them in."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest

from airberg.errors import NotFound
from airberg.jobs import run_logs
from airberg.jobs.port import JobStore
from airberg.jobs.run_logs import LogLine
from support.jobs import NOON, a_job, a_run, at


def a_line(message: str = "said", **changes: Any) -> LogLine:
    """A line of the first attempt."""
    values: dict[str, Any] = {"at": NOON, "level": logging.INFO, "logger": "airberg.sync.run", "attempt": 1}
    return LogLine(**(values | {"message": message} | changes))


@pytest.fixture
def run_id(store: JobStore) -> UUID:
    """A run that is stored."""
    job = store.add_job(a_job(), {})
    return store.add_run(a_run(job.id)).id


def texts(store: JobStore, run_id: UUID, **choice: Any) -> list[str]:
    """Messages, as they are read."""
    return [line.message for line in store.run_logs.read(run_id, **choice)]


def test_lines_come_back_as_they_were(store: JobStore, run_id: UUID) -> None:
    """Every member, with numbers from 1, over several appends."""
    berlin = timezone(timedelta(hours=2))
    first = [
        a_line(),
        a_line("two\nlines \u20ac", level=logging.ERROR, attempt=2, logger="airberg.connector"),
    ]
    store.run_logs.append(run_id, first)
    store.run_logs.append(run_id, [a_line("third", at=datetime(2026, 7, 1, 2, tzinfo=berlin))])
    found = store.run_logs.read(run_id)
    assert [line.seq for line in found] == [1, 2, 3]
    assert [(x.at, x.level, x.logger, x.message, x.attempt) for x in found[:2]] == [
        (x.at, x.level, x.logger, x.message, x.attempt) for x in first
    ]
    assert found[2].at == datetime(2026, 7, 1, 0, tzinfo=UTC)
    assert found[2].at.utcoffset() == timedelta(0)


def test_parts_of_a_log(store: JobStore, run_id: UUID) -> None:
    """From either end, in between, and by level; always in their order."""
    levels = [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR]
    store.run_logs.append(run_id, [a_line(str(n), level=levels[n % 4]) for n in range(1, 9)])
    assert texts(store, run_id, limit=3) == ["1", "2", "3"]
    assert texts(store, run_id, after=6) == ["7", "8"]
    assert texts(store, run_id, after=8) == []
    assert texts(store, run_id, newest=True, limit=3) == ["6", "7", "8"]
    assert texts(store, run_id, before=4) == ["1", "2", "3"]
    assert texts(store, run_id, before=4, newest=True, limit=2) == ["2", "3"]
    assert texts(store, run_id, after=2, before=6) == ["3", "4", "5"]
    assert texts(store, run_id, min_level=logging.WARNING) == ["2", "3", "6", "7"]
    assert texts(store, run_id, min_level=logging.ERROR, newest=True, limit=1) == ["7"]


def test_runs_are_kept_apart(store: JobStore, run_id: UUID) -> None:
    """Each run has its own numbers; a run that nobody knows has no lines, and gets none."""
    other = store.add_run(a_run(store.run(run_id).job_id, "manual__2")).id
    store.run_logs.append(run_id, [a_line("mine")])
    store.run_logs.append(other, [a_line("other")])
    store.run_logs.append(other, [])
    assert [(x.seq, x.message) for x in store.run_logs.read(other)] == [(1, "other")]
    nobody = uuid4()
    with pytest.raises(NotFound):
        store.run_logs.append(nobody, [a_line()])
    assert list(store.run_logs.read(nobody)) == []


def test_any_text_is_taken(store: JobStore, run_id: UUID) -> None:
    """Connectors write what they like: NULs and halves of surrogate pairs are replaced."""
    store.run_logs.append(run_id, [a_line("a\x00b\ud800c" + "x" * 100_000, logger="l\x00")])
    [found] = store.run_logs.read(run_id)
    assert found.message[:7] == "a\ufffdb?cxx"
    assert len(found.message) == 100_005
    assert found.logger == "l\ufffd"


def test_old_lines_are_removed(store: JobStore, run_id: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where they are more than are removed at once; what stays keeps its number."""
    monkeypatch.setattr(run_logs, "PRUNED_AT_ONCE", 3)
    store.run_logs.append(run_id, [a_line(str(n), at=at(n)) for n in range(10)])
    assert store.run_logs.prune(at(8)) == 8
    assert [(x.seq, x.message) for x in store.run_logs.read(run_id)] == [(9, "8"), (10, "9")]
    assert store.run_logs.prune(at(8)) == 0
    store.run_logs.append(run_id, [a_line("new")])
    assert [x.seq for x in store.run_logs.read(run_id)] == [9, 10, 11]


def test_several_write_at_once(store: JobStore, run_id: UUID) -> None:
    """Numbers have no holes and no doubles; lines of one append stay together."""

    def write(writer: int) -> None:
        for n in range(5):
            store.run_logs.append(run_id, [a_line(f"{writer}.{n}.{part}", attempt=writer) for part in "ab"])

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write, writer) for writer in range(4)]:
            done.result()
    found = store.run_logs.read(run_id)
    assert [x.seq for x in found] == list(range(1, 41))
    heads = [x.message[:-2] for x in found]
    assert heads[::2] == heads[1::2]
    for writer in range(4):
        assert [x.message[2] for x in found if x.attempt == writer] == [c for c in "01234" for _ in "ab"]
