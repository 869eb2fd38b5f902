"""What a run tells of itself while it works, beside its work: no event delays it, and none can fail it.

Each attempt is a run of OpenLineage's. An attempt that is killed cannot tell its end, and an event may not
be taken; so the run's report keeps the number of an attempt that was told to have begun and not to have
ended, and whoever runs the job next tells its end first.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from airberg.errors import AirbergError
from airberg.governance.openlineage.attempts import Attempt, LoadedTables
from airberg.governance.openlineage.configured import is_configured, job_namespace
from airberg.jobs.model import Job, Run, RunStatus
from airberg.jobs.parts import part_of

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

    from airberg.governance.openlineage.port import Event, LineageSink
    from airberg.jobs.port import JobStore
    from airberg.plan.model import JobPlan
    from airberg.settings import Settings

log = logging.getLogger(__name__)

CANCELLED_WITHIN_S = 1.5
"""Airflow kills a task five seconds after it has asked it to end; stopping the connector comes first."""
EARLIER_RUNS = 20


class Story(Protocol):
    """Told by a run."""

    @property
    def open_attempt(self) -> int:
        """The attempt that was told to have begun and not to have ended, for the run's report; 0: none."""
        ...

    def begin(self, plan: JobPlan, tables: Mapping[str, Table]) -> None:
        """The tables are there; now it will be read."""
        ...

    def end(self, run: Run) -> Run:
        """The run has ended and is stored; returns it with what became of the events."""
        ...


class Silence:
    """Nobody listens."""

    open_attempt = 0

    def begin(self, plan: JobPlan, tables: Mapping[str, Table]) -> None:
        """Nothing."""

    def end(self, run: Run) -> Run:
        """The run as it is."""
        return run


def open_story(settings: Settings, store: JobStore, catalog: Catalog, job: Job, run: Run) -> Story:
    """The story of an attempt that has just begun; silence where OpenLineage is not configured."""
    if not is_configured(settings):
        return Silence()

    def open_sink() -> LineageSink:
        from airberg.governance.openlineage.client import open_lineage_sink

        return open_lineage_sink(settings)

    return AttemptStory(settings, store, catalog, job, run, open_sink)


