"""A catalog of tables that DataHub's own Iceberg source and Airberg both describe."""

from __future__ import annotations

from pathlib import Path

from pyiceberg.catalog import Catalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform, MonthTransform, TruncateTransform, VoidTransform
from pyiceberg.types import (
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampNanoType,
    TimestamptzNanoType,
    TimestamptzType,
    UnknownType,
)

from airberg.lake.tables import ensure_table
from airberg.plan.model import PartitionTerm
from support.governed_tables import every_type, make_customers, make_every_type, make_orders
from support.lake_tables import FIELDS, NAMESPACE, note, rows, writer


def make_parity_tables(catalog: Catalog, spill: Path) -> None:
    """Every type in versions 2 and 3, partitions, history, people's properties, awkward names."""
    make_every_type(catalog)
    make_customers(catalog, {"comment": "", "owner": "urn:li:corpGroup:crm"})
    make_orders(catalog)
    _every_type_of_version_3(catalog)
    _partitions_and_history(catalog)
    _awkward_names(catalog)
    for version in (2, 3):
        _loaded_by_airberg(catalog, spill, version)


def _every_type_of_version_3(catalog: Catalog) -> None:
    columns = every_type().fields
    nested = StructType(
        NestedField(80, "at", TimestampNanoType(), required=False),
        NestedField(81, "nothing", UnknownType(), required=False),
    )
    added = (
        NestedField(60, "nanos", TimestampNanoType(), required=False, doc="Of the day's end"),
        NestedField(61, "nanos with zone", TimestamptzNanoType(), required=False),
        NestedField(62, "nothing", UnknownType(), required=False),
        NestedField(63, "deep", ListType(82, MapType(83, StringType(), 84, nested), element_required=True)),
    )
    catalog.create_table("sales.Everything_v3", Schema(*columns, *added), properties={"format-version": "3"})


def _partitions_and_history(catalog: Catalog) -> None:
    """Four transforms, an identifier, and columns that were added, renamed, dropped and widened later."""
    schema = Schema(
        NestedField(1, "id", LongType(), required=True),
        NestedField(2, "at", TimestamptzType(), required=False),
        NestedField(3, "region", StringType(), required=False, doc=""),
        NestedField(4, "gone", StringType(), required=False),
        identifier_field_ids=[1],
    )
    spec = PartitionSpec(
        PartitionField(1, 1000, BucketTransform(8), "id_bucket"),
        PartitionField(2, 1001, MonthTransform(), "at_month"),
        PartitionField(3, 1002, TruncateTransform(3), "region_trunc"),
        PartitionField(3, 1003, VoidTransform(), "region_void"),
    )
    facts = {
        "created-at": "2026-01-02T03:04:05.678Z",
        "owner": "bob, (crm) %",
        "comment": "Zeilen\nüber alles",
    }
    table = catalog.create_table("sales.events", schema, partition_spec=spec, properties=facts)
    with table.update_schema() as update:
        update.add_column("later", StringType(), doc="Added later")
        update.rename_column("region", "area")
        update.delete_column("gone")


def _awkward_names(catalog: Catalog) -> None:
    """A namespace of two parts, one in capitals with umlauts; a table and columns that need quoting."""
    names = ("Größe", "first name", "a.b", "1st", "order", "x-y", "$ref", "[type=string]", "日本")
    fields = [NestedField(i, name, StringType(), required=False) for i, name in enumerate(names, 1)]
    catalog.create_namespace("Übersee", {"location": f"{catalog.properties['warehouse']}/uebersee"})
    catalog.create_table("Übersee.Straßen (alt), neu", Schema(*fields), properties={"created-at": "gestern"})
    catalog.create_namespace("empty")


def _loaded_by_airberg(catalog: Catalog, spill: Path, version: int) -> None:
    """Merged into twice: in version 3 with deletion vectors, row lineage, and the connector's position."""
    facts = {"comment": "Stream", "owner": "alice@example.com", "format-version": str(version)}
    by_day = PartitionTerm(transform="day", source=("_ab_cdc_deleted_at",), column=("_ab_cdc_deleted_at",))
    table = ensure_table(
        catalog, NAMESPACE, f"loaded_v{version}", FIELDS, facts, partition_by=[by_day], identifier=[("id",)]
    )
    for number in range(2):
        merging = writer(catalog, "merge", spill, table=table)
        merging.write(rows((1, f"n{number}", number), (number + 2, "new", number)))
        merging.finish(note(number, state={"position": number}))
        table = merging.table
