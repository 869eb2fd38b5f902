"""dlt into Iceberg tables, from rows or from Arrow. Its environment is its own (requirements/bench.txt).

    python benchmarks/contend/dlt_iceberg.py TASK.json

`task["input"]` is `rows` (the records as dictionaries) or `arrow` (tables of `pyarrow.json`). It reads a file
per stream. Hints give the types. Objects and lists stay JSON columns instead of becoming child tables
(`max_table_nesting=0`), which is the shorter way for dlt, and a union is text. A tiny load before the clock
starts imports everything.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
from pyiceberg.catalog import load_catalog

PAGE = 5_000
PIECE_BYTES = 16 * 1024 * 1024
ARROW = {
    "boolean": pa.bool_(),
    "long": pa.int64(),
    "double": pa.float64(),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "string": pa.string(),
    "date": pa.string(),
}
HINTS = {
    "boolean": "bool",
    "long": "bigint",
    "double": "double",
    "timestamptz": "timestamp",
    "string": "text",
    "date": "date",
}


def rows_of(path: Path) -> Iterator[list[dict[str, Any]]]:
    """The records, some thousands at a time."""
    page: list[dict[str, Any]] = []
    with path.open("rb") as file:
        for line in file:
            page.append(orjson.loads(line)["record"]["data"])
            if len(page) == PAGE:
                yield page
                page = []
    if page:
        yield page


def arrow_type(kind: dict[str, Any]) -> pa.DataType | None:
    """The Arrow type of a column; None when `pyarrow.json` cannot read it."""
    if kind["kind"] == "struct":
        members = [(f["name"], arrow_type(f["type"])) for f in kind["fields"]]
        return None if any(t is None for _, t in members) else pa.struct(members)
    if kind["kind"] == "list":
        element = arrow_type(kind["element"])
        return None if element is None else pa.list_(element)
    return ARROW[kind["name"]] if kind["kind"] == "primitive" else None


def tables_of(path: Path, fields: list[dict[str, Any]]) -> Iterator[pa.Table]:
    """The records as Arrow tables."""
    data = [(f["name"], arrow_type(f["type"])) for f in fields]
    data = [(name, kind) for name, kind in data if kind is not None]
    schema = pa.schema([("record", pa.struct([("data", pa.struct(data))]))])
    options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    dates = [f["name"] for f in fields if f["type"].get("name") == "date"]
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            read = pj.read_json(io.BytesIO(piece + file.readline()), parse_options=options)
            table = pa.Table.from_struct_array(pc.struct_field(read.column("record"), "data"))
            for name in dates:
                place = table.schema.get_field_index(name)
                table = table.set_column(place, name, table.column(place).cast(pa.date32()))
            yield table


def hint(field: dict[str, Any], sample: list[dict[str, Any]]) -> str:
    """Dlt's type of a column. What has no single type is JSON, and a union of plain types is text."""
    if field["type"]["kind"] == "primitive":
        return HINTS[field["type"]["name"]]
    return "text" if any(isinstance(row.get(field["name"]), str | int) for row in sample) else "json"


def resource(name: str, stream: dict[str, Any], task: dict[str, Any], first: bool) -> Any:  # noqa: ANN401 - of dlt
    """One stream; only its first page when `first`."""
    path = Path(stream["file"])
    rows = task["input"] == "rows"
    pages = rows_of(path) if rows else tables_of(path, stream["fields"])
    sample = next(rows_of(path))
    given = iter([next(iter(pages))[:10]]) if first else pages
    return dlt.resource(
        given,
        name=name,
        write_disposition="append",
        table_format="iceberg",
        columns={f["name"]: {"data_type": hint(f, sample)} for f in stream["fields"]} if rows else None,
        max_table_nesting=0,
    )


def load(task: dict[str, Any], dataset: str, out: Path, first: bool) -> float:
    """Load every stream; returns seconds."""
    pipeline = dlt.pipeline(
        pipeline_name=dataset,
        pipelines_dir=str(out / "pipelines"),
        destination=dlt.destinations.filesystem(bucket_url=(out / "bucket").as_uri()),
        dataset_name=dataset,
    )
    streams = [resource(name, stream, task, first) for name, stream in task["streams"].items()]
    begun = time.perf_counter()
    info = pipeline.run(streams)
    seconds = time.perf_counter() - begun
    info.raise_on_failed_jobs()
    return seconds


def main() -> None:
    """Load every stream."""
    task = json.loads(Path(sys.argv[1]).read_text())
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
    load(task, "warm_up", out, first=True)
    seconds = load(task, "bench", out, first=False)
    catalog = load_catalog("default", **properties)
    tables = {}
    for name in task["streams"]:
        table = catalog.load_table(("bench", name))
        files = [t.file.file_path.removeprefix("file://") for t in table.scan().plan_files()]
        tables[name] = {"files": files, "snapshots": len(table.metadata.snapshots)}
    print("\n" + json.dumps({"seconds": seconds, "tables": tables, "versions": {"dlt": dlt.__version__}}))


if __name__ == "__main__":
    main()
