"""The keys of a checkpoint: which row wins, which rows of the table it replaces.

Only keys, cursor, the deleted flag and row numbers are kept here, in the `KeyMemory` of the run. Keys compare
as `IS NOT DISTINCT FROM` does: nulls equal each other, NaN equals NaN.
"""

# ruff: noqa: S608 - the SQL is put together from column names of this module and from integers

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from airberg.errors import TransientFailed
from airberg.lake.keybounds import Division, KeyBounds, by_extent
from airberg.lake.keymemory import KeyConnection, KeyMemory, Registered

_BUFFERED_ROWS = 100_000
_CHANGES = "NOT newer AND NOT dropped"
_GOES = "NOT newer AND NOT same"
"""Of a row in `hits`: its winner takes its place, or deletes it."""


@dataclass(frozen=True, slots=True)
class KeyRows:
    """Keys (one array per key column), cursor and deleted flag of some rows."""

    keys: tuple[pa.Array, ...]
    cursor: pa.Array | None

    def columns(self) -> dict[str, pa.Array]:
        """The arrays under the names that the index gives them."""
        named = {f"k{i}": key for i, key in enumerate(self.keys)}
        return named if self.cursor is None else {**named, "c": self.cursor}

    def take(self, indexes: pa.Array) -> KeyRows:
        """Some of the rows."""
        cursor = None if self.cursor is None else self.cursor.take(indexes)
        return KeyRows(tuple(key.take(indexes) for key in self.keys), cursor)


