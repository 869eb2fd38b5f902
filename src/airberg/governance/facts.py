"""What a table says about itself: Iceberg table properties, so that any catalog and any reader sees them.

DataHub's own Iceberg source turns them into custom properties, `owner` into the owner and `comment` into
the description, so they survive whoever ingests the table last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from airberg.columns.noted import protected_column, protection_property
from airberg.columns.types import ColumnType
from airberg.errors import ConfigurationFailed
from airberg.governance.resolve import owner_urn
from airberg.plan.key_versions import noted_versions
from airberg.plan.model import ColumnPlan, JobPlan, Path, ProtectionRule, StreamPlan
from airberg.plan.transformations import all_columns

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from airberg.jobs.model import Job


class ColumnLine(NamedTuple):
    """How one leaf of a record reaches the table.

    Attributes:
        source: Its path in the record.
        target: Its path in the table.
        operation: `IDENTITY`, or what happens of `RENAME`, `CAST`, then `ENCRYPT`, `HASH` or `MASK`, in this
            order, joined by `+`.
        rule: How it is protected, or None.
        type: Its type before that.
    """

    source: Path
    target: Path
    operation: str
    rule: ProtectionRule | None
    type: ColumnType


def column_lines(
    columns: Iterable[ColumnPlan], source: Path = (), target: Path = (), *, renamed: bool = False
) -> Iterator[ColumnLine]:
    """The leaves of a plan's columns, in order. A field of a renamed struct is renamed too."""
    for column in columns:
        path, name = (*source, column.source), (*target, column.name)
        moved = renamed or column.source != column.name
        if column.children:
            yield from column_lines(column.children, path, name, renamed=moved)
            continue
        steps = (
            ("RENAME", moved),
            ("CAST", column.cast_to),
            ("ENCRYPT", column.encrypt),
            ("HASH", column.hash),
            ("MASK", column.mask),
        )
        operation = "+".join(word for word, happens in steps if happens) or "IDENTITY"
        yield ColumnLine(path, name, operation, column.protection, column.cast_to or column.source_type)


def table_facts(
    job_id: UUID, plan: JobPlan, stream: StreamPlan, versions: Mapping[str, int]
) -> dict[str, str]:
    """The Iceberg table properties that a stream's table carries.

    `owner` (a user id; a group as urn, which DataHub's source passes through), `comment`, `airberg.job`,
    `airberg.source`, `airberg.stream`, `airberg.stream-namespace` where there is one, and per
    protected column a property that says how: see `airberg.columns.noted`.

    Args:
        job_id: The job that fills the table.
        plan: Its plan.
        stream: The stream that the table is of.
        versions: Which version of each key its deterministic and hashed columns have.
    """
    facts = {
        "comment": _description(plan, stream),
        "airberg.job": str(job_id),
        "airberg.source": plan.source_name,
        "airberg.stream": stream.name,
    }
    if stream.namespace:
        facts["airberg.stream-namespace"] = stream.namespace
    if owner := plan.governance.owner.strip():
        facts["owner"] = owner_urn(owner) if owner.startswith("group:") else owner
    for line in column_lines(stream.columns):
        if line.rule:
            name, text = protection_property(".".join(line.target), line.rule, line.type, versions)
            facts[name] = text
    return facts


def write_table_facts(table: Table, job: Job, stream: StreamPlan) -> bool:
    """Bring the properties of an existing table up to date in one commit without a snapshot.

    A `comment` that is there already stays: people write better ones.

    Returns:
        Whether anything had to change.

    Raises:
        ConfigurationFailed: The job has no plan yet.
        pyiceberg.exceptions.CommitFailedException: Somebody else committed at the same time.
    """
    if job.plan is None:
        raise ConfigurationFailed(f"The job {job.id} has no plan yet.", code="no-plan")
    facts = table_facts(job.id, job.plan, stream, noted_versions(table.properties))
    foreign = frozenset(table.schema().column_names) - planned_columns(stream)
    updates, removals = facts_difference(table.properties, facts, foreign)
    if not updates and not removals:
        return False
    with table.transaction() as transaction:
        if removals:
            transaction.remove_properties(*removals)
        if updates:
            transaction.set_properties(updates)
    return True


def facts_difference(
    present: Mapping[str, str], wanted: Mapping[str, str], foreign: AbstractSet[str] = frozenset()
) -> tuple[dict[str, str], tuple[str, ...]]:
    """What to set and what to remove so that a table's properties hold the wanted facts.

    Args:
        present: The properties.
        wanted: The facts.
        foreign: Dotted paths of columns that the table has from elsewhere: how they are protected stays.
    """
    updates = {
        k: v for k, v in wanted.items() if present.get(k) != v and not (k == "comment" and k in present)
    }
    stale = (
        k
        for k in present
        if k not in wanted and (column := protected_column(k)) is not None and column not in foreign
    )
    return updates, tuple(sorted(stale))


def planned_columns(stream: StreamPlan) -> frozenset[str]:
    """Dotted paths of the columns that a stream fills in its table."""
    return frozenset(".".join(path) for path, _ in all_columns(stream.columns))


def _description(plan: JobPlan, stream: StreamPlan) -> str:
    """The connector's own description of the stream where it has one."""
    schema = stream.catalog_stream.get("json_schema")
    described = schema.get("description") if isinstance(schema, dict) else None
    if isinstance(described, str) and described.strip():
        return described.strip()
    name = f"{stream.namespace}.{stream.name}" if stream.namespace else stream.name
    return f"Stream {name} of {plan.source_name}, loaded by Airberg."
