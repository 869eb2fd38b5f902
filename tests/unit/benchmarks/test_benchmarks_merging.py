"""The rows that are merged, and how often a merge is repeated."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks.merging.cases import CASES, Case
from benchmarks.merging.contenders import CONTENDERS
from benchmarks.merging.repeat import ONCE_S, SLOW_S, repeated, written
from benchmarks.merging.rows import FIELDS, batches, batches_ahead, connection, sums, sums_in, table_ids

CASE = Case("few", "few", 1_000, 100, 50, ("tenant", "number"), ())


def table(ids: str, version: int) -> pa.Table:
    """All rows with these ids."""
    return pa.Table.from_batches(batches(ids, version))


def test_rows_follow_from_id_and_version() -> None:
    """The same again and again; keys are unique and stay, other columns change."""
    old, new = table(CASE.table_ids, 0), table(CASE.table_ids, 1)
    assert old.schema.names == [field.name for field in FIELDS]
    assert old == table(CASE.table_ids, 0)
    keys = old.select(["id", "uuid", "tenant", "number"])
    assert keys == new.select(["id", "uuid", "tenant", "number"])
    assert len(set(old["uuid"].to_pylist())) == len(old)
    pairs = zip(old["tenant"].to_pylist(), old["number"].to_pylist(), strict=True)
    assert len(set(pairs)) == len(old)
    assert not set(old["updated_at"].to_pylist()) & set(new["updated_at"].to_pylist())


def test_rows_made_ahead_are_the_same() -> None:
    """In the same order, to the last one."""
    ids = table_ids(25_000)
    assert list(batches_ahead(ids, 1)) == list(batches(ids, 1))


def test_the_rows_to_merge() -> None:
    """As many as the case says, of the whole table and behind it, in no order, each once."""
    ids = table(CASE.changed_ids, 1)["id"].to_pylist()
    assert len(ids) == len(set(ids)) == CASE.changed
    assert ids != sorted(ids)
    assert sorted(ids)[: CASE.replaced] == list(range(0, 1_000, 10))
    assert sorted(ids)[CASE.replaced :] == list(range(1_000, 1_050))


def test_what_must_be_in_the_table_afterwards() -> None:
    """The sums that are expected are those of a merge made by hand."""
    merged = {row["id"]: row for row in table(CASE.table_ids, 0).to_pylist()}
    merged |= {row["id"]: row for row in table(CASE.changed_ids, 1).to_pylist()}
    with connection() as db:
        db.register("merged", pa.Table.from_pylist(list(merged.values())))
        assert sums_in(db, "merged") == CASE.expected(sums(CASE.table_ids, 0))


def test_a_value_in_another_row_is_another_checksum() -> None:
    """Not only the columns have to be the same, the rows do."""
    rows = table(CASE.table_ids, 0)
    swapped = rows.set_column(6, "active", pa.chunked_array([list(reversed(rows["active"].to_pylist()))]))
    with connection() as db:
        db.register("swapped", swapped)
        assert sums_in(db, "swapped") != sums(CASE.table_ids, 0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_cases(case: Case) -> None:
    """Contenders are known, keys are columns, and the quick form has something to do."""
    assert set(case.contenders) <= set(CONTENDERS)
    assert set(case.key) <= {field.name for field in FIELDS}
    assert case.replaced <= case.rows
    assert case.smaller().replaced >= 1
    assert bool(case.smaller().new) == bool(case.new)


@pytest.mark.parametrize(
    ("seconds", "measured"), [(0.1, 4), (SLOW_S + 1, 2), (ONCE_S + 1, 1)], ids=["fast", "slow", "very slow"]
)
def test_repetitions(monkeypatch: pytest.MonkeyPatch, seconds: float, measured: int) -> None:
    """Fast work has a warm-up that does not count; slow work is repeated less often, and all of it counts."""
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    tables: list[int] = []

    def fresh() -> int:
        tables.append(len(tables))
        return tables[-1]

    def merge(table: int) -> None:
        assert table == tables[-1]
        clock[0] += seconds

    runs = repeated(fresh, merge, lambda: {"number": tables[-1]}, rounds=4)
    assert len(runs) == measured
    assert [run["seconds"] for run in runs] == [pytest.approx(seconds)] * measured
    assert [run["number"] for run in runs] == tables[-measured:]
    assert len(tables) == measured + (1 if seconds < SLOW_S else 0)


def test_what_was_written(tmp_path: Path) -> None:
    """Deletes are told from rows by the names that Airberg gives them; metadata counts as bytes."""
    sizes = {"a.parquet": 100, "b-deletes.parquet": 10, "c-deletes.puffin": 5, "m.avro": 3, "v.json": 1}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(bytes(size))
    assert written(tmp_path.iterdir()) == {
        "bytes_written": 119,
        "data_bytes": 100,
        "delete_bytes": 15,
        "data_files": 1,
        "delete_files": 2,
    }
