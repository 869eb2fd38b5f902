"""`read`: the rows of the chosen streams, all in one snapshot of the database, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql

from source_postgres_lite.columns import Column
from source_postgres_lite.configuration import Configuration
from source_postgres_lite.connecting import connected
from source_postgres_lite.messages import Messages, SourceFailed
from source_postgres_lite.positions import ROWS, Order, Position, relation
from source_postgres_lite.tables import Table, readable_tables

BATCH_BYTES = 2 * 1024 * 1024
_FIRST_BATCH_ROWS = 100
_LARGEST_BATCH_ROWS = 10_000

Row = tuple[str, "str | None", "list[str] | None"]
Connection = psycopg.Connection[tuple[Any, ...]]


def read(
    config: Configuration, catalog: dict[str, Any], states: list[dict[str, Any]], messages: Messages
) -> None:
    """Write the records and states of all streams of a ConfiguredAirbyteCatalog.

    Args:
        states: What `--state` has: AirbyteStateMessages, those of streams.

    Raises:
        SourceFailed: The streams before it are complete, that one is not.
    """
    known = {_key(s["stream"]["stream_descriptor"]): s["stream"].get("stream_state") for s in states}
    with connected(config) as connection:
        tables = {(t.namespace, t.name): t for t in readable_tables(connection, config.schemas)}
        for entry in catalog["streams"]:
            key = _key(entry["stream"])
            messages.status(*key, "STARTED")
            try:
                if key not in tables:
                    raise SourceFailed(f"There is no table {'.'.join(key)} that may be read.", "config_error")
                stream = _Stream(connection, entry, tables[key], config.checkpoint_rows, messages)
                stream.read(known.get(key))
            except BaseException:
                messages.status(*key, "INCOMPLETE")
                raise
            messages.status(*key, "COMPLETE")


def _key(descriptor: dict[str, Any]) -> tuple[str, str]:
    return descriptor.get("namespace") or "public", descriptor["name"]


class _Stream:
    """One stream of a read."""

    def __init__(
        self,
        connection: Connection,
        entry: dict[str, Any],
        table: Table,
        checkpoint_rows: int,
        messages: Messages,
    ) -> None:
        self._connection = connection
        self._table = table
        self._key = (table.namespace, table.name)
        self._checkpoint_rows = checkpoint_rows
        self._messages = messages
        chosen = entry["stream"].get("json_schema", {}).get("properties") or {}
        self._columns = [c for c in table.columns if not chosen or c.name in chosen]
        self._order = Order(table, _cursor(entry, table) if entry["sync_mode"] == "incremental" else None)
        self._uncovered = 0

    def read(self, state: dict[str, Any] | None) -> None:
        """All rows behind the state, with states among them."""
        position = self._order.position(state)
        if position is None:
            name = ".".join(self._key)
            self._messages.log(f"{name}: the cursor or key is another; it is read from the start", "WARN")
            position = Position()
        if not position.complete:
            where, position = self._order.from_here(self._connection, position)
            begun = False
            for batch in self._batches(where):
                if not begun:
                    self._messages.status(*self._key, "RUNNING")
                begun = True
                position = self._write(batch, position)
            if self._order.cursor is None:
                position = Position(complete=True)
        if position.begun or position.complete:
            self._checkpoint(position)

    def _write(self, batch: list[Row], position: Position) -> Position:
        """Write a batch, with a state wherever one is due. Without a key, one can be only between cursors."""
        rows: list[str] = []
        anywhere = bool(self._table.keyset)
        for row, cursor, key in batch:
            due = self._uncovered >= self._checkpoint_rows and position.begun
            if due and (anywhere or cursor != position.cursor):
                self._messages.records(*self._key, rows)
                rows = []
                self._checkpoint(position)
            # A line end can only be space within a value of type json: in texts it is escaped.
            rows.append(row.replace("\n", " ").replace("\r", " ") if "\n" in row or "\r" in row else row)
            self._uncovered += 1
            if not self._order.is_last(cursor):
                position = position.behind(cursor, tuple(key) if anywhere and key is not None else None)
        self._messages.records(*self._key, rows)
        return position

    def _checkpoint(self, position: Position) -> None:
        self._messages.state(*self._key, self._order.state(position), self._uncovered)
        self._uncovered = 0

    def _batches(self, where: sql.Composable) -> Iterator[list[Row]]:
        """The rows through a cursor of the server, as many at once as make about `BATCH_BYTES`."""
        size = _FIRST_BATCH_ROWS
        with self._connection.cursor(name="rows") as cursor:
            cursor.execute(self._query(where))
            while batch := cursor.fetchmany(size):
                yield batch
                average = sum(len(row[0]) for row in batch) // len(batch) + 1
                size = max(1, min(BATCH_BYTES // average, 2 * size, _LARGEST_BATCH_ROWS))

    def _query(self, where: sql.Composable) -> sql.Composed:
        """The row as JSON, the text of its cursor, the texts of its key."""
        order = self._order
        cursor = order.cursor
        keys = [_text(c) for c in order.columns if c is not cursor]
        members = [
            sql.SQL("{} AS {}").format(c.expression(ROWS), sql.Identifier(c.name)) for c in self._columns
        ]
        by = sql.SQL(", ").join(sql.SQL("{}.{}").format(ROWS, sql.Identifier(c.name)) for c in order.columns)
        return sql.SQL(
            "SELECT row_to_json(r)::text, {}, ARRAY[{}]::text[] "
            "FROM {} AS {} CROSS JOIN LATERAL (SELECT {}) AS r WHERE {} {}"
        ).format(
            _text(cursor) if cursor else sql.SQL("NULL"),
            sql.SQL(", ").join(keys),
            relation(self._table),
            ROWS,
            sql.SQL(", ").join(members),
            where,
            sql.SQL("ORDER BY {}").format(by) if order.columns else sql.SQL(""),
        )


def _text(column: Column) -> sql.Composable:
    return sql.SQL("{}.{}::text").format(ROWS, sql.Identifier(column.name))


def _cursor(entry: dict[str, Any], table: Table) -> Column:
    path = entry.get("cursor_field") or entry["stream"].get("default_cursor_field") or []
    name = f"{table.namespace}.{table.name}"
    if len(path) != 1:
        raise SourceFailed(f"{name} is to be read incrementally, but no cursor is chosen.", "config_error")
    column = table.column(path[0])
    if column is None or not column.cursor:
        raise SourceFailed(
            f"{path[0]!r} cannot be the cursor of {name}: it must be NOT NULL, and an exact number, a date, "
            "a timestamp, a text or a UUID.",
            "config_error",
        )
    return column
