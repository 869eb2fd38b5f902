"""How a table wants its rows: each file of one partition, in the table's sort order."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import NullOrder, SortDirection
from pyiceberg.transforms import VoidTransform
from pyiceberg.typedef import Record
from pyiceberg.types import DoubleType, NestedField, StructType

from airberg.errors import ConfigurationFailed
from airberg.lake.transforms import ArrowTransform, arrow_transform, ordered_bits


@dataclass(frozen=True, slots=True)
class Part:
    """A run of arranged rows that belong to one partition.

    Attributes:
        key: Equal for equal partitions, also of other batches.
        record: The partition's values, as manifests hold them.
        first: Index of its first row.
        rows: Number of its rows.
    """

    key: Hashable
    record: Record
    first: int
    rows: int


@dataclass(frozen=True, slots=True)
class _Term:
    """A column (or member of structs, by indexes from the top) and what is made of it."""

    indexes: tuple[int, ...]
    transform: ArrowTransform
    order: str = "ascending"
    nulls: str = "at_start"

    def of(self, batch: pa.RecordBatch) -> pa.Array:
        if not self.indexes:  # a column that the table no longer has, under `void`
            return self.transform(pa.nulls(batch.num_rows))
        column = batch.column(self.indexes[0])
        rest = list(self.indexes[1:])
        return self.transform(pc.struct_field(column, rest) if rest else column)


class Arrangement:
    """Divides rows among the partitions of a table and sorts them, as the table's metadata says now.

    Rows are record batches with all columns of the table in its order, under any names.

    Attributes:
        order_id: Id of the sort order; None for a table without one, or with one that is not understood.

    Raises:
        ConfigurationFailed: The table is partitioned in a way that cannot be written.
    """

    def __init__(self, table: Table) -> None:
        metadata = table.metadata
        schema, spec = metadata.schema(), metadata.spec()
        self._partition = _partition_terms(".".join(table.name()), schema, spec)
        self._sort = _sort_terms(table)
        self.order_id = metadata.default_sort_order_id if self._sort else None

    @property
    def plain(self) -> bool:
        """There is nothing to do: no partitions, no order."""
        return not (self._partition or self._sort)

    def arrange(self, rows: pa.RecordBatch) -> tuple[pa.Array | None, list[Part]]:
        """The order in which to take the rows (None for their own), and the partitions in that order."""
        if not self._partition and self._comes_sorted(rows):
            return None, [Part((), Record(), 0, rows.num_rows)]
        values = [term.of(rows) for term in self._partition]
        keys = [ordered_bits(value) for value in values]
        order = self._order(rows, keys)
        if order is None or not self._partition:
            return order, [Part((), Record(), 0, rows.num_rows)]
        starts = _starts([key.take(order) for key in keys], rows.num_rows)
        examples = order.take(starts)
        records = zip(*(value.take(examples).to_pylist() for value in values), strict=True)
        distinct = zip(*(key.take(examples).to_pylist() for key in keys), strict=True)
        firsts = starts.to_pylist()
        ends = [*firsts[1:], rows.num_rows]
        parts = [
            Part(key, Record(*record), first, end - first)
            for key, record, first, end in zip(distinct, records, firsts, ends, strict=True)
        ]
        return order, parts

    def _comes_sorted(self, rows: pa.RecordBatch) -> bool:
        """Whether rows are seen at a glance to be in order: by the first column of it, each value once.

        Sources often send rows in the order of their key; to sort them costs as much as to write them.
        """
        if not self._sort or rows.num_rows < 2:
            return not self._sort
        term = self._sort[0]
        values = ordered_bits(term.of(rows))
        if values.null_count:
            return False
        before, after = values.slice(0, rows.num_rows - 1), values.slice(1)
        strictly = len(self._sort) > 1
        if term.order == "ascending":
            follows = pc.less(before, after) if strictly else pc.less_equal(before, after)
        else:
            follows = pc.greater(before, after) if strictly else pc.greater_equal(before, after)
        return bool(pc.all(follows).as_py())

    def in_order(self, rows: pa.RecordBatch) -> bool:
        """Whether rows of one partition are in the table's sort order as they are."""
        order = self._order(rows, [])
        return order is None or bool(order.equals(pa.arange(0, rows.num_rows).cast(order.type)))

    def keys(self, rows: pa.RecordBatch) -> pa.Table:
        """What rows are sorted by, partitions first: a column each of `sort_keys`."""
        return self._keys(rows, [ordered_bits(term.of(rows)) for term in self._partition])

    @property
    def sort_keys(self) -> list[tuple[str, str, str]]:
        """How Arrow sorts the columns of `keys`: name, direction, place of nulls."""
        return self._sort_keys(len(self._partition))

    def _order(self, rows: pa.RecordBatch, keys: list[pa.Array]) -> pa.Array | None:
        if not (keys or self._sort):
            return None
        # A stable sort: rows that are equal in all keys stay in the order of their arrival.
        return pc.sort_indices(self._keys(rows, keys), sort_keys=self._sort_keys(len(keys)))

    def _keys(self, rows: pa.RecordBatch, first: list[pa.Array]) -> pa.Table:
        columns = [*first, *(ordered_bits(term.of(rows)) for term in self._sort)]
        return pa.Table.from_arrays(columns, names=[f"c{i}" for i in range(len(columns))])

    def _sort_keys(self, first: int) -> list[tuple[str, str, str]]:
        by = [("ascending", "at_start")] * first + [(term.order, term.nulls) for term in self._sort]
        return [(f"c{i}", *how) for i, how in enumerate(by)]


