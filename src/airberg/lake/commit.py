"""Commits: rows and the state that covers them in one transaction, exactly once, by one run at a time.

How two runs of a job are kept apart, and why it holds:

1. Before each attempt the table is looked at: the job's note in it must be, letter for letter, the one that
   this run began with or wrote last. Otherwise another run or attempt has written, and this one ends.
2. The attempt is made on that very snapshot and the catalog is told so (`assert-ref-snapshot-id`), also
   when only properties change. So nothing can come between the look and the commit, except commits that
   make no snapshot: another run's state without rows. Overwriting such a state is harmless, because the
   rows in the table are still those that our own state started from. The first commit of a checkpoint that
   several tables share decides for all of them, so it always makes a snapshot, if need be one without files.
3. The sync's guard (its lease) is asked directly before each attempt.

A commit whose outcome is not known (a lost answer) is decided by looking: its snapshot is in the table or
it is not. If it is not, the attempt may still land later; a second attempt asserts the same snapshot, so at
most one of the two can. Files of an attempt are deleted only when it is certain that it never lands.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.table import Table

from airberg.errors import AirbergError, ConfigurationFailed, LeaseHeld, TransientFailed
from airberg.lake.catalog import PASSING, catalog_errors
from airberg.lake.note import Note, Sealer, identity_of, note_update, property_name
from airberg.lake.snapshots import Attempt, FileChanges, prepare
from airberg.lake.steps import Step, reached

MAX_ATTEMPTS = 12
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
JOB_KEY = "airberg.job-id"
RUN_KEY = "airberg.run-id"
"""In the summary of a snapshot: the job that made it, and its run (all attempts have one)."""


class Plan(Protocol):
    """Says what to commit, given the table as it is; called again whenever the table has changed."""

    def __call__(self, table: Table) -> FileChanges:
        """The changes to make to this snapshot of the table."""
        ...


@dataclass(frozen=True, slots=True)
class Committed:
    """A commit that landed. `snapshot_id` is None when it only set properties."""

    changes: FileChanges
    snapshot_id: int | None


def _no_guard() -> None:
    pass


class Committer:
    """Makes the commits of one run to one table.

    Args:
        catalog: Where the table is loaded from afresh after a conflict.
        table: The table, as it was when the run read the note in it.
        job_id: The job.
        started_from: That note; None when there was none.
        sealer: Encrypts the state in the note, where it must be.
        guard: Called right before each attempt; raises when this run may not write any more.
        pause: Waits between attempts, in seconds.

    Raises:
        LeaseHeld: The note in the table is not the one that the run started from.
    """

    def __init__(
        self,
        catalog: Catalog,
        table: Table,
        job_id: UUID | str,
        *,
        started_from: Note | None = None,
        sealer: Sealer | None = None,
        guard: Callable[[], None] = _no_guard,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._catalog = catalog
        self._table = table
        self._job_id = job_id
        self._sealer = sealer
        self._guard = guard
        self._pause = pause
        self._attempts: list[Attempt] = []
        self._in_doubt = False
        self._expected = self._note_text()
        found = None if self._expected is None else identity_of(self._expected)
        if found != (started_from.identity if started_from else None):
            raise self._fenced_out()

    @property
    def catalog(self) -> Catalog:
        """The table's catalog."""
        return self._catalog

    @property
    def table(self) -> Table:
        """The table as of the last look at it."""
        return self._table

    @property
    def noted(self) -> tuple[str, int, int] | None:
        """Identity of the note that the next commit replaces, None when there is none."""
        return None if self._expected is None else identity_of(self._expected)

    @property
    def in_doubt(self) -> bool:
        """A commit was sent and its outcome is unknown: its files must not be deleted."""
        return self._in_doubt

    def commit(
        self,
        note: Note,
        plan: Plan,
        properties: Mapping[str, str | None] | None = None,
        act: str | None = None,
    ) -> Committed:
        """Commit what `plan` says together with `note`.

        Args:
            note: The state that covers everything committed so far.
            plan: Makes the changes; it sees the table that they will be applied to.
            properties: Further table properties to set; None removes one.
            act: What somebody does to the job, where it is no run that commits: `rewind`, `state`.

        Raises:
            LeaseHeld: Another run or attempt of this job has written to the table.
            TransientFailed: The table kept changing, or the catalog does not answer. With the code
                `commit-outcome-unknown` the commit may or may not have landed.
            ConfigurationFailed: The catalog refused, or the table was replaced.
        """
        update = note_update(self._job_id, note, self._sealer)
        summary = {
            JOB_KEY: str(self._job_id),
            RUN_KEY: note.run_id,
            "airberg.checkpoint": str(note.number),
        } | ({"airberg.act": act} if act else {})
        self._attempts = []
        for number in range(MAX_ATTEMPTS):
            if number:
                self._pause(_wait(number))
            self._check_fence()
            with catalog_errors("preparing a commit"):
                changes = plan(self._table)
                if note.leads:
                    changes = replace(changes, always=True)
                reached(Step.PLANNED, self._table.name())
                attempt = prepare(self._table, changes, {**(properties or {}), **update}, summary)
            self._attempts.append(attempt)
            if (landed := self._send(attempt, update[property_name(self._job_id)])) is not None:
                return landed
        raise TransientFailed(
            f"The table {self._name} changed under {MAX_ATTEMPTS} attempts to commit.",
            guidance="Another writer commits to it all the time; run again, or space the writers out.",
            code="commit-conflict",
        )

    def _send(self, attempt: Attempt, text: str) -> Committed | None:
        """Send an attempt; None when it did not land and may be repeated."""
        self._guard()
        doubt_before, self._in_doubt = self._in_doubt, True
        reached(Step.SENDING, self._table.name())
        try:
            self._table = attempt.send()
        except Exception as error:  # each catalog client has errors of its own; all mean "look"
            self._look()
            landed = self._landed(text)
            if landed is None:
                definite = isinstance(error, CommitFailedException)
                self._in_doubt = doubt_before or not definite
                if not definite and not isinstance(error, PASSING):
                    with catalog_errors("committing"):
                        raise
                return None
        else:
            landed = attempt
        reached(Step.LANDED, self._table.name())
        return self._settle(landed, text)

    def _settle(self, landed: Attempt, text: str) -> Committed:
        self._expected = text
        others = [attempt for attempt in self._attempts if attempt is not landed]
        # With a newer snapshot in the table no other attempt can ever land: each asserts an older one.
        if landed.snapshot_id is not None or not others:
            self._in_doubt = False
            for attempt in others:
                attempt.clean()
        reached(Step.SETTLED, self._table.name())
        return Committed(landed.changes, landed.snapshot_id)

    def _landed(self, text: str) -> Attempt | None:
        """The attempt that the table shows to have landed."""
        metadata = self._table.metadata
        for attempt in reversed(self._attempts):
            if attempt.snapshot_id is not None and metadata.snapshot_by_id(attempt.snapshot_id):
                return attempt
        last = self._attempts[-1]
        if last.snapshot_id is None and self._note_text() == text:
            return last
        return None

    def _look(self) -> None:
        """Load the table afresh."""
        try:
            with catalog_errors("loading the table after a commit"):
                fresh = self._catalog.load_table(self._table.name())
        except NoSuchTableError:
            raise self._replaced() from None
        except AirbergError as error:
            raise TransientFailed(
                f"It is not known whether a commit to {self._name} landed: {error.message}",
                guidance="Run again: the next run looks at the table and goes on from what it finds.",
                code="commit-outcome-unknown",
            ) from error
        if fresh.metadata.table_uuid != self._table.metadata.table_uuid:
            raise self._replaced()
        self._table = fresh

    def _replaced(self) -> ConfigurationFailed:
        return ConfigurationFailed(
            f"The table {self._name} was dropped, or made anew, during the run.",
            guidance="Run again to load it from the beginning.",
            code="table-replaced",
        )

    def _check_fence(self) -> None:
        if self._note_text() != self._expected:
            raise self._fenced_out()

    def _fenced_out(self) -> LeaseHeld:
        return LeaseHeld(
            f"Another run of this job has written to {self._name} since this one began.",
            guidance="Nothing to do: the other run carries the job on.",
            code="fenced-out",
        )

    def _note_text(self) -> str | None:
        return self._table.properties.get(property_name(self._job_id))

    @property
    def _name(self) -> str:
        return ".".join(self._table.name())


def _wait(number: int) -> float:
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0**number) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter


def snapshots_of_run(table: Table, job_id: UUID, run_id: str) -> tuple[int, ...]:
    """The snapshots that a run of a job has made, oldest first, as far as they are in the table."""
    wanted = (str(job_id), run_id)
    return tuple(
        snapshot.snapshot_id
        for snapshot in table.snapshots()
        if (s := snapshot.summary) is not None and (s[JOB_KEY], s[RUN_KEY]) == wanted
    )
