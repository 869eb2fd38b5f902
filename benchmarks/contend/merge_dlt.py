"""dlt's merge into an Iceberg table, strategy `upsert`. Its environment is its own (requirements/bench.txt).

    python -m benchmarks.contend.merge_dlt TASK.json

dlt writes the table itself before, from the same rows in Arrow, by merging as somebody does who merges from
the first load on, or by one append (`built`); a tiny merge into another dataset imports everything before the
clock starts. What is measured is `pipeline.run` of an Arrow table.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import dlt
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import load_catalog

from benchmarks.merging.repeat import files_in, forget_peak, peak_mb, timed, written

NAME = "merged"


def plain(table: pa.Table) -> pa.Table:
    """Without the field ids of the file that it was read from."""
    return table.cast(pa.schema([pa.field(f.name, f.type) for f in table.schema]))


def load(data: pa.Table, dataset: str, out: Path, key: list[str], *, merge: bool) -> None:
    """Bring rows into a table."""
    pipeline = dlt.pipeline(
        pipeline_name=dataset,
        pipelines_dir=str(out / "pipelines"),
        destination=dlt.destinations.filesystem(bucket_url=(out / "bucket").as_uri()),
        dataset_name=dataset,
    )
    resource = dlt.resource(
        data,
        name=NAME,
        primary_key=key,
        write_disposition={"disposition": "merge", "strategy": "upsert"} if merge else "append",
        table_format="iceberg",
    )
    pipeline.run(resource).raise_on_failed_jobs()


def main() -> None:
    """Write the table, merge into it once."""
    task: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    out = Path(task["out"])
    out.mkdir(parents=True)
    properties = {
        "type": "sql",
        "uri": f"sqlite:///{out / 'catalog.db'}",
        "warehouse": (out / "bucket").as_uri(),
    }
    os.environ |= {
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "ICEBERG_CATALOG__ICEBERG_CATALOG_TYPE": "sql",
        "ICEBERG_CATALOG__ICEBERG_CATALOG_CONFIG": json.dumps(properties),
    }
    key = task["key"]
    before = plain(pq.read_table(task["seed"]["data"]))
    with pa.OSFile(task["changes"]) as file:
        changes = pa.ipc.open_file(file).read_all()
    load(before.slice(0, 10), "warm_up", out, key, merge=False)
    load(changes.slice(0, 10), "warm_up", out, key, merge=True)
    catalog = load_catalog("default", **properties)
    load(before, "bench", out, key, merge=task["built"] == "by merging")
    del before
    table = catalog.load_table(("bench", NAME))
    folder = Path(table.location().removeprefix("file://"))
    files, snapshots = files_in(folder), len(table.metadata.snapshots)
    idle = forget_peak()
    run: dict[str, Any] = timed(lambda: load(changes, "bench", out, key, merge=True))
    peak = peak_mb()
    table = catalog.load_table(("bench", NAME))
    run |= written(files_in(folder) - files) | {"snapshots": len(table.metadata.snapshots) - snapshots}
    said = {
        "runs": [run],
        "idle_mb": idle,
        "peak_mb": peak,
        "metadata": table.metadata_location,
        "versions": {"dlt": dlt.__version__},
    }
    print("\n" + json.dumps(said))


if __name__ == "__main__":
    main()
