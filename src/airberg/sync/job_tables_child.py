"""`JobTables` of the HTTP process: each question goes to a worker process, see `airberg.worker_process`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar
from uuid import UUID

import msgspec

from airberg.errors import Unavailable
from airberg.jobs.audit import Act
from airberg.settings import Settings
from airberg.sync.job_tables import JobState, Rewind, ShownTable
from airberg.worker_process import Failure, as_error, ask_worker

WORKER = "airberg.sync.job_tables_worker"
T = TypeVar("T")


class Question(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the worker is asked: the method of `JobTables` and its arguments."""

    verb: Literal["state", "set", "delete", "rewind", "table"]
    job_id: UUID | None = None
    states: list[Any] = []
    streams: list[str] | None = None
    run_id: UUID | None = None
    force: bool = False
    dry_run: bool = False
    schema: str = ""
    name: str = ""
    snapshots: int = 0
    preview: int = 0
    act: Act | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What it answers: one of these."""

    state: JobState | None = None
    rewind: Rewind | None = None
    table: ShownTable | None = None
    failure: Failure | None = None


class ChildJobTables:
    """See `airberg.sync.job_tables.JobTables`.

    Args:
        settings: For the worker too.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def state(self, job_id: UUID) -> JobState:
        """See `JobTables.state`."""
        return self._state(Question(verb="state", job_id=job_id))

    def set_state(self, job_id: UUID, states: Sequence[Any], *, act: Act | None) -> JobState:
        """See `JobTables.set_state`."""
        return self._state(Question(verb="set", job_id=job_id, states=list(states), act=act))

    def delete_state(self, job_id: UUID, streams: Sequence[str] | None, *, act: Act | None) -> JobState:
        """See `JobTables.delete_state`."""
        named = None if streams is None else list(streams)
        return self._state(Question(verb="delete", job_id=job_id, streams=named, act=act))

    def rewind(self, job_id: UUID, run_id: UUID, *, force: bool, dry_run: bool, act: Act | None) -> Rewind:
        """See `JobTables.rewind`."""
        question = Question(
            verb="rewind", job_id=job_id, run_id=run_id, force=force, dry_run=dry_run, act=act
        )
        return _there(self._ask(question).rewind)

    def table(self, schema: str, name: str, *, snapshots: int, preview: int) -> ShownTable:
        """See `JobTables.table`."""
        question = Question(verb="table", schema=schema, name=name, snapshots=snapshots, preview=preview)
        return _there(self._ask(question).table)

    def _state(self, question: Question) -> JobState:
        return _there(self._ask(question).state)

    def _ask(self, question: Question) -> Answer:
        answer = ask_worker(
            WORKER,
            question,
            Answer,
            self._settings,
            self._settings.api.tables_timeout_s,
            late=Unavailable(
                "The tables, or the catalog that knows them, did not answer in time.",
                guidance="Look at the state of the job before you try again. "
                "AIRBERG_API__TABLES_TIMEOUT_S says how long an answer may take.",
                code="tables-timeout",
                retry_after=30,
            ),
        )
        if answer.failure is not None:
            raise as_error(answer.failure)
        return answer


def _there(value: T | None) -> T:
    if value is None:
        raise Unavailable("The question about the tables gave no answer.")
    return value
