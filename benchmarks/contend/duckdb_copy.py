"""DuckDB: `COPY (SELECT … FROM read_json(…)) TO … (FORMAT parquet, COMPRESSION zstd)`, a file per stream.

    python -m benchmarks.contend.duckdb_copy TASK.json

The columns are typed as Airberg types them. It is given a file per stream, so that it has no messages to tell
apart, no states and no counts to keep, and it adds no metadata columns.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import duckdb


def copy_statement(stream: dict[str, Any], target: Path) -> str:
    """The statement for one stream."""
    files = "[" + ", ".join(f"'{stream['file']}'" for _ in range(stream["repeat"])) + "]"
    columns = ", ".join(f"record.data.{name} AS {name}" for name in stream["columns"])
    read = (
        f"read_json({files}, format = 'newline_delimited', "
        f"columns = {{record: 'STRUCT(data {stream['type']})'}})"
    )
    return f"COPY (SELECT {columns} FROM {read}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)"


def main() -> None:
    """Load every stream."""
    task = json.loads(Path(sys.argv[1]).read_text())
    connection = duckdb.connect(config={"threads": task["threads"]})
    connection.execute("SET TimeZone = 'UTC'")
    out = Path(task["out"])
    out.mkdir(parents=True)
    tables = {}
    begun = time.perf_counter()
    for name, stream in task["streams"].items():
        target = out / f"{name}.parquet"
        connection.execute(copy_statement(stream, target))
        tables[name] = {"files": [str(target)], "snapshots": 0}
    seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "tables": tables, "versions": {"duckdb": duckdb.__version__}}))


if __name__ == "__main__":
    main()
