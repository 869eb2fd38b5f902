"""A table as a plain dictionary: what merges and appends are compared with."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from support.key_values import same_key

Row = dict[str, Any]
Key = tuple[Any, ...]


@dataclass
class TableModel:
    """Rows by key. A list of rows, because others append without looking at keys.

    Attributes:
        key: Paths of the key columns.
        cursor: The column that orders versions, None for order of arrival.
        hard: Whether a row with a deletion mark takes its key out of the table.
        skip_unchanged: Whether a row that equals the one in the table leaves that one alone.
    """

    key: tuple[tuple[str, ...], ...]
    cursor: str | None
    hard: bool
    skip_unchanged: bool = False
    table: dict[Key, list[Row]] = field(default_factory=dict)

    def key_of(self, row: Row) -> Key:
        """The key of a row."""
        return tuple(same_key(value_at(row, path)) for path in self.key)

    def merge(self, sent: Iterable[Row]) -> bool:
        """Apply the rows of a checkpoint in the order of their arrival; whether the table is another one."""
        winners: dict[Key, Row] = {}
        for row in sent:
            best = winners.get(self.key_of(row))
            if best is None or not self._newer(best, row):
                winners[self.key_of(row)] = row
        changed = False
        for key, row in winners.items():
            changed |= self._apply(key, row)
        return changed

    def _apply(self, key: Key, row: Row) -> bool:
        present = self.table.get(key, [])
        newer = [other for other in present if self._newer(other, row)]
        deletes = self.hard and row["gone"] is not None
        if self.skip_unchanged and not deletes and as_shown(present) == as_shown([row]):
            return False
        rest = newer if newer or deletes else [row]
        self.table[key] = rest
        return len(newer) < len(present) or (not newer and not deletes)

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows, whatever their keys."""
        for row in rows:
            self.table.setdefault(self.key_of(row), []).append(row)

    def remove(self, row: Row) -> None:
        """Take one row out."""
        self.table[self.key_of(row)].remove(row)

    def add_column(self, name: str) -> None:
        """All rows get a column, with null."""
        for row in self.rows():
            row[name] = None

    def rows(self) -> list[Row]:
        """All rows."""
        return [row for rows in self.table.values() for row in rows]

    def _newer(self, a: Row, b: Row) -> bool:
        if self.cursor is None or a[self.cursor] is None:
            return False
        return b[self.cursor] is None or bool(a[self.cursor] > b[self.cursor])


def value_at(row: Row, path: Sequence[str]) -> Any:
    """A value by its path; a member of a null struct is null."""
    value: Any = row
    for name in path:
        value = None if value is None else value[name]
    return value


def as_shown(rows: Iterable[Row]) -> list[str]:
    """Rows in a form that compares: NaN is NaN, the zeros are two, an instant has no zone of its own."""
    return sorted(repr(_shown(row)) for row in rows)


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shown(value[name]) for name in sorted(value)}
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(datetime.UTC).isoformat()
    if isinstance(value, decimal.Decimal):  # 0.1 and 0.10 are one number
        return value.as_integer_ratio()
    return value
