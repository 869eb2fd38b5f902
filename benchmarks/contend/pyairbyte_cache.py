"""PyAirbyte: the same replayed connector, read into its DuckDB cache. Runs in PyAirbyte's own environment.

    python benchmarks/contend/pyairbyte_cache.py TASK.json

Importing, installing and discovering are done before the clock starts.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import airbyte as ab
from airbyte.caches import DuckDBCache
from airbyte.strategies import WriteStrategy


def main() -> None:
    """Load every stream."""
    task = json.loads(Path(sys.argv[1]).read_text())
    out = Path(task["out"])
    out.mkdir(parents=True)
    source = ab.get_source("source-replay", config=task["config"], local_executable=Path(task["connector"]))
    source.select_all_streams()
    database = out / "cache.duckdb"
    cache = DuckDBCache(db_path=database, schema_name="bench")
    begun = time.perf_counter()
    source.read(cache=cache, write_strategy=WriteStrategy.APPEND, skip_validation=True)
    seconds = time.perf_counter() - begun
    tables = {name: {"database": str(database), "schema": "bench", "table": name} for name in task["streams"]}
    versions = {"pyairbyte": ab.version.get_version()}
    print("\n" + json.dumps({"seconds": seconds, "tables": tables, "versions": versions}))


if __name__ == "__main__":
    main()
