"""Tables in a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from pyiceberg.table import Table
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from airberg.columns.encryption import ColumnEncryption
from airberg.columns.noted import ColumnHashing, ColumnMask, noted_columns
from airberg.errors import NotFound
from airberg.lake.catalog import open_catalog
from airberg.lake.read import dictionaries, first_rows
from airberg.lake.tables import describe, find_table
from airberg.reader.columns import columns_to_decrypt
from airberg.reader.read import read_batches
from airberg.settings import Settings

CELL = 32
"""Longest text of a cell; the rest is cut."""
SEPARATOR = 3
"""Width of what stands between two columns."""


def print_table(
    settings: Settings,
    dotted: str,
    rows: int,
    console: Console | None = None,
    *,
    encryption: bool = False,
    decrypt: Sequence[str] = (),
) -> None:
    """Print a table's schema, row count, snapshots and first rows.

    Args:
        settings: Of the deployment; its `token` says who reads encrypted columns.
        dotted: Name of the table.
        rows: How many rows to print.
        console: Where to.
        encryption: Print how columns are encrypted, hashed and masked.
        decrypt: Encrypted columns that are shown decrypted, and first.

    Raises:
        NotFound: There is no such table.
        AirbergError: Any of `airberg.read_table`, when columns are decrypted.
    """
    console = console or Console()
    *namespace, name = dotted.split(".")
    table = find_table(open_catalog(settings), tuple(namespace), name)
    if table is None:
        raise NotFound(f"There is no table {dotted!r}.", guidance="Check the name: schema.table.")
    found = _first_rows(settings, table, rows, decrypt) if rows else []
    summary = describe(table)
    console.print(
        f"\n[bold]{escape(dotted)}[/]  {summary.row_count:,} rows, {len(summary.snapshots)} snapshot(s)"
    )
    console.print("  " + escape(", ".join(f"{n}: {_short(t)}" for n, t in summary.fields)), style="dim")
    for line in _protection(table) if encryption else ():
        console.print(f"  {escape(line)}", style="dim")
    for s in summary.snapshots[-5:]:
        at = datetime.fromtimestamp(s.timestamp_ms / 1000, UTC)
        console.print(
            f"  snapshot {s.snapshot_id}  {at:%Y-%m-%d %H:%M:%S}Z  {s.operation}  "
            f"+{s.added_records:,} -{s.deleted_records:,} = {s.total_records:,} rows"
        )
    if rows:
        _print_rows(console, found)
    console.print(f"  metadata: {escape(summary.metadata_location)}", style="dim", soft_wrap=True)


def _protection(table: Table) -> Iterator[str]:
    """A line for each way in which columns are protected."""
    said: dict[str, list[str]] = {"encrypted": [], "hashed": [], "masked": []}
    for name, noted in noted_columns(table.properties).items():
        match noted:
            case ColumnEncryption():
                said["encrypted"].append(f"{name} ({_short(noted.type)}, key {noted.key}, {noted.mode})")
            case ColumnHashing():
                said["hashed"].append(f"{name} ({_short(noted.type)}, key {noted.key})")
            case ColumnMask():
                said["masked"].append(f"{name} ({_short(noted.type)}, but for the last {noted.keep_last})")
    yield from (f"{how}: {', '.join(columns)}" for how, columns in said.items() if columns)


def _first_rows(
    settings: Settings, table: Table, rows: int, decrypt: Sequence[str]
) -> list[dict[str, object]]:
    if not decrypt:
        return first_rows(table, rows)
    batches = read_batches(".".join(table.name()), decrypt, limit=rows, settings=settings)
    found = [row for batch in batches for row in dictionaries(batch)]
    shown = {column.path[0]: None for column in columns_to_decrypt(table, decrypt)}
    return [{name: row[name] for name in shown | row} for row in found]


def _print_rows(console: Console, rows: list[dict[str, object]]) -> None:
    """The columns that the terminal has room for, and the names of the others."""
    if not rows:
        console.print("  (no rows)")
        return
    columns = {c: [_cell(row[c]) for row in rows] for c in rows[0] if not c.startswith("_airbyte_")}
    grid = Grid(show_edge=False, pad_edge=False, header_style="bold cyan")
    left = console.width
    hidden = []
    for column, cells in columns.items():
        left -= max(map(cell_len, [column, *cells])) + SEPARATOR
        if left < -SEPARATOR and grid.columns:
            hidden.append(column)
        else:
            grid.add_column(escape(column), no_wrap=True, overflow="ellipsis")
    shown = [cells for column, cells in columns.items() if column not in hidden]
    for row in zip(*shown, strict=True):
        grid.add_row(*map(escape, row))
    console.print(grid)
    if hidden:
        console.print(f"  not shown: {escape(', '.join(hidden))}", style="dim")


def _short(type_text: str) -> str:
    """A type without the inside of nested ones."""
    return re.sub(r"<.*>", "<…>", type_text)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"{value[:8].hex()}… ({len(value)} B)"
    text = value.isoformat(sep=" ", timespec="seconds") if isinstance(value, datetime) else str(value)
    return text if len(text) <= CELL else text[: CELL - 1] + "…"
