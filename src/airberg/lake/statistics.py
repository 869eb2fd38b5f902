"""Statistics of a data file, from the footer of its Parquet file.

pyiceberg has such a function; this one differs where it matters for us: bounds come from the raw values
(dates before year 1 and after 9999 have no Python object), a row group without bounds leaves the column
without bounds (Parquet writes none for values over 4 KiB, and bounds that ignore those rows would make
readers, and our own merge, skip the file), and fields inside structs get bounds too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pyarrow.parquet as pq
from pyiceberg.conversions import to_bytes
from pyiceberg.io.pyarrow import MetricModeTypes, MetricsMode, match_metrics_mode
from pyiceberg.schema import Schema
from pyiceberg.table import TableProperties
from pyiceberg.types import (
    BinaryType,
    DecimalType,
    IcebergType,
    ListType,
    MapType,
    PrimitiveType,
    StringType,
    StructType,
)
from pyiceberg.utils.decimal import unscaled_to_decimal
from pyiceberg.utils.truncate import truncate_upper_bound_binary_string, truncate_upper_bound_text_string

_Raw: TypeAlias = bytes | int | float | str


@dataclass(slots=True)
class _Column:
    """What is known of one leaf column so far."""

    field_id: int
    type: PrimitiveType
    mode: MetricsMode
    repeated: bool
    size: int = 0
    values: int = 0
    nulls: int | None = 0
    low: Any = None
    high: Any = None
    unknown: bool = False

    def add(self, chunk: pq.ColumnChunkMetaData) -> None:
        self.size += chunk.total_compressed_size
        self.values += chunk.num_values
        found = chunk.statistics if chunk.is_stats_set else None
        if found is None or not found.has_null_count:
            self.nulls = None
        elif self.nulls is not None:
            self.nulls += found.null_count
        if found is not None and found.has_min_max:
            low, high = self._value(found.min_raw), self._value(found.max_raw)
            self.low = low if self.low is None else min(self.low, low)
            self.high = high if self.high is None else max(self.high, high)
        elif found is None or not found.has_null_count or found.null_count < chunk.num_values:
            self.unknown = True

    def _value(self, raw: _Raw) -> _Raw:
        """The raw value as something that compares in the order of the type."""
        if isinstance(self.type, StringType):
            return raw.decode() if isinstance(raw, bytes) else raw
        if isinstance(self.type, DecimalType):
            return int.from_bytes(raw, "big", signed=True) if isinstance(raw, bytes) else raw
        return raw

    @property
    def has_bounds(self) -> bool:
        return (
            not self.repeated
            and not self.unknown
            and self.low is not None
            and self.mode.type in (MetricModeTypes.TRUNCATE, MetricModeTypes.FULL)
        )

    def lower(self) -> bytes | None:
        value = self.low
        if self._length is not None:
            value = value[: self._length]
        return self._bytes(value)

    def upper(self) -> bytes | None:
        value = self.high
        if isinstance(self.type, StringType):
            value = truncate_upper_bound_text_string(value, self._length)
        elif isinstance(self.type, BinaryType):
            value = truncate_upper_bound_binary_string(value, self._length)
        return None if value is None else self._bytes(value)

    @property
    def _length(self) -> int | None:
        return self.mode.length if isinstance(self.type, StringType | BinaryType) else None

    def _bytes(self, value: _Raw) -> bytes:
        if isinstance(self.type, DecimalType):
            return to_bytes(self.type, unscaled_to_decimal(int(value), self.type.scale))
        return to_bytes(self.type, value)


@dataclass(frozen=True, slots=True)
class FileStatistics:
    """The members of an Iceberg `data_file` that come from the footer."""

    record_count: int
    column_sizes: dict[int, int] = field(default_factory=dict)
    value_counts: dict[int, int] = field(default_factory=dict)
    null_value_counts: dict[int, int] = field(default_factory=dict)
    lower_bounds: dict[int, bytes] = field(default_factory=dict)
    upper_bounds: dict[int, bytes] = field(default_factory=dict)
    split_offsets: list[int] = field(default_factory=list)


def file_statistics(footer: pq.FileMetaData, schema: Schema, properties: Mapping[str, str]) -> FileStatistics:
    """Statistics of a file that holds the columns of `schema`, in that order.

    Args:
        footer: Metadata of the Parquet file.
        schema: The schema of the table; leaf columns have the order that they have in the file.
        properties: Table properties: `write.metadata.metrics.*` says how much is kept.
    """
    columns = list(_leaves(schema.as_struct(), (), repeated=False, properties=properties))
    if len(columns) != footer.num_columns:
        raise ValueError(f"a file with {footer.num_columns} columns for a schema with {len(columns)}")
    result = FileStatistics(record_count=footer.num_rows)
    for index in range(footer.num_row_groups):
        group = footer.row_group(index)
        first = group.column(0)
        offset = first.data_page_offset
        if first.has_dictionary_page:
            offset = min(offset, first.dictionary_page_offset)
        result.split_offsets.append(offset)
        for position, column in enumerate(columns):
            column.add(group.column(position))
    for column in columns:
        _keep(result, column)
    return result


def _keep(result: FileStatistics, column: _Column) -> None:
    result.column_sizes[column.field_id] = column.size
    if column.mode.type == MetricModeTypes.NONE:
        return
    result.value_counts[column.field_id] = column.values
    if column.nulls is not None:
        result.null_value_counts[column.field_id] = column.nulls
    if column.has_bounds:
        if (lower := column.lower()) is not None:
            result.lower_bounds[column.field_id] = lower
        if (upper := column.upper()) is not None:
            result.upper_bounds[column.field_id] = upper


def _leaves(
    type_: IcebergType, path: tuple[str, ...], *, repeated: bool, properties: Mapping[str, str], id_: int = 0
) -> Iterator[_Column]:
    if isinstance(type_, StructType):
        for member in type_.fields:
            here = (*path, member.name)
            yield from _leaves(
                member.field_type, here, repeated=repeated, properties=properties, id_=member.field_id
            )
    elif isinstance(type_, ListType):
        here = (*path, "element")
        yield from _leaves(
            type_.element_type, here, repeated=True, properties=properties, id_=type_.element_id
        )
    elif isinstance(type_, MapType):
        key, value = (*path, "key"), (*path, "value")
        yield from _leaves(type_.key_type, key, repeated=True, properties=properties, id_=type_.key_id)
        yield from _leaves(type_.value_type, value, repeated=True, properties=properties, id_=type_.value_id)
    elif isinstance(type_, PrimitiveType):
        yield _Column(id_, type_, _mode(path, properties), repeated)


def _mode(path: tuple[str, ...], properties: Mapping[str, str]) -> MetricsMode:
    default = properties.get(
        TableProperties.DEFAULT_WRITE_METRICS_MODE, TableProperties.DEFAULT_WRITE_METRICS_MODE_DEFAULT
    )
    name = f"{TableProperties.METRICS_MODE_COLUMN_CONF_PREFIX}.{'.'.join(path)}"
    return match_metrics_mode(properties.get(name, default))
