"""A table as people look at it: columns, snapshots, sizes, a few rows.

Values are made fit for JSON, and short: a preview is to be looked at, whatever lies in the table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import IcebergType, NestedField, StructType

from airberg.columns.encryption import ColumnEncryption
from airberg.columns.noted import ColumnHashing, ColumnMask, NotedProtection, noted_columns
from airberg.lake.catalog import catalog_errors
from airberg.lake.layout import partition_texts, sort_texts
from airberg.lake.note import PREFIX
from airberg.lake.past import rows_of
from airberg.lake.read import first_rows
from airberg.lake.schema import type_text
from airberg.sync.job_tables import ShownColumn, ShownSnapshot, ShownTable

MAX_TEXT = 200
"""Characters of a value; the rest is cut."""
MAX_ITEMS = 20
"""Items of a list."""
MAX_COLUMNS = 200
"""Columns of a previewed row."""
MAX_LEVELS = 5
"""Levels of nesting."""
ENCRYPTED = "<encrypted>"


def shown_table(table: Table, *, snapshots: int, preview: int) -> ShownTable:
    """What a table is now.

    Args:
        table: The table.
        snapshots: How many of the newest snapshots are listed.
        preview: How many rows are shown; 0: none.

    Raises:
        ConfigurationFailed, TransientFailed: Its storage refused or failed.
    """
    metadata, properties = table.metadata, table.properties
    protection = noted_columns(properties)
    facts = _facts(table.current_snapshot())
    newest = sorted(metadata.snapshots, key=lambda s: (s.timestamp_ms, s.sequence_number or 0), reverse=True)
    schema = table.schema()
    return ShownTable(
        table=".".join(table.name()),
        location=table.location(),
        format_version=metadata.format_version,
        columns=tuple(_columns(schema.fields, protection)),
        partition_by=tuple(partition_texts(table)),
        sort_by=tuple(sort_texts(table)),
        identifier=tuple(sorted(schema.identifier_field_names())),
        rows=rows_of(table.current_snapshot()),
        bytes=int(facts.get("total-files-size", 0)),
        data_files=int(facts.get("total-data-files", 0)),
        delete_files=int(facts.get("total-delete-files", 0)),
        owner=properties.get("owner"),
        comment=properties.get("comment"),
        jobs=tuple(sorted(name.removeprefix(PREFIX) for name in properties if name.startswith(PREFIX))),
        snapshots=tuple(_snapshot(s, metadata.current_snapshot_id) for s in newest[:snapshots]),
        snapshot_count=len(newest),
        preview=tuple(_preview(table, preview, protection)) if preview else None,
    )


def _columns(
    fields: Sequence[NestedField], protection: Mapping[str, NotedProtection], parent: str = ""
) -> Iterator[ShownColumn]:
    """All columns, and the fields of structs behind the struct."""
    for field in fields:
        name = f"{parent}{field.name}"
        noted = protection.get(name)
        yield ShownColumn(
            name=name,
            type=type_text(field.field_type),
            required=field.required,
            doc=field.doc,
            protection=_how(noted),
            key=noted.key if isinstance(noted, ColumnEncryption | ColumnHashing) else None,
            plain_type=noted.type if noted is not None else None,
        )
        if isinstance(field.field_type, StructType):
            yield from _columns(field.field_type.fields, protection, f"{name}.")


def _how(noted: NotedProtection | None) -> str | None:
    match noted:
        case ColumnEncryption():
            return "encrypted"
        case ColumnHashing():
            return "hashed"
        case ColumnMask():
            return "masked"
    return None


def _facts(snapshot: Snapshot | None) -> Mapping[str, str]:
    return snapshot.summary.additional_properties if snapshot and snapshot.summary else {}


def _snapshot(snapshot: Snapshot, current: int | None) -> ShownSnapshot:
    facts = _facts(snapshot)
    checkpoint = facts.get("airberg.checkpoint", "")
    return ShownSnapshot(
        snapshot_id=snapshot.snapshot_id,
        parent_id=snapshot.parent_snapshot_id,
        at_ms=snapshot.timestamp_ms,
        operation=snapshot.summary.operation.value if snapshot.summary else "",
        rows_added=int(facts.get("added-records", 0)),
        rows_deleted=int(facts.get("deleted-records", 0)) + int(facts.get("added-position-deletes", 0)),
        rows_total=rows_of(snapshot),
        current=snapshot.snapshot_id == current,
        job_id=facts.get("airberg.job-id"),
        flow_run_id=facts.get("airberg.run-id"),
        checkpoint=int(checkpoint) if checkpoint.isdecimal() else None,
        act=facts.get("airberg.act"),
        upkeep=facts.get("airberg.upkeep"),
    )


# ---- rows --------------------------------------------------------------------------------------------------


def _preview(table: Table, rows: int, protection: Mapping[str, NotedProtection]) -> Iterator[dict[str, Any]]:
    encrypted = {name for name, noted in protection.items() if isinstance(noted, ColumnEncryption)}
    fields = table.schema().fields[:MAX_COLUMNS]
    with catalog_errors(f"reading the table {'.'.join(table.name())}"):
        found = first_rows(table, rows, columns=[field.name for field in fields])
    for row in found:
        yield {f.name: _shown(row[f.name], f.field_type, f.name, encrypted, MAX_LEVELS) for f in fields}


def _shown(value: Any, type_: IcebergType, path: str, encrypted: set[str], levels: int) -> Any:  # noqa: ANN401
    """A value of a column as JSON can have it."""
    if value is None:
        return None
    if path in encrypted:
        return ENCRYPTED
    if isinstance(type_, StructType) and isinstance(value, Mapping) and levels > 1:
        return {
            f.name: _shown(value.get(f.name), f.field_type, f"{path}.{f.name}", encrypted, levels - 1)
            for f in type_.fields[:MAX_COLUMNS]
        }
    return _plain(value, levels)


def _plain(value: Any, levels: int) -> Any:  # noqa: ANN401 - whatever a table has
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes():
            return f"<binary {len(value)} bytes>"
        case Decimal():
            return format(value, "f")
        case str():
            return value if len(value) <= MAX_TEXT else value[:MAX_TEXT] + "…"
        case Mapping() if levels > 1:
            items = list(value.items())[:MAX_ITEMS]
            return {str(k)[:MAX_TEXT]: _plain(v, levels - 1) for k, v in items}
        case list() | tuple() if levels > 1:
            items = [_plain(item, levels - 1) for item in value[:MAX_ITEMS]]
            return [*items, "…"] if len(value) > MAX_ITEMS else items
        case Mapping() | list() | tuple():
            return "…"
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return text[:MAX_TEXT]
