"""The rows of a snapshot in batches of bounded size: deleted ones left out, columns decrypted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from airberg.columns.decrypted import original_array
from airberg.errors import ConfigurationFailed
from airberg.keys.arrays import decrypt_array
from airberg.lake.deletes import DeletedRows, deleted_positions, without
from airberg.lake.live import LiveFile, live_files
from airberg.lake.scan import BATCH_ROWS, OpenDataFile
from airberg.reader.access import OpenedKey
from airberg.reader.columns import EncryptedColumn, plain_schema
from airberg.reader.conditions import Condition

BATCH_BYTES = 8 * 1024 * 1024
"""How much of a file a batch is meant to hold, decoded; a row is never divided."""


@dataclass(frozen=True)
class Reading:
    """What is read of a table, as the table is now: rows that come later are not.

    Attributes:
        table: The table.
        names: Columns of the top level that are given, in the table's order.
        decrypt: Columns that are decrypted; they are in `names`.
        keys: Their keys.
        condition: Which rows are given.
        limit: How many rows at most.
    """

    table: Table
    names: tuple[str, ...]
    decrypt: tuple[EncryptedColumn, ...]
    keys: dict[str, OpenedKey]
    condition: Condition
    limit: int | None = None

    @cached_property
    def schema(self) -> pa.Schema:
        """The schema of the rows."""
        return _arrow(self._plain, self.names)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, in no particular order. No batch is empty.

        Raises:
            ConfigurationFailed: A value cannot be decrypted, or a file cannot be read.
            OSError: The storage failed.
        """
        left = self.limit
        for batch in self._plain_batches():
            if left is not None:
                batch = batch.slice(0, left)
                left -= batch.num_rows
            if batch.num_rows:
                yield batch
            if left == 0:
                return

    def _plain_batches(self) -> Iterator[pa.RecordBatch]:
        if self.limit == 0:
            return
        for file in self._files():
            for batch in self._stored(file):
                if self.condition.before is not None:
                    batch = batch.filter(self.condition.before)
                if self.limit is not None and self.condition.after is None:
                    batch = batch.slice(0, self.limit)  # what is not given is not decrypted
                if not batch.num_rows:
                    continue
                batch = self._decrypted(batch)
                if self.condition.after is not None:
                    batch = batch.filter(self.condition.after)
                yield batch.select(self.names)

    @cached_property
    def _plain(self) -> Schema:
        return plain_schema(self.table.schema(), self.decrypt)

    @cached_property
    def _looked_at(self) -> tuple[str, ...]:
        """Columns that are read: those that are given, and those of the condition."""
        wanted = {*self.names, *self.condition.columns}
        return tuple(field.name for field in self._plain.fields if field.name in wanted)

    def _files(self) -> list[LiveFile]:
        files = live_files(self.table)
        if self.condition.planning is None:
            return files
        tasks = self.table.scan(row_filter=self.condition.planning).plan_files()
        planned = {task.file.file_path for task in tasks}
        return [file for file in files if file.file.file_path in planned]

    def _stored(self, live: LiveFile) -> Iterator[pa.RecordBatch]:
        """The rows of a file that are not deleted, as they are stored."""
        stored = Schema(*(f for f in self.table.schema().fields if f.name in self._looked_at))
        deleted = DeletedRows(deleted_positions(self.table.io, live))
        with OpenDataFile(self.table, live.file, stored) as opened:
            for start, batch in opened.batches(rows_per_batch(opened.footer)):
                _, rows = without(batch, start, [deleted.between(start, start + batch.num_rows)])
                yield rows

    def _decrypted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        for column in self.decrypt:
            top, *inner = column.path
            columns[top] = _replaced(columns[top], inner, self._decryption(column))
        target = _arrow(self._plain, self._looked_at)
        arrays = [columns[field.name].cast(field.type) for field in target]
        return pa.RecordBatch.from_arrays(arrays, schema=target)

    def _decryption(self, column: EncryptedColumn) -> Callable[[pa.Array], pa.Array]:
        opened, aad = self.keys[column.encryption.key], column.encryption.aad.encode()

        def decrypt(sealed: pa.Array) -> pa.Array:
            try:
                plaintexts = decrypt_array(opened.versions, sealed, aad)
            except ConfigurationFailed as failed:
                raise _explained(failed, column, opened, sealed) from None
            return original_array(column.type, plaintexts, column.name)

        return decrypt


def rows_per_batch(footer: pq.FileMetaData) -> int:
    """How many rows of a file make a batch, by its row group with the largest rows."""
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    largest = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
    return min(BATCH_ROWS, max(1, BATCH_BYTES // max(largest, 1)))


def _arrow(schema: Schema, names: Sequence[str]) -> pa.Schema:
    wanted = Schema(*(field for field in schema.fields if field.name in names))
    return schema_to_pyarrow(wanted, include_field_ids=False)


def _replaced(array: pa.Array, path: Sequence[str], replace: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """The array with the member of a struct, at any depth, replaced."""
    if not path:
        return replace(array)
    names = [field.name for field in array.type]
    members = dict(zip(names, array.flatten(), strict=True))  # unlike `field`, null where the struct is
    members[path[0]] = _replaced(members[path[0]], path[1:], replace)
    return pa.StructArray.from_arrays([*members.values()], names=names, mask=array.is_null())


def _explained(
    failed: ConfigurationFailed, column: EncryptedColumn, opened: OpenedKey, sealed: pa.Array
) -> ConfigurationFailed:
    """The error with the column's name; where a version of the key is out of use, with that."""
    heads = pc.unique(pc.binary_slice(sealed, 1, 5)).drop_null().to_pylist()
    ids = {int.from_bytes(head, "big") for head in heads}
    gone = [v for v in opened.key.versions if v.key_id in ids and not v.decrypts]
    if not gone:
        return ConfigurationFailed(
            f"The column {column.name!r}: {failed.message}", guidance=failed.guidance, code=failed.code
        )
    what = ", ".join(f"version {v.version} is {v.state}" for v in gone)
    destroyed = any(v.state == "destroyed" for v in gone)
    return ConfigurationFailed(
        f"The column {column.name!r} has values of versions of the key {opened.key.name!r} that are out of "
        f"use: {what}.",
        guidance="Leave those rows out by a condition, or the column. What is disabled can be enabled again.",
        code="key-destroyed" if destroyed else "key-disabled",
    )
