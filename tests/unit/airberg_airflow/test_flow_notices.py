"""What is told of runs that failed or are late, as far as that needs no Airflow."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airberg_airflow.late import LateWatch, another_tells
from airberg_airflow.notices import FAILED, LATE, FailureNotices, Notice, Subject, missing, tell

SUBJECT = Subject("job-1", '<!channel> {{ conn.x.password }} <b> & "ann"', "airberg_job-1", "http://a/dags/f")
SLACK = {"type": "slack", "connection": "s", "channel": "#c"}
EMAIL = {"type": "email", "to": ["ann@example.com"]}


def notice(event: str = FAILED, subject: Subject = SUBJECT) -> Notice:
    """A notice."""
    return Notice(event, subject, "scheduled__2026-01-01T00:00:00+00:00", "failed")


def test_the_page_of_a_run_is_quoted() -> None:
    """Ids of scheduled runs have colons and a plus sign; without a page of the flow there is none."""
    assert notice().run_url == "http://a/dags/f/runs/scheduled__2026-01-01T00%3A00%3A00%2B00%3A00"
    body = notice(subject=SUBJECT._replace(flow_url=None)).body()
    assert (body["run_url"], body["flow_url"]) == (None, None)


def test_a_name_is_no_markup() -> None:
    """Neither Slack's, where it could call everybody in, nor that of a page."""
    text, page = notice().slack_text(), notice().email_html()
    assert "&lt;!channel&gt;" in text
    assert "<" not in text
    assert "&lt;b&gt; &amp; &quot;ann&quot;" in page
    assert "http://a/dags/f/runs/" in text


def test_what_happened_is_in_the_title() -> None:
    """In one line."""
    assert notice().title.endswith("failed")
    assert notice(LATE).title.endswith("has not ended in time")
    assert "\n" not in notice().title


def test_a_missing_provider_is_named() -> None:
    """This environment has none of Airflow's."""
    assert missing([]) is None
    assert missing([{"type": "webhook", "connection": "c"}]) is None
    assert missing([SLACK, EMAIL, SLACK]) == (
        "Airflow's environment lacks apache-airflow-providers-slack, apache-airflow-providers-smtp."
    )


def test_who_cannot_be_told_does_not_keep_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """Each is tried; the log says why it was not told, and the callback of a flow does not fail."""
    with caplog.at_level(logging.ERROR):
        tell([SLACK, {"type": "pigeon"}, EMAIL], notice())
        FailureNotices(SUBJECT, [SLACK])({"run_id": "r"})
    texts = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(texts) == 4
    assert "apache-airflow-providers-slack" in texts[0]
    assert "pigeon" in texts[1]
    assert "apache-airflow-providers-smtp" in texts[2]


# ---- late ------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """A run as Airflow's context has it."""

    run_after: datetime
    run_id: str = "r"
    start_date: datetime | None = None
    clear_number: int = 0


@dataclass
class Task:
    """A task as Airflow's context has it."""

    map_index: int = -1
    states: dict[str, str] = field(default_factory=dict)
    dag_id: str = "f"
    task_id: str = "sync"

    def get_task_states(self, dag_id: str, *, task_ids: list[str], run_ids: list[str]) -> dict[str, Any]:
        """As the SDK's."""
        assert (dag_id, task_ids, run_ids) == ("f", ["sync"], ["r"])
        return {"r": self.states} if self.states else {}


def test_a_run_is_late_from_when_it_was_due() -> None:
    """Not from when it began: it may have waited. A run that was cleared begins anew."""
    watch, due = LateWatch(SUBJECT, [], 60), datetime(2026, 1, 1, tzinfo=UTC)
    began = due + timedelta(hours=3)
    assert watch.due(Run(due, start_date=began)) == due + timedelta(seconds=60)
    assert watch.due(Run(due, start_date=began, clear_number=1)) == began + timedelta(seconds=60)


def test_it_is_told_while_the_work_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """At once where the deadline has passed; never where the work ends before it."""
    now = datetime.now(UTC)
    told = threading.Event()

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "has not ended in time" in record.getMessage():
                told.set()

    handler = Heard()
    logging.getLogger("airberg_airflow.notices").addHandler(handler)
    try:
        with caplog.at_level(logging.WARNING):
            before = threading.active_count()
            with LateWatch(SUBJECT, [], 3600).watching({"dag_run": Run(now), "ti": Task()}):
                pass
            assert threading.active_count() <= before + 1
            assert not told.is_set()
            run = Run(now - timedelta(hours=2))
            with LateWatch(SUBJECT, [], 3600).watching({"dag_run": run, "ti": Task()}):
                assert told.wait(20)
    finally:
        logging.getLogger("airberg_airflow.notices").removeHandler(handler)


@pytest.mark.parametrize(
    ("number", "states", "other"),
    [
        (-1, {}, False),
        (0, {"sync_0": "running", "sync_1": "running"}, False),
        (1, {"sync_0": "running", "sync_1": "running"}, True),
        (2, {"sync_0": "success", "sync_1": "queued", "sync_2": "running"}, False),
        (2, {}, False),
    ],
)
def test_one_of_several_tasks_tells(number: int, states: dict[str, str], other: bool) -> None:
    """The first that is at work."""
    assert another_tells(Task(number, states), "r") is other


def test_a_suspended_task_tells_when_it_is_resumed(caplog: pytest.LogCaptureFixture) -> None:
    """Not before the run is late; and not where an earlier one of several is on its way to tell it."""
    now, said = datetime.now(UTC), "has not ended in time"
    run = Run(now - timedelta(hours=2))
    with caplog.at_level(logging.WARNING):
        assert not LateWatch(SUBJECT, [], 3600).tell_if_due({"dag_run": Run(now), "ti": Task()})
        second = Task(1, {"sync_0": "queued", "sync_1": "running"})
        assert LateWatch(SUBJECT, [], 3600).tell_if_due({"dag_run": run, "ti": second})
        assert said not in caplog.text
        assert LateWatch(SUBJECT, [], 3600).tell_if_due({"dag_run": run, "ti": Task()})
    assert said in caplog.text
