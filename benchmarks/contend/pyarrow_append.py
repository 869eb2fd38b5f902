"""What one writes by hand: `pyarrow.json` with an explicit schema, then pyiceberg's `Table.append`.

    python -m benchmarks.contend.pyarrow_append TASK.json

The catalog is SQLite and the warehouse a folder, as Airberg's. It reads a file per stream, 64 MB at a time;
each piece is one append, so one snapshot. Catalog and tables are made before the clock starts. Columns that
`pyarrow.json` cannot read, because their values have no single type, are left out.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
import pyiceberg
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.table import Table

from airberg.columns.arrow import arrow_type
from airberg.columns.types import DATE, STRING, ColumnType, Field, Json, List, Struct

PIECE_BYTES = 64 * 1024 * 1024


def plain(column: ColumnType) -> bool:
    """Whether `pyarrow.json` can read the type."""
    if isinstance(column, Json):
        return False
    if isinstance(column, List):
        return plain(column.element)
    return not isinstance(column, Struct) or all(plain(f.type) for f in column.fields)


def explicit_schema(fields: Sequence[Field]) -> pa.Schema:
    """The schema that the lines are read with: dates are text first, `pyarrow.json` knows none."""
    data = [pa.field(f.name, arrow_type(STRING if f.type == DATE else f.type)) for f in fields]
    return pa.schema([pa.field("record", pa.struct([pa.field("data", pa.struct(data))]))])


def pieces(path: Path, repeat: int) -> Iterator[bytes]:
    """Whole lines, about `PIECE_BYTES` at a time."""
    for _ in range(repeat):
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece + file.readline()


def read_piece(piece: bytes, schema: pa.Schema, fields: Sequence[Field]) -> pa.Table:
    """Rows of a piece, typed."""
    options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    read = pj.ReadOptions(block_size=4 * 1024 * 1024)
    table = pj.read_json(io.BytesIO(piece), read_options=read, parse_options=options)
    data = pa.Table.from_struct_array(pc.struct_field(table.column("record"), "data"))
    for field in fields:
        if field.type == DATE:
            place = data.schema.get_field_index(field.name)
            data = data.set_column(place, field.name, data.column(place).cast(pa.date32()))
    return data


def open_catalog(out: Path) -> Catalog:
    """A catalog like that of the embedded deployment."""
    out.mkdir(parents=True)
    catalog = load_catalog(
        "bench", type="sql", uri=f"sqlite:///{out / 'catalog.db'}", warehouse=f"file://{out / 'warehouse'}"
    )
    catalog.create_namespace("bench")
    return catalog


def describe(table: Table) -> dict[str, Any]:
    """Data files and snapshots."""
    files = [task.file.file_path.removeprefix("file://") for task in table.scan().plan_files()]
    return {"files": files, "snapshots": len(table.metadata.snapshots)}


def main() -> None:
    """Load every stream."""
    task = json.loads(Path(sys.argv[1]).read_text())
    pa.set_cpu_count(task["threads"])
    catalog = open_catalog(Path(task["out"]))
    prepared = {}
    for name, stream in task["streams"].items():
        every = msgspec.convert(stream["fields"], type=tuple[Field, ...])
        fields = [f for f in every if plain(f.type)]
        schema = pa.schema([pa.field(f.name, arrow_type(f.type)) for f in fields])
        properties = {"write.parquet.compression-codec": "zstd"}
        table = catalog.create_table(("bench", name), schema=schema, properties=properties)
        prepared[name] = table, fields, explicit_schema(fields)
    begun = time.perf_counter()
    for name, (table, fields, schema) in prepared.items():
        stream = task["streams"][name]
        for piece in pieces(Path(stream["file"]), stream["repeat"]):
            table.append(read_piece(piece, schema, fields))
    seconds = time.perf_counter() - begun
    tables = {name: describe(catalog.load_table(("bench", name))) for name in prepared}
    versions = {"pyarrow": pa.__version__, "pyiceberg": pyiceberg.__version__}
    print(json.dumps({"seconds": seconds, "tables": tables, "versions": versions}))


if __name__ == "__main__":
    main()
