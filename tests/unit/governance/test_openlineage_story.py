"""What is told when: by attempts that end, that are killed, and that nobody listens to."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from airberg.governance.openlineage.configured import is_configured, job_namespace
from airberg.governance.openlineage.memory import MemoryLineage
from airberg.governance.openlineage.port import Event
from airberg.governance.openlineage.story import AttemptStory, Courier, Silence, open_story
from airberg.jobs.memory import MemoryJobStore
from airberg.jobs.model import AttemptReport, Job, Run, RunReport, RunStatus
from airberg.settings import OpenLineageSettings, Settings
from support.governed_tables import PLAN, make_job
from support.openlineage_schema import check_event

FAR = 60.0


class Stage:
    """A job whose runs tell their story to a twin of the client."""

    def __init__(self, lake: Catalog) -> None:
        self.store = MemoryJobStore()
        self.lake = lake
        self.job: Job = self.store.add_job(make_job(), {})
        self.sink = MemoryLineage()
        self.settings = Settings(openlineage=OpenLineageSettings(timeout_s=FAR))

    def started(self, flow_run_id: str, attempt: int = 1) -> tuple[Run, AttemptStory]:
        """An attempt that has begun."""
        run = self.store.start_run(self.job.id, flow_run_id, attempt, datetime.now(UTC))
        opened = lambda: self.sink  # noqa: E731
        return run, AttemptStory(self.settings, self.store, self.lake, self.job, run, opened, {})

    def tables(self) -> Mapping[str, Table]:
        """Those of the plan."""
        return {name: self.lake.load_table(("sales", name)) for name in ("customers", "orders")}

    def ended(self, run: Run, story: AttemptStory, status: RunStatus, **error: str) -> Run:
        """The end of an attempt, stored and told."""
        report = RunReport(lineage_open=story.open_attempt)
        return story.end(self.store.end_run(run.id, status, datetime.now(UTC), report=report, **error))

    def told(self) -> list[tuple[str, str]]:
        """State and run id of all events, each as the specification has it."""
        for event in self.sink.events:
            check_event(event)
        return [(event["eventType"], event["run"]["runId"]) for event in self.sink.events]


@pytest.fixture
def stage(lake: Catalog) -> Stage:
    """A job without runs."""
    return Stage(lake)


def test_an_attempt_has_a_start_and_an_end(stage: Stage) -> None:
    """Of the same run of OpenLineage's, in this order; the run's report has nothing left to tell."""
    run, story = stage.started("run-1")
    story.begin(PLAN, stage.tables())
    assert stage.store.run(run.id).report.lineage_open == 1
    ended = stage.ended(run, story, RunStatus.COMPLETED)
    (start, first), (end, second) = stage.told()
    assert (start, end, first == second) == ("START", "COMPLETE", True)
    assert (ended.report.lineage_open, ended.report.lineage_error) == (0, None)
    assert stage.store.run(run.id).report == ended.report
    assert stage.sink.closed


def test_an_attempt_that_ends_before_there_are_tables(stage: Stage) -> None:
    """Begins and fails, both without datasets."""
    run, story = stage.started("run-1")
    stage.ended(run, story, RunStatus.FAILED, error="No such host.", error_code="connector-error")
    assert [state for state, _ in stage.told()] == ["START", "FAIL"]
    assert stage.sink.events[0]["outputs"] == []
    assert stage.sink.events[1]["run"]["facets"]["errorMessage"]["message"] == "No such host."


def test_a_killed_attempt_is_aborted_by_the_next(stage: Stage) -> None:
    """Before that one tells its own start; ids of attempts differ."""
    _, killed = stage.started("run-1", 1)
    killed.begin(PLAN, stage.tables())
    killed._courier.close(FAR)
    run, story = stage.started("run-1", 2)
    story.begin(PLAN, stage.tables())
    stage.ended(run, story, RunStatus.COMPLETED)
    told = stage.told()
    assert [state for state, _ in told] == ["START", "ABORT", "START", "COMPLETE"]
    assert told[0][1] == told[1][1] != told[2][1] == told[3][1]


def test_the_same_attempt_once_more_goes_on(stage: Stage) -> None:
    """A scheduler that was restarted starts the same attempt again: it is the same run, and not aborted."""
    _, killed = stage.started("run-1", 1)
    killed.begin(PLAN, stage.tables())
    killed._courier.close(FAR)
    run, story = stage.started("run-1", 1)
    story.begin(PLAN, stage.tables())
    stage.ended(run, story, RunStatus.COMPLETED)
    told = stage.told()
    assert [state for state, _ in told] == ["START", "START", "COMPLETE"]
    assert len({identity for _, identity in told}) == 1


@pytest.mark.parametrize(
    ("status", "code", "state"),
    [
        (RunStatus.FAILED, "run-lost", "ABORT"),
        (RunStatus.FAILED, "connector-error", "FAIL"),
        (RunStatus.COMPLETED, None, "COMPLETE"),
        (None, None, "ABORT"),
    ],
)
def test_a_later_run_tells_the_end_of_an_earlier_one(
    stage: Stage, status: RunStatus | None, code: str | None, state: str
) -> None:
    """As it is stored; once."""
    run, lost = stage.started("run-1")
    lost.begin(PLAN, stage.tables())
    lost._courier.close(FAR)
    if status is not None:
        stage.store.end_run(run.id, status, datetime.now(UTC), error="x" if code else None, error_code=code)
    for name in ("run-2", "run-3"):
        later, story = stage.started(name)
        story.begin(PLAN, stage.tables())
        stage.ended(later, story, RunStatus.COMPLETED)
    told = stage.told()
    assert [s for s, _ in told] == ["START", state, "START", "COMPLETE", "START", "COMPLETE"]
    assert told[0][1] == told[1][1]
    assert stage.store.run(run.id).report.lineage_open == 0


def test_what_was_not_taken_is_shown_and_told_later(stage: Stage) -> None:
    """The runs complete; the next one, when somebody listens again, tells their ends."""
    stage.sink.available = False
    for name in ("run-1", "run-2"):
        run, story = stage.started(name)
        story.begin(PLAN, stage.tables())
        ended = stage.ended(run, story, RunStatus.COMPLETED)
        assert ended.status is RunStatus.COMPLETED
        assert ended.report.lineage_error == "OpenLineage is switched off."
        assert ended.report.lineage_open == 1
    stage.sink.available = True
    later, story = stage.started("run-3")
    story.begin(PLAN, stage.tables())
    assert stage.ended(later, story, RunStatus.COMPLETED).report.lineage_error is None
    assert [state for state, _ in stage.told()] == ["COMPLETE", "COMPLETE", "START", "COMPLETE"]
    assert [r.report.lineage_open for r in stage.store.runs(stage.job.id)] == [0, 0, 0]
    assert stage.store.run(run.id).report.lineage_error == "OpenLineage is switched off."


def test_a_failure_that_was_not_taken_is_told_by_the_retry(stage: Stage) -> None:
    """As a failure and not as an attempt that was killed: the report knows how each attempt has ended."""
    run, story = stage.started("run-1", 1)
    story.begin(PLAN, stage.tables())
    stage.sink.available = False
    failed = AttemptReport(
        number=1, status=RunStatus.FAILED, started_at=run.started_at, error="No host.", error_code="x"
    )
    report = RunReport(lineage_open=1, attempts=(failed,))
    story.end(stage.store.end_run(run.id, RunStatus.FAILED, datetime.now(UTC), report=report))
    stage.sink.available = True
    run, story = stage.started("run-1", 2)
    story.begin(PLAN, stage.tables())
    stage.ended(run, story, RunStatus.COMPLETED)
    told = [e for e in stage.sink.events if e["eventType"] == "FAIL"]
    assert [e["run"]["facets"]["errorMessage"]["message"] for e in told] == ["No host."]
    assert [state for state, _ in stage.told()][-3:] == ["FAIL", "START", "COMPLETE"]


def test_a_listener_that_hangs_holds_no_run(stage: Stage) -> None:
    """The wait is limited, and shorter where Airflow will soon kill the task."""
    let_go = threading.Event()

    class Hanging(MemoryLineage):
        def emit(self, event: Event) -> None:
            let_go.wait()
            super().emit(event)

    stage.sink = Hanging()
    stage.settings = Settings(openlineage=OpenLineageSettings(timeout_s=0.2))
    run, story = stage.started("run-1")
    story.begin(PLAN, stage.tables())
    ended = stage.ended(run, story, RunStatus.COMPLETED)
    let_go.set()
    assert ended.report.lineage_error == "OpenLineage did not take all events within 0.2 s."
    stage.settings = Settings(openlineage=OpenLineageSettings(timeout_s=3600))
    let_go.clear()
    run, story = stage.started("run-2")
    story.begin(PLAN, stage.tables())
    ended = stage.ended(run, story, RunStatus.CANCELLED)
    let_go.set()
    assert ended.report.lineage_error == "OpenLineage did not take all events within 1.5 s."


def test_a_fault_of_ours_fails_no_load(stage: Stage) -> None:
    """A table that raises, whatever it is asked: the run shows that nothing was told, and no text of it."""

    class Broken:
        def current_snapshot(self) -> None:
            raise RuntimeError("plaintext")

    run, story = stage.started("run-1")
    tables: Any = {"customers": Broken()}
    story.begin(PLAN, tables)
    ended = stage.ended(run, story, RunStatus.COMPLETED)
    assert ended.report.lineage_error == "Airberg could not tell the start of the run (RuntimeError)."


def test_a_client_that_cannot_be_opened() -> None:
    """Is told once, however many events there are."""

    def broken() -> MemoryLineage:
        raise RuntimeError("plaintext")

    courier = Courier(broken)
    courier.post(lambda: None)
    courier.post(lambda: None)
    assert courier.close(FAR) == "Airberg could not make an event (RuntimeError)."


def test_nobody_listens(stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without any configuration nothing is told, kept or started."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run = stage.store.start_run(stage.job.id, "run-1", 1, datetime.now(UTC))
    story = open_story(Settings(), stage.store, stage.lake, stage.job, run)
    assert isinstance(story, Silence)
    story.begin(PLAN, stage.tables())
    assert story.end(run) == run
    assert msgspec.structs.asdict(run.report)["lineage_open"] == story.open_attempt == 0


@pytest.mark.parametrize(
    ("environment", "url", "configured"),
    [
        ({}, None, False),
        ({}, "http://marquez:5000", True),
        ({"OPENLINEAGE_URL": "http://marquez:5000"}, None, True),
        ({"OPENLINEAGE__TRANSPORT__TYPE": "console"}, None, True),
        ({"OPENLINEAGE__TRANSPORT": "{}"}, None, True),
        ({"OPENLINEAGE_CONFIG": "given.yml"}, None, True),
        ({"OPENLINEAGE_CONFIG": "missing.yml"}, None, False),
        ({"OPENLINEAGE_NAMESPACE": "x"}, None, False),
        ({"OPENLINEAGE_DISABLED": "true"}, "http://marquez:5000", False),
    ],
)
def test_who_listens(
    environment: dict[str, str],
    url: str | None,
    configured: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Our settings, or what OpenLineage's client itself reads."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given.yml").write_text("transport: {type: noop}")
    settings = Settings(openlineage=OpenLineageSettings(url=url))
    assert is_configured(settings, environment) is configured
    if not environment and url is None:
        (tmp_path / ".openlineage").mkdir()
        (tmp_path / ".openlineage" / "openlineage.yml").touch()
        assert is_configured(settings, {})


def test_the_namespace_of_jobs() -> None:
    """Our setting, then OpenLineage's variable, then a name of our own."""
    assert job_namespace(Settings(), {}) == "airberg"
    assert job_namespace(Settings(), {"OPENLINEAGE_NAMESPACE": "theirs"}) == "theirs"
    settings = Settings(openlineage=OpenLineageSettings(namespace="ours"))
    assert job_namespace(settings, {"OPENLINEAGE_NAMESPACE": "theirs"}) == "ours"


def test_addresses_have_a_scheme() -> None:
    """Else the client would find out with the first event."""
    with pytest.raises(ValueError, match="http"):
        OpenLineageSettings(url="marquez:5000")
