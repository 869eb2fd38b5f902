"""Tables: making them, changing their schema, describing them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
    ValidationError,
)
from pyiceberg.table import Table
from sqlalchemy.exc import IntegrityError

from airberg.columns.types import Field
from airberg.errors import ConfigurationFailed, TransientFailed
from airberg.lake.arrange import Arrangement
from airberg.lake.catalog import catalog_errors
from airberg.lake.identifier import IDENTIFIER_PROPERTY, PRIMARY_KEY
from airberg.lake.layout import partition_spec, partition_texts, sort_order, sort_texts
from airberg.lake.manifests import NEWEST
from airberg.lake.read import row_count
from airberg.lake.schema import (
    AddedColumn,
    Path,
    PromotedColumn,
    SchemaChange,
    iceberg_schema,
    iceberg_type,
    type_text,
)
from airberg.plan.model import PartitionTerm, SortTerm

log = logging.getLogger(__name__)

_NEW_TABLE = {"format-version": "2", "write.parquet.compression-codec": "zstd"}


@dataclass(frozen=True, slots=True)
class SnapshotSummary:
    """One snapshot of a table: milliseconds since the epoch, and counts of rows as it records them."""

    snapshot_id: int
    timestamp_ms: int
    operation: str
    added_records: int
    deleted_records: int
    total_records: int


@dataclass(frozen=True, slots=True)
class TableSummary:
    """What a table is now: columns as name and type, snapshots in the order of their making."""

    identifier: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]
    row_count: int
    snapshots: tuple[SnapshotSummary, ...]
    location: str
    metadata_location: str


def find_table(catalog: Catalog, namespace: tuple[str, ...], name: str) -> Table | None:
    """The table, or None when there is none.

    Raises:
        ConfigurationFailed, TransientFailed: The catalog refused or did not answer.
    """
    with catalog_errors(f"loading the table {'.'.join((*namespace, name))}"):
        try:
            return catalog.load_table((*namespace, name))
        except (NoSuchTableError, NoSuchNamespaceError):
            return None


def ensure_table(
    catalog: Catalog,
    namespace: tuple[str, ...],
    name: str,
    fields: Sequence[Field],
    properties: Mapping[str, str] | None = None,
    partition_by: Sequence[PartitionTerm] = (),
    sort_by: Sequence[SortTerm] = (),
    key_order: Sequence[SortTerm] = (),
    identifier: Sequence[Path] = (),
) -> Table:
    """The table, made with these columns if there is none; with its namespace.

    An existing table is returned as it is: compare `table.schema()` by `schema_changes` and `evolve` it; its
    partitions, sort order and identifier stay its own. New ones are zstd-compressed Parquet, of format
    version 2 where the properties do not say another (`format-version`).

    Args:
        catalog: The catalog.
        namespace: Parts of the namespace, from the top.
        name: Name of the table.
        fields: Columns of a new table.
        properties: Further properties of a new table.
        partition_by: How a new table is partitioned.
        sort_by: How the rows in each file of a new table are sorted.
        key_order: The same where `sort_by` says nothing; a table with another order is as good.
        identifier: Paths of the identifier fields of a new table; their columns are required.

    Raises:
        ConfigurationFailed: There is a table that Airberg cannot write correctly, or the columns collide.
        TransientFailed: The catalog did not answer.
    """
    if (table := find_table(catalog, namespace, name)) is None:
        schema = iceberg_schema(fields, identifier)
        with catalog_errors(f"creating the table {'.'.join((*namespace, name))}"):
            _ensure_namespace(catalog, namespace)
            try:
                # A copy: pyiceberg takes the format version out of what it is given.
                wanted = {**_NEW_TABLE, **(properties or {})}
                if identifier:
                    wanted[IDENTIFIER_PROPERTY] = PRIMARY_KEY
                table = catalog.create_table(
                    (*namespace, name),
                    schema,
                    partition_spec=partition_spec(schema, partition_by),
                    sort_order=sort_order(schema, sort_by or key_order),
                    properties=wanted,
                )
            except TableAlreadyExistsError:  # somebody else was quicker
                table = catalog.load_table((*namespace, name))
    check_writable(table)
    for asked, there in (
        ([str(term) for term in partition_by], partition_texts(table)),
        ([str(term) for term in sort_by], sort_texts(table)),
    ):
        if asked and asked != there:  # found at submit where the source was asked then
            log.warning(
                "%s keeps what it has, %s, not %s",
                ".".join(table.name()),
                ", ".join(there) or "nothing",
                ", ".join(asked),
            )
    return table


def _ensure_namespace(catalog: Catalog, namespace: tuple[str, ...]) -> None:
    for depth in range(1, len(namespace) + 1):
        part = namespace[:depth]
        if catalog.namespace_exists(part):
            continue
        try:
            catalog.create_namespace(part)
        except (NamespaceAlreadyExistsError, IntegrityError):
            # The SQL catalog asks first and inserts then, so a race shows as a broken constraint.
            if not catalog.namespace_exists(part):
                raise


def check_writable(table: Table) -> None:
    """Refuse a table whose rows would not be the same once they went through here.

    Raises:
        ConfigurationFailed: It is such a table.
    """
    name = ".".join(table.name())
    if table.metadata.format_version > NEWEST:
        raise ConfigurationFailed(
            f"The table {name} has Iceberg format version {table.metadata.format_version}.",
            guidance=f"Airberg writes versions 1 to {NEWEST}: write to another schema or table name.",
            code="table-format-version",
        )
    # Version 3: rows of files without the column have that value; here they would be read as null.
    if defaults := [field.name for field in table.schema().fields if field.initial_default is not None]:
        raise ConfigurationFailed(
            f"Columns of the table {name} have initial default values: {', '.join(defaults[:5])}.",
            guidance="Airberg does not read those: write to another schema or table name.",
            code="table-default-values",
        )
    Arrangement(table)  # refuses partitions that it cannot make


def evolve(table: Table, changes: Sequence[SchemaChange]) -> Table:
    """Apply changes of schema in one commit, and return the table as it is then.

    Raises:
        ConfigurationFailed: The catalog or Iceberg's rules refuse a change.
        TransientFailed: Somebody else changed the schema meanwhile.
    """
    if not changes:
        return table
    name = ".".join(table.name())
    with catalog_errors(f"changing the schema of {name}"):
        try:
            with table.update_schema() as update:
                for change in changes:
                    match change:
                        case AddedColumn(path=path, type=type_, doc=doc):
                            update.add_column(path, iceberg_type(type_), doc=doc, required=False)
                        case PromotedColumn(path=path, new=new):
                            # The types of the plan are primitives here: nothing else is ever promoted.
                            update.update_column(path, field_type=iceberg_type(new))
        except CommitFailedException:
            raise TransientFailed(
                f"The schema of {name} was changed by somebody else at the same time.",
                guidance="Run again: the next run compares with the schema that is there then.",
                code="schema-changed",
            ) from None
        except (ValidationError, ValueError) as error:
            raise ConfigurationFailed(
                f"The schema of {name} cannot be changed: {error}",
                guidance="Rename the column, or write to a new table.",
                code="schema-change-refused",
            ) from None
    return table.refresh()


def describe(table: Table) -> TableSummary:
    """What the table is now: columns, rows, snapshots, places.

    Raises:
        ConfigurationFailed, TransientFailed: Its storage refused or failed.
    """
    with catalog_errors(f"reading the table {'.'.join(table.name())}"):
        rows = row_count(table)
    return TableSummary(
        identifier=tuple(table.name()),
        fields=tuple((f.name, type_text(f.field_type)) for f in table.schema().fields),
        row_count=rows,
        snapshots=tuple(_snapshots(table)),
        location=table.location(),
        metadata_location=table.metadata_location,
    )


def _snapshots(table: Table) -> list[SnapshotSummary]:
    result = []
    for snapshot in table.snapshots():
        summary = snapshot.summary
        facts = summary.additional_properties if summary else {}
        result.append(
            SnapshotSummary(
                snapshot_id=snapshot.snapshot_id,
                timestamp_ms=snapshot.timestamp_ms,
                operation=summary.operation.value if summary else "",
                added_records=int(facts.get("added-records", 0)),
                deleted_records=int(facts.get("deleted-records", 0)),
                total_records=int(facts.get("total-records", 0)),
            )
        )
    return result
