"""Runs that are late, told by the task that is at work then: it may read connections, and needs no triggerer.

A task whose pod the triggerer waits for is resumed for it (`airberg_airflow.pod_deferral`).

Airflow's own deadline alerts are for those who run its triggerer (`airberg_airflow.flow_options`). Its
executors run callbacks of deadlines too, but such a callback may not read a connection of Airflow's database
(3.3: the execution API answers 403), and gets no slot while all are taken.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from airberg_airflow.notices import LATE, Notice, Subject, tell

log = logging.getLogger(__name__)

AT_WORK = frozenset({"running", "deferred"})
SUSPENDED = AT_WORK | {"scheduled", "queued"}
"""All of the mapped tasks that were suspended are resumed at once when the run is late: the first of them may
still be on its way."""


class LateWatch:
    """Tells of a run that has not ended in time, from each attempt that is at work then or begins later.

    Args:
        subject: The flow.
        notifications: Who is told.
        deadline_s: Seconds after the run was due.
    """

    def __init__(self, subject: Subject, notifications: Sequence[Mapping[str, Any]], deadline_s: int) -> None:
        self._subject = subject
        self._notifications = notifications
        self._deadline = timedelta(seconds=deadline_s)

    @contextmanager
    def watching(self, context: Mapping[str, Any]) -> Iterator[None]:
        """Watch while the block lasts: a task's work."""
        left = self.due(context["dag_run"]) - datetime.now(UTC)
        timer = threading.Timer(max(left.total_seconds(), 0.0), self._tell, [context])
        timer.daemon = True  # a webhook that hangs does not keep the task
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def tell_if_due(self, context: Mapping[str, Any]) -> bool:
        """Tell of the run if it is late by now; whether it is."""
        if datetime.now(UTC) < self.due(context["dag_run"]):
            return False
        self._tell(context, SUSPENDED)
        return True

    def due(self, run: Any) -> datetime:  # noqa: ANN401 - Airflow's
        """When the run is late. One that was cleared begins anew."""
        since: datetime = run.start_date if run.clear_number and run.start_date else run.run_after
        return since + self._deadline

    def _tell(self, context: Mapping[str, Any], at_work: Collection[str] = AT_WORK) -> None:
        run_id = context["dag_run"].run_id
        try:
            if not another_tells(context["ti"], run_id, at_work):
                tell(self._notifications, Notice(LATE, self._subject, run_id, "running"))
        except Exception:
            log.exception("nobody is told that the run %s is late", run_id)


def another_tells(task: Any, run_id: str, at_work: Collection[str] = AT_WORK) -> bool:  # noqa: ANN401 - Airflow's
    """Whether an earlier one of the mapped tasks is at work too: the first of those tells.

    Args:
        task: The task instance.
        run_id: Of its flow's run.
        at_work: States in which the others tell, or have told.
    """
    if task.map_index <= 0:
        return False
    found = task.get_task_states(task.dag_id, task_ids=[task.task_id], run_ids=[run_id])
    states = found.get(run_id, {})
    return any(states.get(f"{task.task_id}_{number}") in at_work for number in range(task.map_index))
