"""The log of a run on its way into the store: what is kept, and that nothing of it can hurt the run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from airberg.errors import Unavailable
from airberg.jobs.run_logs import LogLine, MemoryRunLogs
from airberg.settings import RunLogSettings, Settings
from airberg.sync import kept_log as module
from airberg.sync.kept_log import kept_log
from support.conditions import eventually
from support.jobs import a_run

log = logging.getLogger("airberg.example")
RUN = a_run(uuid4(), attempt=3)


class Store(MemoryRunLogs):
    """A store that may be away."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.asked = threading.Semaphore(0)

    def append(self, run_id: UUID, lines: Sequence[LogLine]) -> None:
        """Refuse, or keep."""
        if (error := self.error) is not None:
            self.asked.release()
            raise error
        super().append(run_id, lines)

    def texts(self) -> list[str]:
        """All messages."""
        return [line.message for line in self.read(RUN.id, limit=100_000)]


@pytest.fixture(autouse=True)
def _level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture
def store() -> Store:
    """An empty one."""
    return Store()


def kept(store: Store, **settings: Any) -> Any:
    """The block whose log is kept."""
    return kept_log(store, RUN, Settings(token=SecretStr("open sesame"), run_logs=RunLogSettings(**settings)))


def test_what_is_logged_is_kept(store: Store) -> None:
    """Level, logger, attempt, arguments and exceptions, as the log shows them; nothing before and after."""
    log.info("before")
    with kept(store):
        log.info("%d of %s", 3, "users")
        log.debug("not asked for")
        try:
            raise ValueError("row of ann")
        except ValueError:
            log.exception("it broke")
    log.info("after")
    first, second = store.read(RUN.id)
    assert (first.message, first.level, first.logger, first.attempt) == (
        "3 of users",
        logging.INFO,
        "airberg.example",
        3,
    )
    assert second.message.startswith("it broke\n  File")
    assert second.message.endswith("builtins.ValueError")
    assert "ann" not in second.message.replace("row of ann", "", 1)
    assert first.at <= second.at


def test_secrets_of_the_deployment(store: Store) -> None:
    """They are taken out, and so is what looks like one."""
    with kept(store):
        log.warning("asked with open sesame at http://ann:hunter2@host/?token=abc")
    assert store.texts() == ["asked with ********** at http://ann:**********@host/?token=**********"]


def test_lines_are_there_while_the_run_works(store: Store) -> None:
    """Who follows a run does not wait for its end."""
    with kept(store):
        log.info("working")
        assert eventually(store.texts, 20, 0.02) == ["working"]


def test_many_lines_are_written_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for the time to come."""
    monkeypatch.setattr(module, "WRITE_EVERY_S", 3600.0)
    with kept(store):
        for n in range(module.WRITE_LINES):
            log.info("%d", n)
        assert len(eventually(store.texts, 20, 0.02)) == module.WRITE_LINES


def test_a_log_that_is_too_long_keeps_its_ends(store: Store) -> None:
    """The first lines, a notice, how many are missing, and the last ones: why a run failed is there."""
    with kept(store, max_lines=10):
        for n in range(1000):
            log.info("line %d", n)
    found = store.texts()
    assert found[:10] == [f"line {n}" for n in range(10)]
    assert found[10].startswith("This attempt logs more than is kept here (10 lines or 5,000,000 bytes)")
    assert found[11] == "790 lines are left out here."
    assert found[12:] == [f"line {n}" for n in range(800, 1000)]


def test_bytes_are_bounded_too(store: Store) -> None:
    """Of the beginning and of the end; one message as well."""
    with kept(store, max_bytes=100_000):
        for _ in range(50):
            log.info("x" * 50_000)
        log.info("the end")
    found = store.texts()
    assert max(map(len, found)) == module.MESSAGE_CHARACTERS + len(" … (cut)")
    assert sum(map(len, found)) < 100_000 + module.TAIL_BYTES + 1_000
    assert found[-1] == "the end"


def test_a_store_that_is_away_for_a_while(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines wait for it, in their order; those that are too many are counted."""
    monkeypatch.setattr(module, "WRITE_EVERY_S", 0.01)
    monkeypatch.setattr(module, "AGAIN_AFTER_S", 0.01)
    monkeypatch.setattr(module, "WAITING_LINES", 5)
    store.error = Unavailable("away")
    with kept(store):
        for n in range(8):
            log.info("%d", n)
        for _ in range(3):
            assert store.asked.acquire(timeout=20)
        assert store.texts() == []
        store.error = None
        lost = "3 lines were lost here: the job store did not take them."
        assert eventually(store.texts, 20, 0.02) == ["0", "1", "2", "3", "4", lost]
        log.info("there again")
    assert store.texts()[-1] == "there again"


def test_a_store_that_stays_away(store: Store) -> None:
    """The run ends all the same."""
    store.error = Unavailable("away")
    with kept(store):
        log.info("lost")
    store.error = None
    assert store.texts() == []


def test_lines_that_cannot_be_stored_do_not_block_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are counted."""
    monkeypatch.setattr(module, "WRITE_EVERY_S", 0.01)
    store.error = ValueError("whatever")
    with kept(store):
        for text in "ab":
            log.info(text)
            assert store.asked.acquire(timeout=20)
        store.error = None
        log.info("c")
    assert set(store.texts()) == {"2 lines were lost here: the job store did not take them.", "c"}


def test_a_store_that_logs(store: Store) -> None:
    """What writing says is not written: there would be no end of it."""

    class Talking(Store):
        def append(self, run_id: UUID, lines: Sequence[LogLine]) -> None:
            log.warning("writing")
            super().append(run_id, lines)

    talking = Talking()
    with kept(talking):
        log.info("once")
    assert talking.texts() == ["once"]


def test_records_that_cannot_be_formatted(store: Store) -> None:
    """The handler that shows the log tells of them; here they are passed over."""
    handler = module.KeptLog(store, RUN, RunLogSettings())
    handler.emit(logging.LogRecord("x", logging.INFO, "x", 1, "%d", ("no number",), None))
    handler.emit(logging.LogRecord("x", logging.INFO, "x", 1, "%d", (1,), None))
    handler.close()
    assert store.texts() == ["1"]


def test_errors_pass(store: Store) -> None:
    """The block's error goes on its way, its log is kept."""

    def fail() -> None:
        with kept(store):
            log.info("so far")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.texts() == ["so far"]
