"""A merge, an append by another writer and a compaction at once, and readers that look all the time.

What the writers do is a pure function of the race, so a reader knows every state that a table may show: that
after so many merges and so many appended batches. In a module of its own, since a spawned process imports it.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from airberg.lake.note import read_note
from airberg.lake.steps import EVENT as CHECKPOINT
from airberg.lake.steps import Step
from airberg.lake.upkeep.compact import compact
from airberg.lake.upkeep.manifests import rewrite_manifests
from airberg.lake.upkeep.neighbours import survey
from airberg.lake.upkeep.orphans import orphans
from airberg.lake.upkeep.policy import Policy
from airberg.lake.upkeep.steps import EVENT as UPKEEP
from airberg.lake.upkeep.steps import UpkeepStep
from airberg.lake.writers import MergeKey, WriterSettings, open_writer
from airberg.plan.model import DeleteFormat
from support.duckdb_reader import duckdb_table
from support.lake_tables import ARROW, JOB, NAMESPACE, note, rows, sql_catalog
from support.model_play import EAGER

OTHER_JOB = "0198f0a0-0000-7000-8000-00000000000b"
GROUPS = 12
GROUP_ROWS = 9
BATCH_ROWS = 7
MERGES = 2
BATCHES = 3
COMPACTIONS = 2
MOST_SECONDS_BETWEEN = 0.4
SECONDS_BETWEEN_LOOKS = 0.02
FIRST_OF_BATCHES = 1_000_000

Shown: TypeAlias = frozenset[tuple[int, str, int]]
State: TypeAlias = tuple[int, int]
"""How many merges and how many batches a table shows."""


@dataclass(frozen=True)
class Race:
    """What is raced on.

    Attributes:
        folder: Of the catalog and for temporary files.
        table: Its name.
        delete_format: How the merges take rows out.
        partitioned: By a column whose values change, so that rows move between partitions.
        seed: Decides what is merged.
        rounds: How often.
    """

    folder: Path
    table: str
    delete_format: DeleteFormat
    partitioned: bool
    seed: str
    rounds: int

    def load(self, catalog: Catalog) -> Table:
        """The table as it is now."""
        return catalog.load_table((*NAMESPACE, self.table))


@dataclass(frozen=True)
class Merged:
    """What one merge does: whole groups are written or deleted, whole batches of older rounds deleted."""

    written: frozenset[int]
    deleted: frozenset[int]
    batches: frozenset[int]


@cache
def merged(race: Race, number: int) -> Merged:
    """Merge `number`, counted from 1; at least one group is written by each."""
    chance = random.Random(f"{race.seed}/{number}")
    groups = chance.sample(range(GROUPS), chance.randint(1, 6))
    deleted = frozenset(groups[1:][: chance.randint(0, 2)])
    settled = max(0, (number - 1) // MERGES - 1) * BATCHES  # those of the round before are certainly there
    taken = {batch for earlier in range(1, number) for batch in merged(race, earlier).batches}
    left = [batch for batch in range(settled) if batch not in taken]
    return Merged(frozenset(groups) - deleted, deleted, frozenset(left[: chance.randint(0, 4)]))


def rows_of_group(group: int, version: int) -> list[tuple[int, str, int]]:
    """The rows of a group as a merge writes them."""
    first = group * GROUP_ROWS
    return [(first + i, f"part {(group + version) % 3}", version) for i in range(GROUP_ROWS)]


def rows_of_batch(batch: int) -> list[tuple[int, str, int]]:
    """The rows of an appended batch."""
    first = FIRST_OF_BATCHES + batch * BATCH_ROWS
    return [(first + i, f"part {batch % 3}", 0) for i in range(BATCH_ROWS)]


@cache
def groups_after(race: Race, merges: int) -> dict[int, int]:
    """Version of each group that is there after so many merges."""
    if not merges:
        return {}
    last = merged(race, merges)
    kept = {g: v for g, v in groups_after(race, merges - 1).items() if g not in last.deleted}
    return kept | dict.fromkeys(last.written, merges)


@cache
def batches_taken(race: Race, merges: int) -> frozenset[int]:
    """The batches that so many merges have deleted."""
    return batches_taken(race, merges - 1) | merged(race, merges).batches if merges else frozenset()


@cache
def expected(race: Race, state: State) -> Shown:
    """All rows of the table in a state."""
    merges, batches = state
    groups = groups_after(race, merges).items()
    taken = batches_taken(race, merges)
    return frozenset(
        [row for group, version in groups for row in rows_of_group(group, version)]
        + [row for batch in range(batches) if batch not in taken for row in rows_of_batch(batch)]
    )


def state_of(race: Race, found: pa.Table) -> State:
    """The state that a table shows.

    Raises:
        AssertionError: It shows none of those that it may show.
    """
    shown = list(zip(*(found[name].to_pylist() for name in ("id", "name", "version")), strict=True))
    merges = max((version for id_, _, version in shown if id_ < FIRST_OF_BATCHES), default=0)
    last = max((id_ for id_, _, _ in shown if id_ >= FIRST_OF_BATCHES), default=FIRST_OF_BATCHES - 1)
    state = merges, (last - FIRST_OF_BATCHES) // BATCH_ROWS + 1
    wanted = expected(race, state)
    twice, missing, strange = len(shown) - len(set(shown)), wanted - set(shown), set(shown) - wanted
    problems = twice or missing or strange
    assert not problems, (
        f"after {state[0]} merges and {state[1]} batches: {twice} rows twice, "
        f"missing {sorted(missing)[:5]}, not expected {sorted(strange)[:5]}"
    )
    return state


# ---- the processes -----------------------------------------------------------------------------------------


def merger(race: Race, gate: Any) -> int:
    """Merges; how many commits it made."""
    return _in_rounds(race, gate, _merge)


def appender(race: Race, gate: Any) -> int:
    """Appends, by turns as another job and as pyiceberg itself, where that can write."""
    return _in_rounds(race, gate, _append)


def compactor(race: Race, gate: Any) -> int:
    """Compacts, as upkeep does."""
    return _in_rounds(race, gate, _compact)


def pyiceberg_reader(race: Race, stop: Any) -> int:
    """Looks until it is told to stop; how many different states it has seen."""
    return _look(race, stop, lambda table: table.scan().to_arrow())


def duckdb_looker(race: Race, stop: Any) -> int:
    """The same through another engine."""
    return _look(race, stop, duckdb_table)


class _Dawdler:
    """Makes this process wait where others can come in between: all is known, and nothing committed."""

    def __init__(self) -> None:
        self._chance = random.Random()
        sys.addaudithook(self._hook)  # there is no way to take one away again

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        between = (Step.PLANNED, UpkeepStep.GROUP_WRITTEN)
        if event in (CHECKPOINT, UPKEEP) and arguments[0] in between and self._chance.random() < 0.5:
            time.sleep(self._chance.uniform(0, MOST_SECONDS_BETWEEN))


@cache
def _dawdle() -> _Dawdler:
    return _Dawdler()


def _in_rounds(race: Race, gate: Any, act: Callable[[Race, Catalog, int], int]) -> int:
    _dawdle()
    catalog = sql_catalog(race.folder)
    done = 0
    try:
        for number in range(race.rounds):
            gate.wait()
            done += act(race, catalog, number)
            gate.wait()
    except BaseException:
        gate.abort()  # nobody waits for this process any more
        raise
    finally:
        catalog.close()
    return done


def _merge(race: Race, catalog: Catalog, round_: int) -> int:
    table = race.load(catalog)
    writer = open_writer(
        "merge",
        catalog,
        table,
        job_id=JOB,
        started_from=read_note(table, JOB),
        settings=WriterSettings(
            spill_dir=race.folder / "spill", threads=1, row_group_rows=20, target_file_bytes=1
        ),
        key=MergeKey((("id",),), ("version",), ("_ab_cdc_deleted_at",), race.delete_format),
    )
    for number in range(round_ * MERGES + 1, (round_ + 1) * MERGES + 1):
        merge = merged(race, number)
        sent: list[tuple[Any, ...]] = [row for group in merge.written for row in rows_of_group(group, number)]
        sent += [(*row, 1) for group in merge.deleted for row in rows_of_group(group, number)]
        sent += [(id_, name, number, 1) for batch in merge.batches for id_, name, _ in rows_of_batch(batch)]
        random.Random(number).shuffle(sent)
        writer.write(rows(*sent))
        writer.mark()
        writer.commit(note(number, run=f"run-{round_}"))
    writer.discard()
    return MERGES


def _append(race: Race, catalog: Catalog, round_: int) -> int:
    for batch in range(round_ * BATCHES, (round_ + 1) * BATCHES):
        table = race.load(catalog)
        if batch % 2 and table.metadata.format_version < 3:
            _append_by_pyiceberg(race, catalog, batch)
            continue
        writer = open_writer(
            "append", catalog, table, job_id=OTHER_JOB, started_from=read_note(table, OTHER_JOB)
        )
        writer.write(rows(*rows_of_batch(batch)))
        writer.finish(note(batch, run=f"run-{batch}"))
        writer.discard()
    return BATCHES


def _append_by_pyiceberg(race: Race, catalog: Catalog, batch: int) -> None:
    arrow = pa.Table.from_batches([rows(*rows_of_batch(batch))], ARROW)
    while True:
        try:
            race.load(catalog).append(arrow)
        except CommitFailedException:  # somebody else was quicker
            continue
        return


def _compact(race: Race, catalog: Catalog, round_: int) -> int:
    done = 0
    for _ in range(COMPACTIONS):
        done += len(compact(catalog, race.load(catalog), EAGER, spill_dir=race.folder / "spill").snapshots)
        rewrite_manifests(catalog, race.load(catalog), EAGER)
    found = orphans(catalog, race.load(catalog), Policy(), survey(catalog))
    assert not found.deleted, "a file of somebody's who has not committed yet"
    return done


def _look(race: Race, stop: Any, read: Callable[[Table], pa.Table]) -> int:
    catalog = sql_catalog(race.folder)
    seen: set[State] = set()
    last: State = (0, 0)
    try:
        while True:
            stopping = stop.is_set()  # one more look after the last commit
            state = state_of(race, read(race.load(catalog)))
            assert min(state[0] - last[0], state[1] - last[1]) >= 0, f"{state} after {last}"
            seen.add(state)
            last = state
            if stopping:
                return len(seen)
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        catalog.close()


def states(race: Race, table: Table, snapshots: Iterable[int]) -> list[State]:
    """The states that snapshots show, each of which must be one that the table may show."""
    return [state_of(race, table.scan(snapshot_id=one).to_arrow()) for one in snapshots]
