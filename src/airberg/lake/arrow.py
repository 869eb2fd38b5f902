"""Bringing Arrow batches into the columns and types of a table.

Two things need it: rows that arrive (matched by name) and rows of older data files (matched by field id,
as the specification asks under Column Projection). Missing columns become null, narrower types wider.
pyiceberg's own projection loads null lists of structs as empty lists, so it cannot rewrite files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema, make_compatible_name
from pyiceberg.types import IcebergType, ListType, NestedField, StructType

FIELD_ID = b"PARQUET:field_id"

Convert: TypeAlias = Callable[[pa.Array], pa.Array]
Find: TypeAlias = Callable[[NestedField], int | None]
Match: TypeAlias = Callable[[Sequence[pa.Field]], Find]
"""Of some candidates: what finds the index of the one that belongs to a field."""


def by_name(candidates: Sequence[pa.Field]) -> Find:
    """Finds the first candidate with a field's name."""
    places = {other.name: i for i, other in reversed([*enumerate(candidates)])}
    return lambda field: places.get(field.name)


def by_id(candidates: Sequence[pa.Field]) -> Find:
    """Finds the first candidate with a field's id."""
    places = {(other.metadata or {}).get(FIELD_ID): i for i, other in reversed([*enumerate(candidates)])}
    return lambda field: places.get(str(field.field_id).encode())


def file_schema(schema: Schema) -> Schema:
    """`schema` with the names that its columns have in data files.

    Readers go by field id; the names only have to be unique and fit for Avro and Parquet paths, where a dot
    would be a separator. Two columns whose clean names coincide are kept apart by their ids.
    """
    return Schema(*_file_fields(schema.fields), schema_id=schema.schema_id)


def _file_fields(fields: Sequence[NestedField]) -> list[NestedField]:
    seen: set[str] = set()
    result = []
    for field in fields:
        name = make_compatible_name(field.name)
        while name in seen:
            name = f"{name}__{field.field_id}"
        seen.add(name)
        result.append(field.model_copy(update={"name": name, "field_type": _file_type(field.field_type)}))
    return result


def _file_type(type_: IcebergType) -> IcebergType:
    if isinstance(type_, StructType):
        return StructType(*_file_fields(type_.fields))
    if isinstance(type_, ListType):
        return ListType(type_.element_id, _file_type(type_.element_type), type_.element_required)
    return type_