class KeyIndex:
    """Index of the rows of the checkpoints of one run.

    Args:
        key_types: Arrow types of the key columns.
        cursor_type: Arrow type of the cursor, or None.
        memory: Where it is kept.
        settled_rows: How many rows to look for winners in at once; the rest waits on disk.
    """

    def __init__(
        self,
        key_types: tuple[pa.DataType, ...],
        cursor_type: pa.DataType | None,
        memory: KeyMemory,
        *,
        settled_rows: int = 4_000_000,
    ) -> None:
        self._key_types = key_types
        self._has_cursor = cursor_type is not None
        self._settled_rows = settled_rows
        self._memory = memory
        self._connection: KeyConnection | None = None
        fields = [pa.field(f"k{i}", type_) for i, type_ in enumerate(key_types)]
        if cursor_type is not None:
            fields.append(pa.field("c", cursor_type))
        self._columns = ", ".join(field.name for field in fields)
        self._key_schema = pa.schema(fields)
        self._row_schema = pa.schema([*fields, pa.field("d", pa.bool_()), pa.field("seq", pa.int64())])
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._end = 0
        self._has_nulls = [False] * len(key_types)
        self._has_staged = False
        self._winners_are: str | None = None  # a VIEW or a TABLE
        self._kept_sql: str | None = None  # of the open range, until it is a table

    @property
    def _db(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            self._connection = self._memory.connection()
        return self._connection.db

    # ---- staging -----------------------------------------------------------------------------------------

    def add(self, rows: KeyRows, deleted: pa.Array, first: int) -> None:
        """Take the keys of staged rows; `first` is the number of the first one."""
        sequence = pa.arange(first, first + len(deleted))
        arrays = [*rows.columns().values(), deleted, sequence]
        self._end = first + len(deleted)
        self._has_nulls = [
            seen or key.null_count > 0 for seen, key in zip(self._has_nulls, rows.keys, strict=True)
        ]
        self._waiting.append(pa.RecordBatch.from_arrays(arrays, schema=self._row_schema))
        self._waiting_rows += len(deleted)
        if self._waiting_rows >= _BUFFERED_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._stage(pa.Table.from_batches(self._waiting))
        self._waiting, self._waiting_rows = [], 0

    def _stage(self, arrived: pa.Table) -> None:
        verb = "INSERT INTO staged" if self._has_staged else "CREATE TABLE staged AS"
        with Registered(self._db, "arrived", arrived):
            self._execute(f"{verb} SELECT * FROM arrived")
        self._has_staged = True

    def forget(self, until: int) -> None:
        """Drop the rows before number `until`."""
        if until >= self._end:
            self._waiting, self._waiting_rows = [], 0
            self._has_nulls = [False] * len(self._key_types)
            self._leave()
            return
        self._flush()
        self._drop_winners()
        # New tables: deleting from one of DuckDB's does not give its memory back.
        self._execute(f"CREATE TABLE rest AS SELECT * FROM staged WHERE seq >= {int(until)}")
        self._execute("DROP TABLE staged")
        self._execute("ALTER TABLE rest RENAME TO staged")
        for name in ("hits", "removed", "kept"):
            self._execute(f"DROP TABLE IF EXISTS {name}")

    def close(self) -> None:
        """Free the memory; may be called twice."""
        self._waiting, self._waiting_rows = [], 0
        self._leave()

    def _leave(self) -> None:
        """Drop everything in the database, which is all that gives its memory back."""
        self._has_staged, self._winners_are, self._kept_sql = False, None, None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # ---- one checkpoint ----------------------------------------------------------------------------------

    def settle(self, until: int, *, distinct: bool = False) -> int:
        """Find the winner of each key among the rows before number `until`; how many keys there are.

        The highest cursor wins, null being the lowest; then the latest arrival.

        Args:
            until: Number of the first row that does not count.
            distinct: No two rows have the same key.
        """
        self._flush()
        if not self._has_staged:
            self._stage(self._row_schema.empty_table())
        # dropped: the winner deletes its key; newer: the row is newer; same: it has the winner's values.
        self._execute(
            "CREATE OR REPLACE TABLE hits"
            "(file BIGINT, pos BIGINT, seq BIGINT, dropped BOOLEAN, newer BOOLEAN, same BOOLEAN)"
        )
        self._drop_winners()
        covered = f"seq < {int(until)}"
        if distinct:
            self._execute(f"CREATE VIEW winners AS SELECT * FROM staged WHERE {covered}")
            self._winners_are = "VIEW"
            return self._number("SELECT count(*) FROM winners")
        verb, self._winners_are = "CREATE OR REPLACE TABLE winners AS", "TABLE"
        order = "c DESC NULLS LAST, seq DESC" if self._has_cursor else "seq DESC"
        keys = ", ".join(f"k{i}" for i in range(len(self._key_types)))
        rows = self._number(f"SELECT count(*) FROM staged WHERE {covered}")
        parts = max(1, -(-rows // self._settled_rows))
        found = 0
        for part in range(parts):
            found += self._number(
                f"{verb} SELECT {self._columns}, d, seq FROM staged "
                f"WHERE {covered} AND hash({keys}) % {parts} = {part} "
                f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {order}) = 1"
            )
            verb = "INSERT INTO winners"
        return found

    def _drop_winners(self) -> None:
        if self._winners_are is not None:
            self._execute(f"DROP {self._winners_are} IF EXISTS winners")
        self._winners_are = None

    def place(self, placement: Iterable[tuple[int, pa.Array]]) -> None:
        """From now on a winner goes by its place in the staged files, not by its number.

        Args:
            placement: The place of a row and the numbers of the rows from there on, for all settled rows.
        """
        fields = [pa.field("seq", pa.int64()), pa.field("place", pa.int64())]
        with Registered(self._db, "rows", pa.schema(fields).empty_table()):
            self._execute("CREATE OR REPLACE TABLE places AS SELECT * FROM rows")
        for arrived in _in_portions(placement, pa.schema(fields)):
            with Registered(self._db, "arrived", arrived):
                self._execute("INSERT INTO places SELECT * FROM arrived")
        self._execute(
            f"CREATE OR REPLACE TABLE placed AS SELECT {self._columns}, d, p.place AS seq "
            "FROM places p JOIN winners w ON p.seq = w.seq"
        )
        self._execute("DROP TABLE places")
        self._drop_winners()
        self._execute("ALTER TABLE placed RENAME TO winners")
        self._winners_are = "TABLE"

    def candidates(self, files: list[tuple[KeyBounds, ...]]) -> list[int]:
        """Indexes of the files whose statistics do not rule out that they hold a winner's key."""
        possible = set(range(len(files)))
        for column, type_ in enumerate(self._key_types):
            if not possible:
                break
            possible &= self._possible(column, type_, [bounds[column] for bounds in files])
        return sorted(possible)

    def _possible(self, column: int, type_: pa.DataType, bounds: list[KeyBounds]) -> set[int]:
        key = f"k{column}"
        has_nulls = self._has_nulls[column] and bool(
            self._number(f"SELECT count(*) FROM winners WHERE {key} IS NULL")
        )
        # Bounds leave NaN out (specification, data_file fields 125 and 128).
        if pa.types.is_floating(type_) and self._number(f"SELECT count(*) FROM winners WHERE isnan({key})"):
            return set(range(len(bounds)))
        possible, between = self._by_extent(key, type_, bounds)
        if between:
            possible |= self._by_keys(key, type_, bounds, between)
        for index, known in enumerate(bounds):
            unknown = known.values and (known.low is None or known.high is None)
            if unknown or (known.nulls and has_nulls):
                possible.add(index)
        return possible

    def _by_extent(self, key: str, type_: pa.DataType, bounds: list[KeyBounds]) -> Division:
        ends = self._execute(f"SELECT min({key}), max({key}) FROM winners").to_arrow_table()
        return by_extent(bounds, type_, *(column[0] for column in ends.columns))

    def _by_keys(self, key: str, type_: pa.DataType, bounds: list[KeyBounds], files: list[int]) -> set[int]:
        """Those of some files that have a key within their bounds."""
        table = pa.table(
            {
                "file": pa.array(files, pa.int64()),
                "low": pa.array([bounds[i].low for i in files], type_),
                "high": pa.array([bounds[i].high for i in files], type_),
            }
        )
        with Registered(self._db, "bounds", table):
            # For each file the smallest key that is not below its lower bound.
            inside = self._execute(
                f"SELECT b.file FROM bounds b ASOF JOIN "
                f"(SELECT DISTINCT {key} AS k FROM winners WHERE {key} IS NOT NULL) w ON b.low <= w.k "
                "WHERE w.k <= b.high"
            ).fetchall()
        return {int(row[0]) for row in inside}

    def distinct(self, column: int, transform: Callable[[pa.Array], pa.Array], most: int) -> set[Any] | None:
        """What a transform makes of the winners' keys in one key column; None when there is too much of it.

        Args:
            column: Index of the key column.
            transform: Of an array; its results go into a set.
            most: More than so many results are too much.
        """
        found: set[Any] = set()
        reader = self._execute(f"SELECT DISTINCT k{column} FROM winners").to_arrow_reader(_BUFFERED_ROWS)
        type_ = self._key_types[column]
        for batch in reader:
            found.update(pc.unique(transform(batch.column(0).cast(type_))).to_pylist())
            if len(found) > most:
                return None
        return found

    def match(self, rows: Iterable[tuple[int, pa.Array, KeyRows]]) -> None:
        """Find the rows of the table that have a winner's key, beside those that were found before.

        Args:
            rows: File number, positions and keys of rows of the table, in any order.
        """
        schema = pa.schema([("file", pa.int64()), ("pos", pa.int64()), *self._key_schema])
        source = _Source(rows, schema)
        reader = pa.RecordBatchReader.from_batches(schema, source.batches())
        same = " AND ".join(f"f.k{i} IS NOT DISTINCT FROM w.k{i}" for i in range(len(self._key_types)))
        newer = "f.c IS NOT NULL AND (w.c IS NULL OR f.c > w.c)" if self._has_cursor else "false"
        with Registered(self._db, "present", reader):
            try:
                self._execute(
                    f"INSERT INTO hits SELECT f.file, f.pos, w.seq, w.d, {newer}, false "
                    f"FROM present f JOIN winners w ON {same}"
                )
            except (duckdb.Error, TransientFailed):
                if source.error is not None:
                    raise source.error from None
                raise

    def forget_files(self, files: Collection[int]) -> None:
        """Forget what was found in some files, which have changed or are gone."""
        if files:
            numbers = ", ".join(str(int(file)) for file in files)
            self._execute(f"DELETE FROM hits WHERE file IN ({numbers})")

    # ---- rows that are the same --------------------------------------------------------------------------

    def updated(self) -> Iterator[tuple[int, pa.Array]]:
        """The files, and positions in them, ascending, of rows that a winner has another version of."""
        files = self._execute(f"SELECT DISTINCT file FROM hits WHERE {_CHANGES} ORDER BY file").fetchall()
        for (file,) in files:
            yield (
                int(file),
                self._positions(f"SELECT pos FROM hits WHERE file = {int(file)} AND {_CHANGES} ORDER BY pos"),
            )

    def compare(
        self,
        present: Iterable[tuple[int, pa.Array, pa.RecordBatch]],
        staged: Iterable[tuple[int, pa.RecordBatch]],
    ) -> int:
        """Find the winners that say what the table already has: they are not kept, nor is anything removed.

        Args:
            present: File number, positions and values of the rows of `updated`.
            staged: Number of the first row, and values, of staged rows, in the same columns.

        Returns:
            Number of rows of the table that stay because of it.
        """
        self._execute("UPDATE hits SET same = false WHERE same")
        self._execute("DROP TABLE IF EXISTS present_rows")
        for file, positions, batch in present:
            arrays = [pa.repeat(pa.scalar(file, pa.int64()), len(positions)), positions, *batch.columns]
            names = ["file", "pos", *(f"v{i}" for i in range(batch.num_columns))]
            self._insert("present_rows", pa.Table.from_arrays(arrays, names=names))
        if not self._exists("present_rows"):
            return 0
        self._execute(
            "CREATE OR REPLACE TABLE compared AS "
            "SELECT h.seq, p.* FROM present_rows p JOIN hits h ON p.file = h.file AND p.pos = h.pos"
        )
        self._execute("DROP TABLE present_rows")
        self._execute("CREATE OR REPLACE TABLE alike(file BIGINT, pos BIGINT, seq BIGINT)")
        for first, batch in staged:
            self._find_alike(first, batch)
        self._execute("DROP TABLE compared")
        # Of several equal rows one stays: the others were doubled in the table and go.
        self._execute(
            "UPDATE hits SET same = true "
            "FROM (SELECT seq, min((file, pos)) AS stays FROM alike GROUP BY seq) a "
            "WHERE hits.seq = a.seq AND (hits.file, hits.pos) = a.stays"
        )
        self._execute("DROP TABLE alike")
        return self._number("SELECT count(*) FROM hits WHERE same")

    def _find_alike(self, first: int, batch: pa.RecordBatch) -> None:
        names = [f"v{i}" for i in range(batch.num_columns)]
        sequence = pa.arange(first, first + batch.num_rows)
        rows = pa.Table.from_arrays([sequence, *batch.columns], names=["seq", *names])
        equal = " AND ".join(f"c.{name} IS NOT DISTINCT FROM s.{name}" for name in names) or "true"
        with Registered(self._db, "arrived", rows):
            self._execute(
                "INSERT INTO alike SELECT c.file, c.pos, c.seq FROM arrived s "
                f"JOIN compared c ON s.seq = c.seq WHERE {equal}"
            )

    def _insert(self, table: str, rows: pa.Table) -> None:
        with Registered(self._db, "arrived", rows):
            verb = "INSERT INTO" if self._exists(table) else "CREATE TABLE"
            self._execute(f"{verb} {table} {'' if verb.startswith('INSERT') else 'AS '}SELECT * FROM arrived")

    def _exists(self, table: str) -> bool:
        assert self._connection is not None  # noqa: S101 - for the type checker
        return bool(
            self._number(
                "SELECT count(*) FROM duckdb_tables() "
                f"WHERE schema_name = '{self._connection.schema}' AND table_name = '{table}'"
            )
        )

    # ---- what becomes of files ---------------------------------------------------------------------------

    def removed_counts(self) -> dict[int, int]:
        """How many rows go, for each file that loses any."""
        rows = self._execute(f"SELECT file, count(*) FROM hits WHERE {_GOES} GROUP BY file").fetchall()
        return {int(file): int(count) for file, count in rows}

    def removed_from(self, file: int) -> pa.Array:
        """Positions, ascending, that go from a file."""
        found = self._positions(f"SELECT pos FROM hits WHERE file = {int(file)} AND {_GOES}")
        return found.take(pc.array_sort_indices(found))

    def open_removed(self, file: int) -> None:
        """Prepare `removed` for one file."""
        self._execute(
            "CREATE OR REPLACE TABLE removed AS "
            f"SELECT pos FROM hits WHERE file = {int(file)} AND {_GOES} ORDER BY pos"
        )

    def removed(self, first: int, end: int) -> pa.Array:
        """Positions that go, of the open file, from `first` up to, not including, `end`."""
        return self._positions(f"SELECT pos FROM removed WHERE pos >= {int(first)} AND pos < {int(end)}")

    def open_kept(self, first: int, end: int) -> int:
        """Prepare `kept` for the staged rows from number `first` up to `end`; how many of them are kept.

        A range at a time, because sorting all of them may need more memory than there is.
        """
        self._kept_sql = (
            "SELECT w.seq FROM "
            f"(SELECT seq FROM winners WHERE NOT d AND seq >= {int(first)} AND seq < {int(end)}) w "
            "ANTI JOIN (SELECT seq FROM hits WHERE newer OR same) h ON w.seq = h.seq"
        )
        return self._number(f"SELECT count(*) FROM ({self._kept_sql})")

    def _make_kept(self) -> None:
        """Where all rows of a range are kept, as they mostly are, nobody asks which."""
        if self._kept_sql is not None:
            self._execute(f"CREATE OR REPLACE TABLE kept AS {self._kept_sql} ORDER BY seq")
            self._kept_sql = None

    def kept(self, first: int, end: int) -> pa.Array:
        """Numbers of the staged rows that go into the table, of the open range, in order."""
        self._make_kept()
        return self._positions(
            f"SELECT seq FROM kept WHERE seq >= {int(first)} AND seq < {int(end)} ORDER BY seq"
        )

    def lost(self, first: int, end: int) -> pa.Array:
        """Those of the open range that do not go into the table, in order."""
        self._make_kept()
        return self._positions(
            f"SELECT n.seq FROM (SELECT range AS seq FROM range({int(first)}, {int(end)})) n "
            "ANTI JOIN kept k ON n.seq = k.seq ORDER BY n.seq"
        )

    # ---- DuckDB ------------------------------------------------------------------------------------------

    def _execute(self, sql: str) -> duckdb.DuckDBPyConnection:
        try:
            return self._db.execute(sql)
        # A commit that finds no memory is a transaction error; there is no other in a private database.
        except (duckdb.OutOfMemoryException, duckdb.IOException, duckdb.TransactionException) as error:
            raise TransientFailed(
                f"The keys of a merge need more memory or temporary space: {str(error).splitlines()[0]}",
                guidance="Commit more often (AIRBERG_SYNC__CHECKPOINT_BYTES), or free disk space.",
                code="merge-out-of-memory",
            ) from None

    def _number(self, sql: str) -> int:
        row = self._execute(sql).fetchone()
        return int(row[0]) if row else 0

    def _positions(self, sql: str) -> pa.Array:
        column = self._execute(sql).to_arrow_table().column(0)
        return pc.cast(column.combine_chunks(), pa.int64())


def _in_portions(placement: Iterable[tuple[int, pa.Array]], schema: pa.Schema) -> Iterator[pa.Table]:
    """Numbers and places in tables of some size: files may be many and small."""
    waiting, rows = [], 0
    for place, numbers in placement:
        places = pa.arange(place, place + len(numbers))
        waiting.append(pa.RecordBatch.from_arrays([numbers, places], schema=schema))
        rows += len(numbers)
        if rows >= _BUFFERED_ROWS:
            yield pa.Table.from_batches(waiting)
            waiting, rows = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)


class _Source:
    """Rows of the table as a stream for DuckDB, which would turn an error in it into one of its own."""

    def __init__(self, rows: Iterable[tuple[int, pa.Array, KeyRows]], schema: pa.Schema) -> None:
        self._rows = rows
        self._schema = schema
        self.error: BaseException | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The batches; an error is kept."""
        try:
            for file, positions, keys in self._rows:
                files = pa.repeat(pa.scalar(file, pa.int64()), len(positions))
                arrays = [files, positions, *keys.columns().values()]
                yield pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        except BaseException as error:
            self.error = error
            raise
