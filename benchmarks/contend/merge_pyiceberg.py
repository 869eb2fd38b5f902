"""pyiceberg's own merge: `Table.upsert`, from an Arrow table.

python -m benchmarks.contend.merge_pyiceberg TASK.json
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyiceberg
from pyiceberg.table import Table

from benchmarks.merging.program import main
from benchmarks.merging.table import SeededTable


def merge(_: SeededTable, table: Table, arriving: list[pa.RecordBatch], task: dict[str, Any]) -> None:
    """One upsert."""
    table.upsert(pa.Table.from_batches(arriving), join_cols=task["key"])


if __name__ == "__main__":
    main(merge, {"pyarrow": pa.__version__, "pyiceberg": pyiceberg.__version__})