def _starts(keys: list[pa.Array], rows: int) -> pa.Array:
    """Indexes of the rows that differ from the row before in any of the sorted `keys`."""
    if rows == 0:
        return pa.array([], pa.int64())
    differs = pa.repeat(pa.scalar(False), rows - 1)
    for key in keys:
        before, after = key.slice(0, rows - 1), key.slice(1)
        both_null = pc.and_(pc.is_null(before), pc.is_null(after))
        unlike = pc.fill_null(pc.not_equal(before, after), True)
        differs = pc.or_(differs, pc.and_(unlike, pc.invert(both_null)))
    inner = pc.add(pc.indices_nonzero(differs).cast(pa.int64()), pa.scalar(1, pa.int64()))
    return pa.concat_arrays([pa.array([0], pa.int64()), inner])


def _partition_terms(name: str, schema: Schema, spec: PartitionSpec) -> list[_Term]:
    terms = []
    for field in spec.fields:
        found = find_column(schema, field.source_id)
        try:
            if found is None and not isinstance(field.transform, VoidTransform):
                raise TypeError(f"{field.transform} of a column that is gone")
            indexes, column = found or ((), None)
            source = schema.as_struct() if column is None else column.field_type
            if isinstance(source, DoubleType) and not isinstance(field.transform, VoidTransform):
                # pyiceberg 0.12 reads such values from manifests in single precision, and so writes them
                # into its next ones and skips files that match a filter.
                raise TypeError(f"{field.transform} of {source}")
            terms.append(_Term(indexes, arrow_transform(field.transform, source)))
        except TypeError as error:
            raise ConfigurationFailed(
                f"The table {name} is partitioned by {field.name!r}: {error}.",
                guidance="Airberg does not write such partitions: write to another schema or table name.",
                code="table-partition-unsupported",
            ) from None
    return terms


def _sort_terms(table: Table) -> list[_Term]:
    """The sort order; none when a part of it is not understood, for files need not be sorted."""
    schema, terms = table.schema(), []
    for field in table.sort_order().fields:
        found = find_column(schema, field.source_id)
        if found is None:
            return []
        indexes, column = found
        try:
            transform = arrow_transform(field.transform, column.field_type)
        except TypeError:
            return []
        order = "descending" if field.direction == SortDirection.DESC else "ascending"
        nulls = "at_end" if field.null_order == NullOrder.NULLS_LAST else "at_start"
        terms.append(_Term(indexes, transform, order, nulls))
    return terms


def find_column(schema: Schema, field_id: int) -> tuple[tuple[int, ...], NestedField] | None:
    """Where a column is: its indexes from the top, through structs only; and the column itself."""
    return next((found for found in _columns(schema.as_struct(), ()) if found[1].field_id == field_id), None)


def _columns(struct: StructType, above: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], NestedField]]:
    for index, member in enumerate(struct.fields):
        here = (*above, index)
        yield here, member
        if isinstance(member.field_type, StructType):
            yield from _columns(member.field_type, here)
