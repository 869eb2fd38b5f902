"""A catalog of many tables of one kind, made as they are asked for: no files, nothing kept."""

from __future__ import annotations

from typing import Any

from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.io import load_file_io
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.table import Table
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER

from benchmarks.governing.tables import iceberg_schema


class ManyTables(NoopCatalog):
    """Has every table that it is asked for.

    Args:
        width: Columns of each.
    """

    def __init__(self, width: int) -> None:
        super().__init__("many")
        self._schema = iceberg_schema(width)

    def load_table(self, identifier: Any) -> Table:
        """A table without rows, new each time."""
        location = f"file:///nowhere/{'/'.join(identifier)}"
        metadata = new_table_metadata(
            self._schema,
            UNPARTITIONED_PARTITION_SPEC,
            UNSORTED_SORT_ORDER,
            location,
            {"comment": f"All of {identifier[-1]}"},
        )
        fixed = metadata.model_copy(update={"last_updated_ms": 1_774_785_600_000})
        return Table(tuple(identifier), fixed, f"{location}/v1.metadata.json", load_file_io(), self)

    def load_namespace_properties(self, _namespace: Any) -> dict[str, str]:
        """None."""
        return {}
