"""Looking after a table: the steps that are due, one after the other, each on its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from airberg.errors import AirbergError, ConfigurationFailed, RunError, TransientFailed
from airberg.lake.catalog import catalog_errors
from airberg.lake.tables import check_writable
from airberg.lake.upkeep.compact import Compacted, compact, compaction_plan
from airberg.lake.upkeep.expire import Expired, expire, expiry_plan
from airberg.lake.upkeep.manifests import ManifestsRewritten, manifests_plan, rewrite_manifests
from airberg.lake.upkeep.neighbours import Survey
from airberg.lake.upkeep.orphans import Orphans, orphans
from airberg.lake.upkeep.policy import Policy, table_policy
from airberg.lake.upkeep.report import TableReport, report

log = logging.getLogger(__name__)


class Task(StrEnum):
    """What can be done to a table, in the order in which it makes sense."""

    REPORT = "report"
    COMPACT = "compact"
    MANIFESTS = "manifests"
    EXPIRE = "expire"
    ORPHANS = "orphans"


UPKEEP = (Task.COMPACT, Task.MANIFESTS, Task.EXPIRE, Task.ORPHANS)
"""The steps of upkeep. What compaction replaces, expiry deletes when its snapshots are old enough."""


@dataclass(frozen=True, slots=True)
class CompactionDue:
    """What compaction would do: data files, their size, groups, delete files that apply to nothing."""

    files: int
    bytes: int
    groups: int
    delete_files: int


@dataclass(frozen=True, slots=True)
class ExpiryDue:
    """What expiry would do: snapshots that would go, and that would stay."""

    snapshots: int
    kept: int


@dataclass(frozen=True, slots=True)
class ManifestsDue:
    """What the rewriting of manifests would do: manifests, and in how many commits."""

    manifests: int
    commits: int


Outcome: TypeAlias = (
    TableReport
    | Compacted
    | Expired
    | ManifestsRewritten
    | Orphans
    | CompactionDue
    | ExpiryDue
    | ManifestsDue
)


@dataclass(frozen=True, slots=True)
class TableUpkeep:
    """What became of a table: the outcome of each task, and what failed."""

    table: str
    outcomes: dict[Task, Outcome]
    failures: dict[Task, AirbergError]


class Keeper:
    """Looks after tables of one catalog.

    Args:
        catalog: The catalog.
        policy: The thresholds of the deployment.
        look_around: Finds the other tables of the catalog, for orphans; called once, when it is needed.
        writing_since: When the oldest run began that is still writing, in milliseconds since the epoch; asked
            before each search for orphans.
        spill_dir: Folder for rows that are being sorted; None for the system's.
        dry_run: Only say what would be done.
        force: Take orphans that are younger than a day.
        now_ms: Milliseconds since the epoch; None for now.
    """

    def __init__(
        self,
        catalog: Catalog,
        policy: Policy,
        look_around: Callable[[], Survey],
        writing_since: Callable[[], int | None],
        *,
        spill_dir: Path | None = None,
        dry_run: bool = False,
        force: bool = False,
        now_ms: int | None = None,
    ) -> None:
        self._catalog = catalog
        self._policy = policy
        self._look_around = look_around
        self._writing_since = writing_since
        self._survey: Survey | None = None
        self._spill_dir = spill_dir
        self._dry_run = dry_run
        self._force = force
        self._now_ms = now_ms

    def look_after(self, table: Table, tasks: Iterable[Task]) -> TableUpkeep:
        """Do some tasks to a table; one that fails does not keep the others from being done."""
        name = ".".join(table.name())
        outcomes: dict[Task, Outcome] = {}
        failures: dict[Task, AirbergError] = {}
        for task in tasks:
            try:
                with catalog_errors(f"loading the table {name}"):
                    table = self._catalog.load_table(table.name())
                outcomes[task] = self._do(task, table)
            except AirbergError as error:
                log.warning("%s: %s: %s", name, task.value, error.sentence())
                failures[task] = error
        return TableUpkeep(name, outcomes, failures)

    def _do(self, task: Task, table: Table) -> Outcome:
        policy = table_policy(self._policy, table.properties, ".".join(table.name()))
        now_ms = int(time.time() * 1000) if self._now_ms is None else self._now_ms
        if task is Task.REPORT:
            return report(table, policy, now_ms)
        if task is Task.ORPHANS:
            if self._survey is None:
                self._survey = self._look_around()
            return orphans(
                self._catalog,
                table,
                policy,
                self._survey,
                dry_run=self._dry_run,
                force=self._force,
                written_from_ms=self._writing_since(),
                now_ms=now_ms,
            )
        if self._dry_run:
            return _due(task, table, policy, now_ms)
        if task is Task.COMPACT:
            return compact(self._catalog, table, policy, spill_dir=self._spill_dir)
        if task is Task.MANIFESTS:
            return rewrite_manifests(self._catalog, table, policy)
        return expire(self._catalog, table, policy, now_ms=now_ms)


def _due(task: Task, table: Table, policy: Policy, now_ms: int) -> Outcome:
    if task is Task.COMPACT:
        check_writable(table)
        with catalog_errors("planning a compaction"):
            plan = compaction_plan(table, policy)
        return CompactionDue(plan.files, plan.bytes, len(plan.groups), plan.dangling)
    if task is Task.MANIFESTS:
        parts = manifests_plan(table, policy)
        return ManifestsDue(sum(len(part.paths) for part in parts), len(parts))
    found = expiry_plan(table, policy, now_ms)
    return ExpiryDue(len(found.snapshots), found.kept)


def failure_of(results: Iterable[TableUpkeep]) -> RunError | None:
    """One error for all that failed: worth trying again if any of them is."""
    failures = [(done.table, task, error) for done in results for task, error in done.failures.items()]
    if not failures:
        return None
    table, task, first = failures[0]
    more = f" ({len(failures) - 1} more)" if len(failures) > 1 else ""
    # What is neither is of the job store or the request: it may pass.
    passing = any(not isinstance(error, ConfigurationFailed) for _, _, error in failures)
    kind = TransientFailed if passing else ConfigurationFailed
    return kind(
        f"Upkeep failed, {task.value} of {table}: {first.message}{more}",
        guidance=first.guidance,
        code=first.code,
    )
