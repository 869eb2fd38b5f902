"""Commits of upkeep: they change no row, have no note, and give way to whoever was quicker.

Each attempt is made for the table as it is then and asserts its snapshot, as those of a sync do
(`airberg.lake.commit`). So a compaction cannot undo deletes that came in between: the attempt is refused,
and the plan looks again at what it wanted to replace.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.table import Table

from airberg.errors import AirbergError, ConfigurationFailed, TransientFailed
from airberg.lake.catalog import PASSING, catalog_errors
from airberg.lake.snapshots import Attempt, FileChanges, prepare
from airberg.lake.steps import Step, reached

MAX_ATTEMPTS = 8
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0


@dataclass(frozen=True, slots=True)
class Landed:
    """A commit that landed."""

    table: Table
    changes: FileChanges
    snapshot_id: int


class UpkeepCommitter:
    """Makes the commits of upkeep to one table.

    Args:
        catalog: Where the table is loaded from before each attempt.
        table: The table.
        pause: Waits between attempts, in seconds.
    """

    def __init__(self, catalog: Catalog, table: Table, pause: Callable[[float], None] = time.sleep) -> None:
        self.table = table
        self._catalog = catalog
        self._pause = pause
        self._in_doubt = False

    @property
    def in_doubt(self) -> bool:
        """A commit was sent and its outcome is unknown: its files must not be deleted."""
        return self._in_doubt

    @property
    def name(self) -> str:
        """Dotted name of the table."""
        return ".".join(self.table.name())

    def refresh(self) -> Table:
        """Load the table afresh.

        Raises:
            ConfigurationFailed: It was dropped or replaced.
            TransientFailed: The catalog does not answer.
        """
        try:
            with catalog_errors(f"loading the table {self.name}"):
                fresh = self._catalog.load_table(self.table.name())
        except NoSuchTableError:
            raise self._replaced() from None
        if fresh.metadata.table_uuid != self.table.metadata.table_uuid:
            raise self._replaced()
        self.table = fresh
        return fresh

    def commit(
        self, plan: Callable[[Table], FileChanges], summary: Mapping[str, str] | None = None
    ) -> Landed | None:
        """Commit what `plan` says of the table as it is; None when it says that nothing is to be done.

        Raises:
            TransientFailed: The table kept changing, or the catalog does not answer. While `in_doubt`, the
                commit may still land.
            ConfigurationFailed: The catalog refused, or the table was replaced.
        """
        attempts: list[Attempt] = []
        for number in range(MAX_ATTEMPTS):
            if number:
                self.pause_before(number)
            table = self.refresh()
            if (earlier := self._landed(attempts)) is not None:  # an attempt in doubt
                return self._settle(earlier, attempts)
            with catalog_errors("preparing a commit"):
                changes = plan(table)
                if changes.empty:
                    if not self._in_doubt:
                        _clean(attempts)
                    return None
                reached(Step.PLANNED, table.name())
                attempt = prepare(table, changes, {}, summary or {})
            attempts.append(attempt)
            if self._send(attempt):
                return self._settle(attempt, attempts)
        if not self._in_doubt:
            _clean(attempts)
        raise TransientFailed(
            f"The table {self.name} changed under {MAX_ATTEMPTS} attempts of upkeep to commit.",
            guidance="Another writer commits to it all the time; upkeep tries again when it runs next.",
            code="commit-conflict",
        )

    def pause_before(self, number: int) -> None:
        """Wait before another attempt."""
        longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0**number)
        self._pause(longest * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    def _send(self, attempt: Attempt) -> bool:
        """Send an attempt; False when it did not land, or when that is not known."""
        doubt_before, self._in_doubt = self._in_doubt, True
        reached(Step.SENDING, self.table.name())
        try:
            self.table = attempt.send()
        except Exception as error:  # each catalog client has errors of its own; all mean "look"
            try:
                self.refresh()
            except AirbergError as unknown:
                raise TransientFailed(
                    f"It is not known whether a commit of upkeep to {self.name} landed: {unknown.message}",
                    guidance="Run again: the next run looks at the table and goes on from what it finds.",
                    code="commit-outcome-unknown",
                ) from error
            if self._landed([attempt]) is not None:
                return True
            definite = isinstance(error, CommitFailedException)
            self._in_doubt = doubt_before or not definite
            if not definite and not isinstance(error, PASSING):
                with catalog_errors("committing"):
                    raise
            return False
        return True

    def _landed(self, attempts: list[Attempt]) -> Attempt | None:
        by_id = self.table.metadata.snapshot_by_id
        return next((a for a in attempts if a.snapshot_id is not None and by_id(a.snapshot_id)), None)

    def _settle(self, landed: Attempt, attempts: list[Attempt]) -> Landed:
        reached(Step.LANDED, self.table.name())
        # Each attempt asserts the snapshot that it was made on: with a newer one in the table none can land.
        self._in_doubt = False
        _clean([attempt for attempt in attempts if attempt is not landed])
        if landed.snapshot_id is None:
            raise ValueError("a commit of upkeep without a snapshot")
        return Landed(self.table, landed.changes, landed.snapshot_id)

    def _replaced(self) -> ConfigurationFailed:
        return ConfigurationFailed(
            f"The table {self.name} was dropped, or made anew, during upkeep.",
            guidance="Nothing to do: upkeep finds the table as it is when it runs next.",
            code="table-replaced",
        )


def _clean(attempts: list[Attempt]) -> None:
    for attempt in attempts:
        attempt.clean()
