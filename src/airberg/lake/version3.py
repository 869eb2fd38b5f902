"""Tables of format version 3, where pyiceberg keeps the catalog itself.

pyiceberg 0.12 reads the metadata of version 3 and refuses to write it, because it does not write its
manifests; `airberg.lake.manifests` does. REST catalogs write metadata themselves; for all others (SQL, Glue,
Hive) this module gives the metadata class its serialiser back, and the row id that the specification begins
with.
"""

from __future__ import annotations

from typing import Any

from pyiceberg.table.metadata import TableMetadataV3
from pyiceberg.typedef import IcebergBaseModel


def _dump(metadata: TableMetadataV3, **options: Any) -> str:  # noqa: ANN401 - those of pydantic
    if metadata.next_row_id is None:
        metadata = metadata.model_copy(update={"next_row_id": 0})
    return IcebergBaseModel.model_dump_json(metadata, **options)


def enable() -> None:
    """Let catalogs of this process write metadata of version 3; to do it again changes nothing."""
    TableMetadataV3.model_dump_json = _dump  # type: ignore[assignment, method-assign]
