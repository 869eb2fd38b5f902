"""An Iceberg schema as DataHub describes it, field for field as DataHub's own Iceberg source does.

That source goes over Avro to field paths of version 2
(https://docs.datahub.com/docs/advanced/field-path-spec-v2); other paths would be other fields to DataHub,
and tags and column lineage would hang in the air. Two things differ on purpose: names of Avro types come
from field ids and not from chance, so that a run sends what the run before it sent; and a column whose
name has a dot cannot take the name of another.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from avro.errors import IgnoredLogicalType
from datahub.ingestion.extractor.schema_util import avro_schema_to_mce_fields
from pyiceberg.schema import Schema
from pyiceberg.types import DecimalType, FixedType, IcebergType, ListType, MapType, NestedField, StructType

_AVRO: dict[str, dict[str, str]] = {
    "boolean": {"type": "boolean"},
    "int": {"type": "int"},
    "long": {"type": "long"},
    "float": {"type": "float"},
    "double": {"type": "double"},
    "string": {"type": "string"},
    "binary": {"type": "bytes"},
    "uuid": {"type": "string", "logicalType": "uuid"},
    "date": {"type": "int", "logicalType": "date"},
    "time": {"type": "long", "logicalType": "time-micros"},
    "timestamp": {"type": "long", "logicalType": "timestamp-micros"},
    "timestamptz": {"type": "long", "logicalType": "timestamp-micros"},
    "timestamp_ns": {"type": "long", "logicalType": "timestamp-micros"},
    "timestamptz_ns": {"type": "long", "logicalType": "timestamp-micros"},
}


class DescribedSchema(NamedTuple):
    """A schema for DataHub.

    Attributes:
        fields: `SchemaFieldClass` objects, parents before children.
        paths: DataHub's field path by the path of names in the table; list elements add no name.
    """

    fields: list[Any]
    paths: dict[tuple[str, ...], str]


def describe_schema(schema: Schema) -> DescribedSchema:
    """All fields of a schema and where each is found.

    Raises:
        ValueError: DataHub sees other fields than the schema has.
    """
    record = _record(schema.as_struct(), 0)
    with warnings.catch_warnings():
        # Decimals are announced as one byte wide, as DataHub's source does; Avro then warns about each.
        warnings.simplefilter("ignore", IgnoredLogicalType)
        fields = avro_schema_to_mce_fields(
            json.dumps(record), default_nullable=False, swallow_exceptions=False
        )
    names = list(_names(schema.as_struct(), ()))
    paths = {name: field.fieldPath for name, field in zip(names, fields, strict=True)}
    return DescribedSchema(fields, paths)


def _names(kind: IcebergType, prefix: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Paths of all named fields in the order in which DataHub lists them."""
    match kind:
        case StructType():
            for field in kind.fields:
                path = (*prefix, field.name)
                yield path
                yield from _names(field.field_type, path)
        case ListType():
            yield from _names(kind.element_type, prefix)
        case MapType():
            for name, part in (("key", kind.key_type), ("value", kind.value_type)):
                yield (*prefix, name)
                yield from _names(part, (*prefix, name))


def _record(struct: StructType, field_id: int) -> dict[str, Any]:
    names = _avro_names([f.name for f in struct.fields])
    return {
        "type": "record",
        "name": f"__struct_{field_id:032x}",
        "fields": [_field(f, name) for f, name in zip(struct.fields, names, strict=True)],
        "native_data_type": str(struct),
        "_nullable": True,
    }


def _field(field: NestedField, name: str) -> dict[str, Any]:
    kind = _avro(field.field_type, field.field_id) | {"_nullable": not field.required}
    return {"name": name, "type": kind, "doc": field.doc}


def _avro(kind: IcebergType, field_id: int) -> dict[str, Any]:
    """The Avro type of a field (or list element, map key, map value) with that id."""
    native = str(kind)
    match kind:
        case StructType():
            return _record(kind, field_id)
        case ListType():
            items = _avro(kind.element_type, kind.element_id)
            return {
                "type": "array",
                "items": items,
                "native_data_type": native,
                "_nullable": not kind.element_required,
            }
        case MapType():
            key = _avro(kind.key_type, kind.key_id) | {"_nullable": False}
            value = _avro(kind.value_type, kind.value_id) | {"_nullable": not kind.value_required}
            fields = [{"name": "key", "type": key}, {"name": "value", "type": value}]
            entry = {"type": "record", "name": f"__map_entry_{field_id:032x}", "fields": fields}
            return {"type": "array", "items": entry, "native_data_type": native}
        case DecimalType():
            number = {"logicalType": "decimal", "precision": kind.precision, "scale": kind.scale}
            return _fixed(field_id, 1, native) | number
        case FixedType():
            return _fixed(field_id, len(kind), native)
    return {**_AVRO.get(native, {"type": "string"}), "native_data_type": native}


def _fixed(field_id: int, size: int, native: str) -> dict[str, Any]:
    return {"type": "fixed", "name": f"__fixed_{field_id:032x}", "size": size, "native_data_type": native}


def _avro_names(names: Sequence[str]) -> list[str]:
    """Names as Avro can hold them: it takes what is before the last dot for a namespace and drops it.

    DataHub's source leaves it at that, so `a.b` becomes `b`; where that name is taken, `a_b` is used.
    """
    taken = {name for name in names if "." not in name}
    result = []
    for name in names:
        if "." in name:
            plain, number = name.rpartition(".")[2], 1
            while not plain or plain in taken:
                plain = name.replace(".", "_") + (f"_{number}" if number > 1 else "")
                number += 1
            taken.add(plain)
            name = plain
        result.append(name)
    return result
