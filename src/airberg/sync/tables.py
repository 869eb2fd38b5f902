"""The tables of a run, made or changed before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from airberg.columns.arrow import table_fields
from airberg.columns.noted import protected_column
from airberg.governance.facts import facts_difference, planned_columns, table_facts
from airberg.lake.catalog import catalog_errors
from airberg.lake.schema import column_paths, schema_changes
from airberg.lake.tables import ensure_table, evolve
from airberg.plan.merging import new_format_version
from airberg.plan.model import JobPlan, StreamPlan
from airberg.plan.preparation import filled_columns
from airberg.plan.table_protection import protection_differences, refuse_differences
from airberg.sync.keys import RunKeys


class PreparedTables(NamedTuple):
    """The tables by name, and the properties that come with their new rows only.

    While an overwrite works its table still has the old rows, and the properties that say how these are
    protected. A property of None goes.
    """

    tables: dict[str, Table]
    at_swap: Mapping[str, Mapping[str, str | None]]


def prepare_tables(catalog: Catalog, job_id: UUID, plan: JobPlan, keys: RunKeys) -> PreparedTables:
    """Make or evolve all tables; a change that cannot be made fails here, before any table is changed.

    Raises:
        ConfigurationFailed: A table cannot take the rows, or has its columns protected otherwise.
        TransientFailed: The catalog did not answer.
    """
    opened, facts, changes = {}, {}, {}
    for stream in plan.streams:
        fields = table_fields(stream.columns, plan.add_ingestion_metadata)
        facts[stream.table] = table_facts(job_id, plan, stream, keys.settled(stream))
        table = opened[stream.table] = ensure_table(
            catalog,
            plan.namespace,
            stream.table,
            fields,
            facts[stream.table] | {"format-version": str(new_format_version(plan))},
            partition_by=stream.partition_by,
            sort_by=stream.sort_by,
            key_order=stream.key_order,
            identifier=stream.identifier,
        )
        name, filled = ".".join(table.name()), filled_columns(table)
        refuse_differences(protection_differences(stream, name, table.properties, filled))
        changes[stream.table] = schema_changes(table.schema(), fields)
    at_swap = {}
    for stream in plan.streams:
        table = opened[stream.table]
        at_swap[stream.table] = _note_facts(table, facts[stream.table], stream)
        opened[stream.table] = evolve(table, changes[stream.table])
    return PreparedTables(opened, at_swap)


def _note_facts(table: Table, facts: Mapping[str, str], stream: StreamPlan) -> Mapping[str, str | None]:
    """Give a table the facts that have changed (owner, protection); what has to wait is returned."""
    present = frozenset(".".join(path) for path in column_paths(table.schema()))
    updates, stale = facts_difference(table.properties, facts, present - planned_columns(stream))
    found: dict[str, str | None] = {**updates, **dict.fromkeys(stale)}
    waits = stream.mode == "overwrite" and table.current_snapshot() is not None
    later = {k: v for k, v in found.items() if waits and protected_column(k) is not None}
    now = {k: v for k, v in found.items() if k not in later}
    if now:
        with catalog_errors("noting facts in the table"), table.transaction() as transaction:
            transaction.set_properties({k: v for k, v in now.items() if v is not None})
            if gone := [k for k, v in now.items() if v is None]:
                transaction.remove_properties(*gone)
    return later
