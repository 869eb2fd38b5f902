"""A merge, an append by another writer and a compaction at once: nothing is lost, no half state is seen.

Each writer and each reader is a process with a catalog of its own. `make test` plays a few rounds; `make
race` a hundred for each delete format. `RACE_ROUNDS` says how many, `RACE_SEED` what is merged.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.managers import SyncManager
from pathlib import Path
from threading import BrokenBarrierError

import pytest
from pyiceberg.table import Table

from airberg.lake.tables import ensure_table
from airberg.plan.model import DeleteFormat
from support.duckdb_reader import duckdb_table
from support.lake_tables import FIELDS, NAMESPACE, sql_catalog
from support.model_plans import VERSIONS
from support.partitions import by
from support.table_race import (
    BATCHES,
    MERGES,
    Race,
    appender,
    compactor,
    duckdb_looker,
    merger,
    pyiceberg_reader,
    state_of,
    states,
)

SHORT_ROUNDS = 3
ROUNDS_KEPT = 10
ROUND_SECONDS = 120
WRITERS = (merger, appender, compactor)
READERS = (pyiceberg_reader, duckdb_looker)


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """A process for each writer and reader; they serve one test after another, as importing takes long."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(WRITERS) + len(READERS), context) as opened:
        yield opened


@pytest.fixture(scope="module")
def manager() -> Iterator[SyncManager]:
    """Gives out what the processes wait for each other with."""
    with multiprocessing.get_context("spawn").Manager() as opened:
        yield opened


def forget_snapshots(table: Table) -> None:
    """Drop all but the newest, with their files left: somebody may be reading them."""
    current = table.metadata.current_snapshot_id
    old = [one.snapshot_id for one in table.snapshots() if one.snapshot_id != current]
    table.maintenance.expire_snapshots().by_ids(old).commit()


@pytest.mark.xdist_group("race")
@pytest.mark.parametrize(
    ("delete_format", "partitioned"),
    [("position", True), ("vector", False), ("copy-on-write", True)],
)
def test_writers_at_once(
    tmp_path: Path,
    pool: ProcessPoolExecutor,
    manager: SyncManager,
    capsys: pytest.CaptureFixture[str],
    delete_format: DeleteFormat,
    partitioned: bool,
) -> None:
    """Every snapshot holds whole merges and whole batches; after each round all of them."""
    seed = os.environ.get("RACE_SEED") or ("1" if "RACE_ROUNDS" not in os.environ else str(os.getpid()))
    rounds = int(os.environ.get("RACE_ROUNDS") or SHORT_ROUNDS)
    race = Race(tmp_path, "raced", delete_format, partitioned, seed, rounds)
    catalog = sql_catalog(tmp_path)
    table = ensure_table(
        catalog,
        NAMESPACE,
        race.table,
        FIELDS,
        {"format-version": str(VERSIONS[delete_format][-1])},
        partition_by=(by("identity", "name"),) if partitioned else (),
    )
    gate, stop = manager.Barrier(len(WRITERS) + 1, timeout=ROUND_SECONDS), manager.Event()
    looking = [pool.submit(reader, race, stop) for reader in READERS]
    writing = [pool.submit(writer, race, gate) for writer in WRITERS]
    before: set[int] = set()
    try:
        for number in range(1, rounds + 1):
            gate.wait()
            gate.wait()
            table.refresh()
            assert state_of(race, table.scan().to_arrow()) == (number * MERGES, number * BATCHES)
            assert state_of(race, duckdb_table(table)) == (number * MERGES, number * BATCHES)
            made = [one.snapshot_id for one in table.snapshots() if one.snapshot_id not in before]
            shown = states(race, table, made)
            assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(shown))
            begun = ((number - 1) * MERGES, (number - 1) * BATCHES)
            assert len({*shown} - {begun}) == MERGES + BATCHES
            before.update(made)
            if number % ROUNDS_KEPT == 0:
                forget_snapshots(table)
                if "RACE_ROUNDS" in os.environ:
                    with capsys.disabled():
                        print(f"  {delete_format}: {number} rounds", flush=True)
    except BrokenBarrierError:
        for writer in writing:  # one of them failed, and that is what there is to say
            writer.result()
        raise
    finally:
        gate.abort()
        stop.set()
    commits = [writer.result() for writer in writing]
    seen = [reader.result() for reader in looking]
    assert commits[:2] == [rounds * MERGES, rounds * BATCHES]
    if "RACE_ROUNDS" in os.environ:
        with capsys.disabled():
            print(
                f"\n  {delete_format}, {rounds} rounds, SEED={seed}: {commits[0]} merges, {commits[1]} "
                f"batches, {commits[2]} compactions, readers saw {seen[0]} and {seen[1]} states"
            )
    catalog.close()