class AttemptStory:
    """The story of one attempt.

    Args:
        settings: Where to, and how long it may take.
        store: Keeps in the run's report what was told.
        catalog: Its name and address are told.
        job: The job.
        run: The run, with what earlier attempts reported.
        open_sink: Opens the way out, in the thread that tells.
        environment: Where the ids of the task are that started us.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        catalog: Catalog,
        job: Job,
        run: Run,
        open_sink: Callable[[], LineageSink],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._settings = settings
        self._store = store
        self._catalog = catalog
        self._job = job
        self._run = run
        parts = run.report.parts if run.part is None else store.run(run.id).report.parts
        self._tables = frozenset(t for part in parts if part.number == run.part for t in part.tables)
        self._parent = {k: v for k, v in environment.items() if k.startswith("OPENLINEAGE_")}
        self._namespace = job_namespace(settings, environment)
        self._began_at = datetime.now(UTC)
        self._loaded: LoadedTables | None = None
        self._courier = Courier(open_sink)
        self._others: list[Run] = []
        self.open_attempt = 0

    def begin(self, plan: JobPlan, tables: Mapping[str, Table]) -> None:
        """See `Story.begin`. The report says that the attempt is open before anybody is told so."""
        try:
            self._loaded = LoadedTables(
                plan=plan,
                tables=tables,
                fresh=frozenset(name for name, t in tables.items() if t.current_snapshot() is None),
                catalog_name=self._catalog.name,
                catalog_properties=dict(self._catalog.properties),
            )
            self._tell_ends_of_others()
            self._tell_start()
        except Exception as error:  # noqa: BLE001 - whatever it is, the load goes on
            self._note("could not tell the start of the run", error)

    def end(self, run: Run) -> Run:
        """See `Story.end`. Waits a limited time for events on their way, less when the task has to end."""
        try:
            if not self.open_attempt:
                self._tell_ends_of_others()
                self._tell_start()
            attempt, loaded = self._attempt(run), self._loaded
            before = {report.table: report for report in self._run.report.streams}
            self._courier.post(lambda: _events().end_event(attempt, _ended(run), loaded, before))
        except Exception as error:  # noqa: BLE001 - the load has ended, well or not: that stays
            self._note("could not tell the end of the run", error)
        limit = self._settings.openlineage.timeout_s
        if run.status is RunStatus.CANCELLED:
            limit = min(limit, CANCELLED_WITHIN_S)
        problem = self._courier.close(limit)
        if problem:
            log.warning("OpenLineage: %s", problem)
        else:
            for other in self._others:
                self._kept(other, open_attempt=0, error=other.report.lineage_error)
        return self._kept(run, open_attempt=run.attempt if problem else 0, error=problem)

    # ---- events ------------------------------------------------------------------------------------------

    def _tell_start(self) -> None:
        self.open_attempt = self._run.attempt
        self._kept(self._run, open_attempt=self.open_attempt, error=None)
        attempt, at, loaded = self._attempt(self._run), self._began_at, self._loaded
        self._courier.post(lambda: _events().start_event(attempt, at, loaded))

    def _tell_ends_of_others(self) -> None:
        """Attempts that began and were not told to have ended: they are over, as the lease is ours."""
        me = (self._run.id, self._run.part)
        runs = [self._run, *self._ours(self._store.runs(self._job.id, limit=EARLIER_RUNS))]
        others = {(run.id, run.part): run for run in reversed(runs) if run.report.lineage_open}
        for key, run in others.items():
            number = run.report.lineage_open
            if (key, number) == (me, self._run.attempt):
                continue  # the same attempt once more: it tells its end itself
            if key != me:
                self._others.append(run)
            self._tell_end_of(self._attempt(_as_of(run, number)))

    def _ours(self, runs: Iterable[Run]) -> Iterator[Run]:
        """Runs, and parts of runs, that nobody can be at work on while we hold our lease."""
        for run in runs:
            yield run
            for part in run.report.parts:
                if self._run.part is None or self._tables.issuperset(part.tables):
                    yield part_of(run, part.number)

    def _tell_end_of(self, attempt: Attempt) -> None:
        self._courier.post(lambda: _events().end_event(attempt, _ended(attempt.run), None, {}))

    def _attempt(self, run: Run) -> Attempt:
        me = (self._run.id, self._run.part, self._run.attempt)
        parent = self._parent if (run.id, run.part, run.attempt) == me else {}
        return Attempt(job=self._job, run=run, namespace=self._namespace, parent=parent)

    # ---- what is kept ------------------------------------------------------------------------------------

    def _kept(self, run: Run, *, open_attempt: int, error: str | None) -> Run:
        report = msgspec.structs.replace(run.report, lineage_open=open_attempt, lineage_error=error)
        try:
            if run.part is None:
                self._store.report_run(run.id, report)
            else:
                self._store.run_parts.report(run.id, run.part, report)
        except AirbergError as problem:
            log.warning("OpenLineage: what was told could not be noted: %s", problem.message)
        return replace(run, report=report)

    def _note(self, what: str, error: Exception) -> None:
        self._courier.note(f"Airberg {what} ({type(error).__name__}).")


def _events() -> Any:  # noqa: ANN401 - a module, loaded when something is told
    from airberg.governance.openlineage import events

    return events


def _as_of(run: Run, number: int) -> Run:
    """The run as an attempt of it has left it: still running, where it could not say how it ended."""
    if number == run.attempt and run.status.ended:
        return run
    run = replace(run, attempt=number, status=RunStatus.RUNNING, error=None, error_code=None, ended_at=None)
    found = next((a for a in run.report.attempts if a.number == number), None)
    if found is None:
        return run
    return replace(
        run, status=found.status, error=found.error, error_code=found.error_code, ended_at=found.ended_at
    )


def _ended(run: Run) -> datetime:
    return run.ended_at or datetime.now(UTC)


class Courier:
    """Delivers events in order, in a thread of its own, which also loads the client.

    The thread ends with the process, whatever it is waiting for.

    Args:
        open_sink: Opens the way out.
    """

    def __init__(self, open_sink: Callable[[], LineageSink]) -> None:
        self._open_sink = open_sink
        self._posted: queue.SimpleQueue[Callable[[], Event] | None] = queue.SimpleQueue()
        self._error: str | None = None
        self._thread: threading.Thread | None = None
        self._deadline = float("inf")

    def post(self, event: Callable[[], Event]) -> None:
        """Send an event that is made when its turn comes."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver, name="openlineage", daemon=True)
            self._thread.start()
        self._posted.put(event)

    def close(self, within_s: float) -> str | None:
        """Wait for all events; what went wrong first, in one sentence, or None."""
        if self._thread is not None:
            self._deadline = time.monotonic() + within_s
            self._posted.put(None)
            self._thread.join(within_s)
            if self._thread.is_alive():
                self.note(f"OpenLineage did not take all events within {within_s:g} s.")
        return self._error

    def note(self, error: str) -> None:
        """Remember what went wrong, unless something has before."""
        self._error = self._error or error

    def _deliver(self) -> None:
        sink: LineageSink | None = None
        while (make := self._posted.get()) is not None:
            try:
                sink = sink or self._open_sink()
                sink.emit(make())
            except AirbergError as error:
                self.note(error.sentence())
            except Exception as error:  # noqa: BLE001 - a fault of ours must not be silent, nor fail the load
                self.note(f"Airberg could not make an event ({type(error).__name__}).")
        if sink is not None:
            try:
                sink.close(max(self._deadline - time.monotonic(), 0.0))
            except AirbergError as error:
                self.note(error.sentence())