class Projection:
    """Brings batches of one Arrow schema into the columns of a table, in the table's order.

    Args:
        schema: The columns wanted, with the names to look for.
        target: The Arrow schema to produce; same columns in the same order, any names.
        source: Schema of the batches.
        match: How columns find each other.
        described: A schema of the same shape as `source` that carries the field ids, where `source` does not.

    Raises:
        TypeError: A column cannot be brought into its type without loss.
    """

    def __init__(
        self,
        schema: Schema,
        target: pa.Schema,
        source: pa.Schema,
        match: Match,
        described: pa.Schema | None = None,
    ) -> None:
        self._target = target
        self._members = _members(
            schema.fields, list(target), list(source), list(described or source), match, ()
        )

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with the columns of the table."""
        rows = batch.num_rows
        arrays = [
            pa.nulls(rows, field.type) if index is None else convert(batch.column(index))
            for (index, convert), field in zip(self._members, self._target, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self._target)


def table_projection(schema: Schema, source: pa.Schema) -> Projection:
    """From batches with the table's column names to the Arrow schema of its data files.

    Raises:
        TypeError: The batches have a column that the table lacks, or one of another type.
    """
    known = {field.name for field in schema.fields}
    if unknown := [name for name in source.names if name not in known]:
        raise TypeError(f"columns that the table does not have: {', '.join(unknown)}")
    return Projection(schema, arrow_schema(file_schema(schema)), source, by_name)


def arrow_schema(schema: Schema) -> pa.Schema:
    """The Arrow schema of a file with this Iceberg schema, field ids included."""
    return schema_to_pyarrow(schema, include_field_ids=True)


def _members(
    fields: Sequence[NestedField],
    targets: Sequence[pa.Field],
    sources: Sequence[pa.Field],
    described: Sequence[pa.Field],
    match: Match,
    path: tuple[str, ...],
) -> list[tuple[int | None, Convert]]:
    members: list[tuple[int | None, Convert]] = []
    find = match(described)
    for field, target in zip(fields, targets, strict=True):
        index = find(field)
        convert: Convert = _same
        if index is not None:
            here = (*path, field.name)
            shape = described[index].type
            convert = _converter(field.field_type, target.type, sources[index].type, shape, match, here)
        members.append((index, convert))
    return members


def _same(array: pa.Array) -> pa.Array:
    return array


def _converter(
    type_: IcebergType,
    target: pa.DataType,
    source: pa.DataType,
    described: pa.DataType,
    match: Match,
    path: tuple[str, ...],
) -> Convert:
    if pa.types.is_null(source):
        return lambda array: pa.nulls(len(array), target)
    if isinstance(type_, StructType) and pa.types.is_struct(source):
        members = _members(
            type_.fields, _children(target), _children(source), _children(described), match, path
        )
        return lambda array: _struct(array, members, target)
    if isinstance(type_, ListType) and _is_list(source):
        inside = _converter(
            type_.element_type,
            target.value_type,
            source.value_type,
            described.value_type,
            match,
            (*path, "element"),
        )
        return lambda array: _list(array, inside, target)
    if source == target:
        return _same
    if _widens(source, target):
        return lambda array: array.cast(target)
    raise TypeError(f"column {'.'.join(path)!r}: {source} does not fit into {target}")


def _children(type_: pa.DataType) -> list[pa.Field]:
    return [type_.field(i) for i in range(type_.num_fields)]


def _is_list(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_)
    )


def _struct(array: pa.Array, members: Sequence[tuple[int | None, Convert]], target: pa.DataType) -> pa.Array:
    rows = len(array)
    children = [
        pa.nulls(rows, field.type) if index is None else convert(array.field(index))
        for (index, convert), field in zip(members, _children(target), strict=True)
    ]
    mask = array.is_null() if array.null_count else None
    return pa.StructArray.from_arrays(children, fields=_children(target), mask=mask)


def _list(array: pa.Array, inside: Convert, target: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.large_list(array.type.value_type))
    mask = array.is_null() if array.null_count else None
    # `from_arrays` takes no mask with sliced offsets, so they are copied; `values` is the unsliced child.
    offsets = pc.add(array.offsets.cast(pa.int64()), 0)
    return pa.LargeListArray.from_arrays(offsets, inside(array.values), type=target, mask=mask)


def _widens(source: pa.DataType, target: pa.DataType) -> bool:
    """Whether every value of `source` is one of `target`; the cast itself still checks each value."""
    t = pa.types
    if t.is_dictionary(source):
        return bool(source.value_type == target or _widens(source.value_type, target))
    if t.is_integer(source):
        if t.is_integer(target):
            return bool(source.bit_width < target.bit_width)
        return bool(t.is_decimal(target) or (t.is_float64(target) and source.bit_width <= 32))
    if t.is_floating(source):
        return bool(t.is_floating(target) and source.bit_width < target.bit_width)
    if t.is_decimal(source):
        return bool(t.is_decimal(target) and source.scale <= target.scale)
    if t.is_timestamp(source):
        return bool(t.is_timestamp(target) and (source.tz is None) == (target.tz is None))
    if t.is_map(source):
        return bool(t.is_map(target))
    return any(is_kind(source) and is_kind(target) for is_kind in (_is_text, _is_bytes, t.is_time, t.is_date))


def _is_text(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_)
    )


def _is_bytes(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_binary_view(type_)
    )
