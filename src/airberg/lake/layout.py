"""Partition spec and sort order: of a new table from its plan, and of an existing one in the same words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema, make_compatible_name
from pyiceberg.table import Table
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    VoidTransform,
    YearTransform,
)

from airberg.plan.model import PartitionTerm, SortTerm, sort_text, term_text

_SUFFIXES = {"identity": "", "bucket": "_bucket", "truncate": "_trunc", "void": "_null"}


def partition_spec(schema: Schema, terms: Sequence[PartitionTerm]) -> PartitionSpec:
    """The partition spec of a new table with this schema."""
    taken = {name.casefold() for name in schema.column_names}
    fields = []
    for number, term in enumerate(terms):
        source_id = schema.find_field(".".join(term.column)).field_id
        name = _field_name(term, taken)
        taken.add(name.casefold())
        fields.append(
            PartitionField(
                source_id=source_id,
                field_id=PARTITION_FIELD_ID_START + number,
                transform=_transform(term),
                name=name,
            )
        )
    return PartitionSpec(*fields)


def sort_order(schema: Schema, terms: Sequence[SortTerm]) -> SortOrder:
    """The sort order of a new table with this schema."""
    fields = [
        SortField(
            source_id=schema.find_field(".".join(term.column)).field_id,
            transform=_transform(term),
            direction=SortDirection.DESC if term.descending else SortDirection.ASC,
            null_order=NullOrder.NULLS_LAST if term.nulls_last else NullOrder.NULLS_FIRST,
        )
        for term in terms
    ]
    return SortOrder(*fields) if fields else UNSORTED_SORT_ORDER


def partition_texts(table: Table) -> list[str]:
    """How a table is partitioned, in the words of a request."""
    return [_text(table, field.transform, field.source_id) for field in table.spec().fields]


def sort_texts(table: Table) -> list[str]:
    """The sort order of a table, in the words of a request."""
    return [
        f"{_text(table, field.transform, field.source_id)} "
        f"{sort_text(field.direction == SortDirection.DESC, field.null_order == NullOrder.NULLS_LAST)}"
        for field in table.sort_order().fields
    ]


def _field_name(term: PartitionTerm, taken: set[str]) -> str:
    """The name that Iceberg gives such a field, fit for Avro, where manifests have it, and not taken.

    An identity field has its column's name; that is the one name of a column that a field may have.
    """
    suffix = _SUFFIXES.get(term.transform, f"_{term.transform}")
    number = "" if term.argument is None else f"_{term.argument}"
    name = base = make_compatible_name(f"{'_'.join(term.column)}{suffix}{number}")
    if term.transform == "identity" and term.column == (base,):
        return base
    counted = 1
    while name.casefold() in taken:
        counted += 1
        name = f"{base}_{counted}"
    return name


def _transform(term: PartitionTerm) -> Transform[Any, Any]:
    match term.transform:
        case "bucket":
            return BucketTransform(term.argument or 0)
        case "truncate":
            return TruncateTransform(term.argument or 0)
        case "year":
            return YearTransform()
        case "month":
            return MonthTransform()
        case "day":
            return DayTransform()
        case "hour":
            return HourTransform()
        case "void":
            return VoidTransform()
    return IdentityTransform()


def _text(table: Table, transform: Transform[Any, Any], source_id: int) -> str:
    column = table.schema().find_column_name(source_id) or f"column {source_id}"
    match transform:
        case BucketTransform():
            return term_text("bucket", transform.num_buckets, column)
        case TruncateTransform():
            return term_text("truncate", transform.width, column)
    return term_text(str(transform), None, column)
