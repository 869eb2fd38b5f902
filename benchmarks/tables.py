"""How fast Arrow batches get into a table, append and a merge of a tenth of its keys: `results/tables.json`.

    python -m benchmarks.tables [--quick] [--rows 1000000]

Rows are made beforehand and are not part of the times; the merge changes half of its keys all over the table,
and adds the other half.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog import Catalog

from airberg.columns.types import DOUBLE, LONG, STRING, TIMESTAMPTZ, Field
from airberg.lake.catalog import memory_catalog
from airberg.lake.note import Note, read_note
from airberg.lake.read import row_count
from airberg.lake.tables import describe, ensure_table
from airberg.lake.writers import CommitReport, MergeKey, WriterSettings, open_writer
from airberg.plan.model import Mode
from benchmarks.report import arguments, write

BATCH_ROWS = 10_000
ROWS = 200_000
QUICK_ROWS = 5_000
FIELDS = (
    Field("id", LONG),
    Field("uuid", STRING),
    Field("name", STRING),
    Field("email", STRING),
    Field("age", LONG),
    Field("score", DOUBLE),
    Field("city", STRING),
    Field("updated_at", TIMESTAMPTZ),
)


def batches(first: int, count: int, version: int, stride: int = 1) -> Iterator[pa.RecordBatch]:
    """Rows with the ids `first`, `first + stride`, … as they come from a source."""
    for start in range(0, count, BATCH_ROWS):
        rows = min(BATCH_ROWS, count - start)
        ids = pc.add(pc.multiply(pa.arange(start, start + rows), stride), first)
        text = ids.cast(pa.string())
        mixed = pc.bit_wise_and(pc.multiply(ids, 2_654_435_761), 0xFFFFFF)
        columns = {
            "id": ids,
            "uuid": pc.binary_join_element_wise(mixed.cast(pa.string()), text, "-4a7b-8c9d-"),
            "name": pc.binary_join_element_wise("name", mixed.cast(pa.string()), " "),
            "email": pc.binary_join_element_wise(mixed.cast(pa.string()), "example.com", "@"),
            "age": pc.bit_wise_and(mixed, 63),
            "score": pc.divide(mixed.cast(pa.float64()), 7.0),
            "city": pc.binary_join_element_wise("city", pc.bit_wise_and(mixed, 255).cast(pa.string()), "-"),
            "updated_at": pc.add(pc.multiply(ids, 1000), version).cast(pa.timestamp("us", "UTC")),
        }
        yield pa.RecordBatch.from_pydict(columns)


def timed(work: Callable[[], CommitReport]) -> tuple[CommitReport, float, float]:
    """The result, wall seconds and CPU seconds of some work."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def load(
    catalog: Catalog, folder: Path, mode: Mode, arriving: list[pa.RecordBatch], key: MergeKey | None
) -> CommitReport:
    """Write batches in one checkpoint."""
    table = ensure_table(catalog, ("bench",), "users", FIELDS)
    before = read_note(table, "bench")
    writer = open_writer(
        mode,
        catalog,
        table,
        job_id="bench",
        started_from=before,
        settings=WriterSettings(spill_dir=folder / "spill"),
        key=key,
    )
    for batch in arriving:
        writer.write(batch)
    report = writer.finish(Note(run_id="bench", attempt=1, number=before.number + 1 if before else 1))
    writer.discard()
    return report


def measure(rows: int, key_column: str) -> dict[str, Any]:
    """Append `rows` rows, then merge a tenth of as many."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        catalog = memory_catalog(folder / "warehouse")
        arriving = list(batches(0, rows, 0))
        arrow_bytes = sum(batch.nbytes for batch in arriving)
        appended, append_s, append_cpu = timed(lambda: load(catalog, folder, "append", arriving, None))
        changed = rows // 10
        old = list(batches(0, changed // 2, 1, stride=20))
        new = list(batches(rows, changed - changed // 2, 1))
        key = MergeKey(((key_column,),), ("updated_at",))
        merged, merge_s, merge_cpu = timed(lambda: load(catalog, folder, "merge", old + new, key))
        table = ensure_table(catalog, ("bench",), "users", FIELDS)
        assert row_count(table) == rows + changed - changed // 2
        assert merged.rows_deleted == changed // 2
        summary = describe(table)
        catalog.close()
    return {
        "rows": rows,
        "key": key_column,
        "append": {
            "rows_per_s": round(rows / append_s),
            "mb_per_s": round(arrow_bytes / append_s / 1e6, 1),
            "wall_s": round(append_s, 3),
            "cpu_s": round(append_cpu, 3),
            "files": appended.files,
            "bytes_written": appended.bytes_written,
        },
        "merge": {
            "changed_rows": changed,
            "changed_rows_per_s": round(changed / merge_s),
            "wall_s": round(merge_s, 3),
            "cpu_s": round(merge_cpu, 3),
            "files": merged.files,
            "bytes_written": merged.bytes_written,
        },
        "snapshots": len(summary.snapshots),
    }


def main() -> int:
    """Measure with a number and with a text as key."""
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, help="rows of the table before the merge")
    options = parser.parse_args()
    rows = options.rows or (QUICK_ROWS if options.quick else ROWS)
    loads = {key: measure(rows, key) for key in ("id", "uuid")}
    write("tables", options, ratios={}, targets={}, found_versions={}, figures={"loads": loads})
    return 0


if __name__ == "__main__":
    sys.exit(main())
