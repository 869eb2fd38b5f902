"""The key of a merge in a table: where its columns are, and which data files cannot hold any of some keys."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.conversions import from_bytes
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import VoidTransform
from pyiceberg.types import DoubleType, FloatType, IcebergType, NestedField, PrimitiveType, StructType

from airberg.errors import ConfigurationFailed
from airberg.lake.keybounds import KeyBounds
from airberg.lake.keyindex import KeyIndex, KeyRows
from airberg.lake.live import LiveFile
from airberg.lake.transforms import arrow_transform

_MOST_PARTITION_VALUES = 100_000


@dataclass(frozen=True, slots=True)
class Located:
    """A column or nested field of a table's schema."""

    path: tuple[str, ...]
    field_id: int
    type: IcebergType

    @property
    def arrow_type(self) -> pa.DataType:
        """Its type in batches."""
        return schema_to_pyarrow(self.type, include_field_ids=False)

    def of(self, batch: pa.RecordBatch, schema: Schema) -> pa.Array:
        """Its values in a batch with the columns of `schema`, in that order, under any names."""
        indexes, type_ = [], schema.as_struct()
        for name in self.path:
            at = next(i for i, member in enumerate(type_.fields) if member.name == name)
            indexes.append(at)
            inner = type_.fields[at].field_type
            type_ = inner if isinstance(inner, StructType) else StructType()
        column = batch.column(indexes[0])
        return pc.struct_field(column, indexes[1:]) if indexes[1:] else column


def locate(schema: Schema, path: tuple[str, ...], what: str) -> Located:
    """Find a column whose values can be compared.

    Args:
        schema: Of the table.
        path: Its names from the top.
        what: What it is, for messages.

    Raises:
        ConfigurationFailed: There is none, or it has no simple type.
    """
    found = locate_any(schema, path, what)
    if not isinstance(found.type, PrimitiveType):
        raise ConfigurationFailed(
            f"The {what} {'.'.join(path)!r} is a {found.type}.",
            guidance="Choose a column with a simple type, or cast this one to json or string.",
            code="merge-key-type",
        )
    return found


def locate_any(schema: Schema, path: tuple[str, ...], what: str) -> Located:
    """Find a column of any type; see `locate`."""
    type_: IcebergType = schema.as_struct()
    member: NestedField | None = None
    for name in path:
        members = type_.fields if isinstance(type_, StructType) else ()
        member = next((candidate for candidate in members if candidate.name == name), None)
        if member is None:
            break
        type_ = member.field_type
    if member is None:
        raise ConfigurationFailed(
            f"The {what} {'.'.join(path)!r} is not a column of the table.",
            guidance="Check the merge key and the renames of the job.",
            code="merge-key-missing",
        )
    return Located(path, member.field_id, type_)


def top_columns(schema: Schema, wanted: Iterable[Located]) -> Schema:
    """The columns of `schema` that hold what is wanted."""
    names = {found.path[0] for found in wanted}
    return Schema(*(field for field in schema.fields if field.name in names))


def key_rows(
    batch: pa.RecordBatch, schema: Schema, keys: Sequence[Located], cursor: Located | None
) -> KeyRows:
    """Keys and cursor of a batch with the columns of `schema`."""
    return KeyRows(
        tuple(key.of(batch, schema) for key in keys), None if cursor is None else cursor.of(batch, schema)
    )


def key_bounds(file: DataFile, found: Located) -> KeyBounds:
    """What a file's statistics say about a column."""
    id_, type_ = found.field_id, found.type
    lower, upper = (file.lower_bounds or {}).get(id_), (file.upper_bounds or {}).get(id_)
    values, nulls = (file.value_counts or {}).get(id_), (file.null_value_counts or {}).get(id_)
    if not isinstance(type_, PrimitiveType):
        return KeyBounds()
    return KeyBounds(
        low=None if lower is None else from_bytes(type_, lower),
        high=None if upper is None else from_bytes(type_, upper),
        nulls=nulls is None or nulls > 0,
        values=values is None or nulls is None or values > nulls,
    )


class Candidates:
    """Chooses the data files that may hold a key of the checkpoint, by their partitions and key bounds.

    Args:
        index: Of the checkpoint, its winners found.
        keys: The key columns.
    """

    def __init__(self, index: KeyIndex, keys: Sequence[Located]) -> None:
        self._index = index
        self._keys = keys
        self._known: dict[Hashable, set[Any] | None] = {}

    def of(self, table: Table, files: Sequence[LiveFile]) -> list[LiveFile]:
        """Those of `files` that may hold a key."""
        left = [live for live in files if self._in_partition(table, live.file)]
        bounds = [tuple(key_bounds(live.file, key) for key in self._keys) for live in left]
        return [left[index] for index in self._index.candidates(bounds)]

    def _in_partition(self, table: Table, file: DataFile) -> bool:
        """Whether the checkpoint has keys in the file's partition, as far as keys decide about partitions."""
        spec = table.metadata.specs()[file.spec_id]
        for place, field in enumerate(spec.fields):
            column = next((i for i, key in enumerate(self._keys) if key.field_id == field.source_id), None)
            if column is None or isinstance(field.transform, VoidTransform):
                continue
            known = self._values(column, str(field.transform), lambda: field.transform)  # noqa: B023 - called now
            if known is not None and file.partition[place] not in known:
                return False
        return True

    def _values(self, column: int, name: str, transform: Callable[[], Any]) -> set[Any] | None:
        """The values of a partition field that the keys have; None when they are not known."""
        if (column, name) not in self._known:
            source = self._keys[column].type
            found = None
            # pyiceberg reads floating-point partition values in single precision.
            if not isinstance(source, FloatType | DoubleType):
                try:
                    apply = arrow_transform(transform(), source)
                except TypeError:
                    pass
                else:
                    found = self._index.distinct(column, apply, _MOST_PARTITION_VALUES)
            self._known[column, name] = found
        return self._known[column, name]
