"""Whatever fails at whatever step: the table is as before a commit or as after it, and a new run goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airberg.errors import AirbergError
from airberg.lake.note import read_note
from support.lake_tables import (
    JOB,
    FailingFileIO,
    FaultyCatalog,
    Killed,
    fail_after,
    fail_before,
    names,
    note,
    rows,
    sql_catalog,
    users,
    writer,
)

# What a source sends: a state after each batch. Merges see keys again, with newer, older and no versions.
SOURCE = [
    [(1, "a", 1), (2, "b", 1), (3, "c", 3)],
    [(2, "B", 2), (4, "d", 1)],
    [(3, "old", 2), (1, "gone", 2, 7), (5, "e", 1)],
    [(5, "E", 2), (6, "f", None), (4, "gone", 2, 7)],
]
MERGED = [
    [],
    [(1, "a"), (2, "b"), (3, "c")],
    [(1, "a"), (2, "B"), (3, "c"), (4, "d")],
    [(2, "B"), (3, "c"), (4, "d"), (5, "e")],
    [(2, "B"), (3, "c"), (5, "E"), (6, "f")],
]


def expected(mode: str, states: int) -> list[tuple[Any, Any]]:
    """What the table holds after so many states."""
    if mode == "merge":
        return MERGED[states]
    if mode == "overwrite":
        return sorted((row[0], row[1]) for batch in SOURCE for row in batch) if states == len(SOURCE) else []
    return sorted((row[0], row[1]) for batch in SOURCE[:states] for row in batch)


def held(catalog: Any) -> int:
    """How many states the table says that it holds."""
    found = read_note(users(catalog), JOB)
    return found.state if found else 0


def check(catalog: Any, mode: str) -> None:
    """The rows are exactly those that the note says."""
    assert names(users(catalog)) == expected(mode, held(catalog))


def run(catalog: Any, mode: str, folder: Path, attempt: int) -> None:
    """One attempt: from the state in the table to the end, with a commit for every second state."""
    begin = held(catalog)
    if begin == len(SOURCE):
        return
    table_writer = writer(catalog, mode, folder, row_group_rows=2, target_file_bytes=1)
    try:
        start = 0 if mode == "overwrite" else begin
        for index, batch in enumerate(SOURCE[start:], start + 1):
            table_writer.write(rows(*batch))
            table_writer.mark()
            if mode != "overwrite" and index % 2 == 1 and index > 1:
                table_writer.commit(note(index, attempt=attempt, state=index))
        table_writer.finish(note(10, attempt=attempt, state=len(SOURCE)))
    finally:
        table_writer.discard()


@pytest.fixture(autouse=True)
def _storage_works_again() -> Iterator[None]:
    """No failure is left for another test."""
    yield
    FailingFileIO.fail_at(None, OSError())


def failing_catalog(folder: Path) -> FaultyCatalog:
    """A catalog on storage that can be told to fail, with an empty table."""
    catalog: FaultyCatalog = sql_catalog(
        folder, FaultyCatalog, **{"py-io-impl": "support.lake_tables.FailingFileIO"}
    )
    users(catalog)
    return catalog


@pytest.mark.parametrize("mode", ["append", "overwrite", "merge"])
@pytest.mark.parametrize("kind", ["disk full", "killed"])
def test_storage_that_fails_at_each_step(tmp_path: Path, mode: str, kind: str) -> None:
    """Every file that a run opens fails once: before, while and after it commits."""
    failures = 0
    for step in range(400):
        folder = tmp_path / str(step)
        catalog = failing_catalog(folder)
        error: BaseException = OSError("no space left on device") if kind == "disk full" else Killed()
        FailingFileIO.fail_at(step, error)
        try:
            run(catalog, mode, folder, 1)
        except (AirbergError, OSError, Killed):
            failures += 1
        passed = FailingFileIO.left is not None
        FailingFileIO.fail_at(None, OSError())
        check(catalog, mode)
        run(catalog, mode, folder, 2)
        assert held(catalog) == len(SOURCE)
        check(catalog, mode)
        catalog.close()
        if passed:
            break
    else:
        pytest.fail("the run never came to its end")
    assert failures >= 5


@pytest.mark.parametrize("mode", ["append", "overwrite", "merge"])
@pytest.mark.parametrize("when", [fail_before, fail_after])
@pytest.mark.parametrize("error", [Killed(), ConnectionError("reset")])
def test_a_catalog_that_fails_at_each_commit(
    tmp_path: Path, mode: str, when: Any, error: BaseException
) -> None:
    """The process ends, or the connection breaks, right before or right after each commit lands."""
    for nth in range(3):
        folder = tmp_path / str(nth)
        catalog = failing_catalog(folder)
        catalog.faults = [*[None] * nth, when(error)]
        try:
            run(catalog, mode, folder, 1)
        except Killed:
            check(catalog, mode)
        catalog.faults = []
        run(catalog, mode, folder, 2)
        assert held(catalog) == len(SOURCE)
        check(catalog, mode)
        catalog.close()


@pytest.mark.parametrize("mode", ["append", "merge"])
def test_the_same_checkpoint_again_continues(tmp_path: Path, mode: str) -> None:
    """A commit that failed is made again by the same writer, with the same note: once is enough."""
    catalog = failing_catalog(tmp_path)
    table_writer = writer(catalog, mode, tmp_path)
    table_writer.write(rows(*SOURCE[0]))
    table_writer.mark()
    table_writer.write(rows(*SOURCE[1]))
    FailingFileIO.fail_at(3, OSError("no space left on device"))
    with pytest.raises(AirbergError):
        table_writer.commit(note(1, state=1))
    check(catalog, mode)
    FailingFileIO.fail_at(None, OSError())
    table_writer.commit(note(1, state=1))
    check(catalog, mode)
    table_writer.finish(note(2, state=2))
    check(catalog, mode)
    table_writer.discard()
    catalog.close()
