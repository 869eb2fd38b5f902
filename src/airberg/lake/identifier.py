"""Identifier fields: the columns of a table that tell its rows apart, and what happens when one has no value.

Iceberg asks that identifier fields are required, and no null may ever be written into a required column. A
source that calls a column its primary key may still send nulls in it: then the table gives its identifier up,
in one commit of its schema before the row is staged, and the run is repeated on optional columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from airberg.errors import ConfigurationFailed, TransientFailed
from airberg.lake.catalog import catalog_errors

IDENTIFIER_PROPERTY = "airberg.identifier"
"""Table property, "primary-key" where Airberg made the identifier fields and may give them up."""

PRIMARY_KEY = "primary-key"


class RequiredColumns:
    """The required columns of a table, which every batch must have values for.

    Args:
        table: Whose schema counts, as it is now.
    """

    def __init__(self, table: Table) -> None:
        self._names = tuple(field.name for field in table.schema().fields if field.required)

    def without_value(self, batch: pa.RecordBatch) -> list[str]:
        """Required columns in which a row of the batch has no value. Costs one look at a count each."""
        if not self._names or not batch.num_rows:
            return []
        places = {name: place for place, name in enumerate(batch.schema.names)}
        return [
            name for name in self._names if name not in places or batch.column(places[name]).null_count > 0
        ]


def refuse_nulls(catalog: Catalog, table: Table, columns: Sequence[str]) -> None:
    """Make room for nulls in required columns, if they are ours, and end the run.

    Args:
        catalog: Where the table is loaded from afresh.
        table: The table.
        columns: The required columns that a row has no value for.

    Raises:
        TransientFailed: Always, unless the next error is; the next run finds optional columns.
        ConfigurationFailed: The columns are required by somebody else's decision, or the table is gone.
    """
    name, listed = ".".join(table.name()), ", ".join(repr(column) for column in columns)
    with catalog_errors(f"loading the table {name}"):
        try:
            fresh = catalog.load_table(table.name())
        except NoSuchTableError:
            raise ConfigurationFailed(
                f"The table {name} was dropped during the run.",
                guidance="Run again to load it from the beginning.",
                code="table-replaced",
            ) from None
    if _still_required(fresh.schema(), columns):
        if fresh.properties.get(IDENTIFIER_PROPERTY) != PRIMARY_KEY:
            raise ConfigurationFailed(
                f"A row has no value for {listed}, which {name} requires.",
                guidance="Make the column optional, or write to a new table.",
                code="column-required",
            )
        _give_up(fresh)
    raise TransientFailed(
        f"A row has no value for {listed}, part of its primary key. {name} has no identifier fields any "
        "more, and takes such rows from now on.",
        guidance="Run again: the row is written then.",
        code="key-without-value",
    )


def _still_required(schema: Schema, columns: Sequence[str]) -> bool:
    return any(field.required for field in schema.fields if field.name in columns)


def _give_up(table: Table) -> None:
    """One commit: no identifier fields, their columns optional.

    All of them: a part of a key does not tell rows apart, and the next part may have nulls as well.
    """
    name = ".".join(table.name())
    names = sorted(table.schema().identifier_field_names())
    with catalog_errors(f"changing the schema of {name}"):
        try:
            with table.transaction() as transaction:
                with transaction.update_schema() as update:
                    update.set_identifier_fields()
                    for column in names:
                        update.make_column_optional(column)
                transaction.remove_properties(IDENTIFIER_PROPERTY)
        except CommitFailedException:
            raise TransientFailed(
                f"The schema of {name} was changed by somebody else at the same time.",
                guidance="Run again: the next run compares with the schema that is there then.",
                code="schema-changed",
            ) from None
