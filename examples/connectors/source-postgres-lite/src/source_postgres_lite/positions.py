"""How far a stream has been read, as the state that a platform keeps and gives back.

Rows come in the order of the cursor and, among the same cursor, of the primary key. A state names the last
row, and how many rows of the same cursor there were up to it. When there are as many of them the next time,
reading goes on behind that row; when not, another one came among them, and all rows of that cursor are read
again. So no row is lost that was committed late with the cursor that was read last, and in the usual case
none comes twice. (A row whose cursor is *less* is not seen: take a cursor that grows with the commits.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from source_postgres_lite.columns import Column
from source_postgres_lite.messages import SourceFailed
from source_postgres_lite.tables import Table

VERSION = 1
COMPLETE = "__ab_full_refresh_sync_complete"
"""What Airbyte's own sources say of a full refresh that came to its end."""
_LAST = {"date": {"infinity"}, "numeric": {"Infinity", "NaN"}}
_LAST |= {"timestamp": _LAST["date"], "timestamptz": _LAST["date"]}

ROWS = sql.Identifier("t")


@dataclass(frozen=True)
class Position:
    """Behind a row.

    Attributes:
        cursor: Text of its cursor; None in a full refresh, and before the first row.
        key: Texts of its primary key; None where the table has none that can be compared.
        ties: Rows of the same cursor up to this one.
        complete: The full refresh came to its end.
    """

    cursor: str | None = None
    key: tuple[str, ...] | None = None
    ties: int = 0
    complete: bool = False

    @property
    def begun(self) -> bool:
        """Whether there is a row to be behind."""
        return self.cursor is not None or self.key is not None

    def behind(self, cursor: str | None, key: tuple[str, ...] | None) -> Position:
        """The position behind the next row."""
        return Position(cursor, key, self.ties + 1 if cursor == self.cursor else 1)


@dataclass(frozen=True)
class Order:
    """In which order a stream is read, and from where.

    Attributes:
        table: The table.
        cursor: Its cursor; None in a full refresh.
    """

    table: Table
    cursor: Column | None

    @property
    def columns(self) -> tuple[Column, ...]:
        """What rows are sorted by; nothing when they come as they lie."""
        return (*([self.cursor] if self.cursor else []), *self._key_columns())

    def state(self, position: Position) -> dict[str, Any]:
        """A position as state."""
        if position.complete:
            return {COMPLETE: True}
        state: dict[str, Any] = {"version": VERSION}
        if self.cursor:
            state |= {"cursor_field": self.cursor.name, "cursor": position.cursor, "ties": position.ties}
        if position.key is not None:
            state["key"] = dict(zip(self._key_names(), position.key, strict=True))
        return state

    def position(self, state: dict[str, Any] | None) -> Position | None:
        """The position that a state names; None when it says nothing of this order (another cursor or key).

        Raises:
            SourceFailed: It was written by another program.
        """
        if not state:
            return Position()
        if state.get(COMPLETE) is True and self.cursor is None:
            return Position(complete=True)
        if state.get("version") != VERSION:
            raise SourceFailed("The state is not one of this connector.", "config_error", str(state)[:200])
        if state.get("cursor_field") != (self.cursor.name if self.cursor else None):
            return None
        key = state.get("key")
        if key is not None and list(key) != self._key_names():
            return None
        return Position(
            state.get("cursor"), None if key is None else tuple(key.values()), state.get("ties", 0)
        )

    def is_last(self, cursor: str | None) -> bool:
        """Whether nothing can come behind a cursor. No state stops there: nothing new would ever be read."""
        return self.cursor is not None and cursor in _LAST.get(self.cursor.base, ())

    def from_here(
        self, connection: psycopg.Connection[tuple[Any, ...]], position: Position
    ) -> tuple[sql.Composable, Position]:
        """The condition for what was not read yet, and the position to count on from."""
        if not position.begun:
            return sql.SQL("true"), position
        key = list(zip(self._key_columns(), position.key or (), strict=False))
        if self.cursor is None:
            return _compare(key, ">"), position
        cursor = [(self.cursor, str(position.cursor))]
        up_to = sql.SQL("{} AND {}").format(_compare(cursor, "="), _compare(cursor + key, "<="))
        query = sql.SQL("SELECT count(*) FROM {} AS {} WHERE {}").format(relation(self.table), ROWS, up_to)
        if connection.execute(query).fetchone() == (position.ties,):
            return _compare(cursor + key, ">"), position
        return _compare(cursor, ">="), replace(position, ties=0, key=None)

    def _key_columns(self) -> list[Column]:
        return [c for c in self.table.keyset if c is not self.cursor]

    def _key_names(self) -> list[str]:
        return [c.name for c in self._key_columns()]


def relation(table: Table) -> sql.Composable:
    """Its name as SQL writes it."""
    return sql.Identifier(table.namespace, table.name)


def _compare(parts: list[tuple[Column, str]], how: str) -> sql.Composable:
    """Columns beside values, as one row: so an index of them is used."""
    left = sql.SQL(", ").join(sql.SQL("{}.{}").format(ROWS, sql.Identifier(c.name)) for c, _ in parts)
    right = sql.SQL(", ").join(
        sql.SQL("{}::{}").format(sql.Literal(text), sql.SQL(column.declared)) for column, text in parts
    )
    return sql.SQL("({}) {} ({})").format(left, sql.SQL(how), right)
