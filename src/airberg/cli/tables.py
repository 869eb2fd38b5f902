"""Tables in a terminal."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from airberg.errors import NotFound
from airberg.lake.catalog import open_catalog
from airberg.lake.read import first_rows
from airberg.lake.tables import describe, find_table
from airberg.settings import Settings

CELL = 32
"""Longest text of a cell; the rest is cut."""


def print_table(settings: Settings, dotted: str, rows: int, console: Console | None = None) -> None:
    """Print a table's schema, row count, snapshots and first rows.

    Raises:
        NotFound: There is no such table.
    """
    console = console or Console()
    *namespace, name = dotted.split(".")
    table = find_table(open_catalog(settings), tuple(namespace), name)
    if table is None:
        raise NotFound(f"There is no table {dotted!r}.", guidance="Check the name: schema.table.")
    summary = describe(table)
    console.print(
        f"\n[bold]{escape(dotted)}[/]  {summary.row_count:,} rows, {len(summary.snapshots)} snapshot(s)"
    )
    console.print("  " + escape(", ".join(f"{n}: {t}" for n, t in summary.fields)), style="dim")
    for s in summary.snapshots[-5:]:
        at = datetime.fromtimestamp(s.timestamp_ms / 1000, UTC)
        console.print(
            f"  snapshot {s.snapshot_id}  {at:%Y-%m-%d %H:%M:%S}Z  {s.operation}  "
            f"+{s.added_records:,} -{s.deleted_records:,} = {s.total_records:,} rows"
        )
    if rows:
        console.print(_grid(first_rows(table, rows)))
    console.print(f"  metadata: {escape(summary.metadata_location)}", style="dim", soft_wrap=True)


def _grid(rows: list[dict[str, object]]) -> Grid | str:
    if not rows:
        return "  (no rows)"
    columns = [c for c in rows[0] if not c.startswith("_airbyte_")]
    grid = Grid(show_edge=False, pad_edge=False, header_style="bold cyan")
    for column in columns:
        grid.add_column(escape(column), no_wrap=True, overflow="ellipsis", max_width=CELL)
    for row in rows:
        grid.add_row(*(escape(_cell(row[c])) for c in columns))
    return grid


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes, {value[:5].hex()}…>"
    text = str(value)
    return text if len(text) <= CELL else text[: CELL - 1] + "…"
