"""Which tables there are: read from PostgreSQL's own catalog, and shown as an AirbyteCatalog."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from source_postgres_lite.columns import Column

_COLUMNS = """
WITH RECURSIVE behind (type, base, modifier) AS (
    SELECT oid, oid, NULL::int FROM pg_catalog.pg_type
    UNION ALL
    SELECT behind.type, t.typbasetype, coalesce(nullif(t.typtypmod, -1), behind.modifier)
    FROM behind JOIN pg_catalog.pg_type t ON t.oid = behind.base AND t.typtype = 'd'
), resolved AS (  -- each type without the domains around it
    SELECT behind.type, behind.modifier, t.oid, t.typname, t.typelem, t.typtype, t.typcategory, t.typnamespace
    FROM behind JOIN pg_catalog.pg_type t ON t.oid = behind.base AND t.typtype <> 'd'
)
SELECT n.nspname, c.relname, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
    CASE WHEN e.typnamespace = 'pg_catalog'::regnamespace THEN e.typname ELSE '' END,
    coalesce(nullif(a.atttypmod, -1), b.modifier, e.modifier, -1),
    b.typcategory = 'A', a.attndims, a.attnotnull,
    CASE WHEN e.typtype = 'e' THEN ARRAY(
        SELECT enumlabel::text FROM pg_catalog.pg_enum WHERE enumtypid = e.oid ORDER BY enumsortorder
    ) END,
    pg_catalog.col_description(c.oid, a.attnum),
    coalesce(array_position(p.indkey::int2[], a.attnum), -1), coalesce(p.indnkeyatts, 0)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN resolved b ON b.type = a.atttypid
JOIN resolved e ON e.type = CASE WHEN b.typcategory = 'A' THEN b.typelem ELSE b.oid END
LEFT JOIN pg_catalog.pg_index p ON p.indrelid = c.oid AND p.indisprimary
WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
    AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
    AND pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')
ORDER BY n.nspname, c.relname, a.attnum
"""
"""One row a column that we may read. Partitions are left out: the table they belong to has their rows."""


@dataclass(frozen=True)
class Table:
    """A table or view.

    Attributes:
        key: Names of the columns of the primary key, in its order; empty where there is none, or where
            a part of it may not be read.
    """

    namespace: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    def column(self, name: str) -> Column | None:
        """The column of that name."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def keyset(self) -> tuple[Column, ...]:
        """The columns of the key when rows can be taken up again behind one, else nothing."""
        columns = tuple(c for name in self.key for c in self.columns if c.name == name)
        return columns if all(c.ordered for c in columns) else ()

    def stream(self, cursor_columns: tuple[str, ...]) -> dict[str, Any]:
        """The AirbyteStream.

        Args:
            cursor_columns: Names; the first that can be a cursor is the default.
        """
        cursors = [c.name for c in self.columns if c.cursor]
        default = [name for name in cursor_columns if name in cursors][:1]
        return {
            "name": self.name,
            "namespace": self.namespace,
            "json_schema": {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "type": "object",
                "properties": {c.name: c.json_schema() for c in self.columns},
            },
            "supported_sync_modes": ["full_refresh", *(["incremental"] if cursors else [])],
            "source_defined_cursor": False,
            "default_cursor_field": default,
            "source_defined_primary_key": [[name] for name in self.key],
            "is_resumable": bool(self.keyset),
        }


def readable_tables(connection: psycopg.Connection[tuple[Any, ...]], schemas: tuple[str, ...]) -> list[Table]:
    """The tables and views that this user may read, by schema and name."""
    found: dict[tuple[str, str], tuple[list[Column], dict[int, str], int]] = {}
    rows = connection.execute(_COLUMNS, [list(schemas)])
    for namespace, name, *described, place, key_length in rows:
        columns, key, _ = found.setdefault((namespace, name), ([], {}, key_length))
        column = _column(*described)
        columns.append(column)
        if 0 <= place < key_length:  # behind them are those that the index only includes
            key[place] = column.name
    return [
        Table(namespace, name, tuple(columns), _whole(key, key_length))
        for (namespace, name), (columns, key, key_length) in found.items()
    ]


def _column(
    name: str,
    declared: str,
    base: str,
    modifier: int,
    array: bool,
    dimensions: int,
    not_null: bool,
    labels: list[str] | None,
    comment: str | None,
) -> Column:
    labels_ = tuple(labels or ())
    return Column(name, declared, base, modifier, array, dimensions, not_null, labels_, comment)


def _whole(key: dict[int, str], length: int) -> tuple[str, ...]:
    return tuple(key[place] for place in sorted(key)) if len(key) == length else ()
