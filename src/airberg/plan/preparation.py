"""Preflight, plan and comparison with the tables: everything that a POST needs to know, in one child.

Imports what the HTTP process must not (Iceberg). The HTTP process reaches it through
`airberg.plan.child`, a run through `replan`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from airberg.columns.arrow import table_fields
from airberg.errors import ConfigurationFailed, InvalidRequest, Problem
from airberg.governance.policies import open_policies
from airberg.jobs.model import Job
from airberg.keys.access import state_refusal, use_refusal
from airberg.keys.port import KeyStore
from airberg.lake.catalog import open_catalog
from airberg.lake.layout import partition_texts, sort_texts
from airberg.lake.schema import column_paths, schema_changes
from airberg.lake.tables import find_table
from airberg.plan.key_versions import deterministic_versions
from airberg.plan.layout import pointer_part
from airberg.plan.merging import merge_options, new_format_version, table_notes
from airberg.plan.model import PROTECTIONS, IngestRequest, JobPlan, Path, StreamPlan, Transformation
from airberg.plan.planner import Connector, KeyDirectory, build_plan
from airberg.plan.prepared import Prepared, TableDifference
from airberg.plan.table_protection import Difference, protection_differences
from airberg.plan.transformations import Refusal
from airberg.settings import Settings
from airberg.sources.launch import LaunchDescription
from airberg.sources.preflight import preflight
from airberg.sources.recent import Found
from airberg.sources.registry import load_registry
from airberg.sources.secret_fields import mask_config
from airberg.sources.verbs import discover


def prepare(
    request: IngestRequest,
    source_config: dict[str, Any],
    settings: Settings,
    keys: KeyStore,
    *,
    deadline: float,
    roles: AbstractSet[str] = frozenset(),
    recent: Found | None = None,
    on_found: Callable[[Found], None] | None = None,
) -> Prepared:
    """Check the source, plan the job, compare with the tables that exist.

    Args:
        keys: The keys, which the job's owner must be allowed to use.
        deadline: Moment (of `time.monotonic`) at which an answer must be there.
        roles: The roles of the job's owner, as far as they are known.
        recent: What the source was found to offer a short while ago.
        on_found: Gets what it was found to offer now, when it had to be asked.

    Raises:
        InvalidRequest: With everything that is wrong.
        Unavailable: The connector is still being installed, or did not answer in time.
    """
    renewed: list[dict[str, Any]] = []
    entry = request.connector or load_registry(settings).find(request.source_name, request.source_version)
    found = preflight(
        entry,
        source_config,
        settings,
        deadline,
        on_config=renewed.append,
        recent=recent,
        owner=request.owner_id,
        protects=request.protects_columns,
    )
    if on_found is not None and found.asked:
        on_found(found.to_keep(renewed[-1] if renewed else None))
    connector = Connector(request.source_name, found.launch.version, found.streams, time.time())
    tables = TargetTables(settings, request.schema_name)
    owner = request.owner_id
    allowed = functools.partial(use_refusal, keys, owner=owner, roles=roles)
    plan = _build(request, connector, settings, allowed, tables)
    differences = compare_tables(plan, tables, keys, request.column_transformations)
    notes = table_notes(request, plan, tables.format_versions())
    config = renewed[-1] if renewed else source_config
    hidden = found.given.hidden if found.given is not None else frozenset()
    return Prepared(
        plan=msgspec.structs.replace(plan, warnings=(*plan.warnings, *notes)),
        public_config=mask_config(found.launch.spec, config, hidden),
        renewed_config=config if renewed else None,
        tables=tuple(differences),
        connector=entry,
    )


def replan(
    job: Job,
    launch: LaunchDescription,
    source_config: dict[str, Any],
    settings: Settings,
    keys: KeyStore,
    *,
    on_config: Callable[[dict[str, Any]], None],
    told: Callable[[str], str] = str,
    hidden: frozenset[str] = frozenset(),
) -> JobPlan:
    """Plan an existing job again, from what its source offers now.

    Who may use the keys was settled when the job was made; what counts from then on is their state.

    Args:
        source_config: With its references resolved.
        on_config: See `airberg.sources.verbs.Inquiry`, as for `told` and `hidden`.

    Raises:
        InvalidRequest: The source no longer offers what the job asks for.
        RunError: The source could not be asked.
    """
    timeout = settings.sources.discover_timeout_s
    streams = discover(launch, source_config, timeout, on_config, told, hidden)
    connector = Connector(job.request.source_name, launch.version, streams, time.time())
    governance = job.plan.governance if job.plan else job.request.governance
    if governance is None or (governance.domain is None and job.request.domain):  # of an earlier version
        governance = open_policies(settings).with_domain(job.request)
    request = msgspec.structs.replace(job.request, governance=governance)
    tables = TargetTables(settings, job.request.schema_name)
    usable = functools.partial(state_refusal, keys)
    return _build(request, connector, settings, usable, tables)


def _build(
    request: IngestRequest,
    connector: Connector,
    settings: Settings,
    refusal: Refusal,
    tables: TargetTables,
) -> JobPlan:
    return build_plan(
        request,
        connector,
        KeyDirectory(settings.keys.default_key, refusal),
        present=tables.column_paths,
        merging=merge_options(request, settings.merge),
    )


class TargetTables:
    """The tables that a job would write to, each loaded once.

    Raises:
        ConfigurationFailed, TransientFailed: The catalog refused or did not answer.
    """

    def __init__(self, settings: Settings, schema_name: str) -> None:
        self._settings = settings
        self._namespace = tuple(schema_name.split("."))
        self._catalog: Catalog | None = None
        self._found: dict[str, Table | None] = {}

    def find(self, name: str) -> Table | None:
        """The table, or None when there is none."""
        if name not in self._found:
            self._catalog = self._catalog or open_catalog(self._settings)
            self._found[name] = find_table(self._catalog, self._namespace, name)
        return self._found[name]

    def format_versions(self) -> dict[str, int]:
        """The format version of each table that was looked for and is there."""
        return {name: table.metadata.format_version for name, table in self._found.items() if table}

    def column_paths(self, name: str) -> frozenset[Path]:
        """The columns that the table has; none when there is none."""
        table = self.find(name)
        return column_paths(table.schema()) if table else frozenset()


def compare_tables(
    plan: JobPlan,
    tables: TargetTables,
    keys: KeyStore,
    transformations: Sequence[Transformation] = (),
) -> list[TableDifference]:
    """How each target table differs from what exists.

    Args:
        plan: The plan.
        tables: The tables.
        keys: The keys of its columns.
        transformations: As sent: what is wrong with a column is said of its transformation.

    Raises:
        InvalidRequest: A column would have to change in a way that a table cannot follow, or a table that
            exists is partitioned or sorted, or its columns are protected, otherwise than asked.
    """
    problems: list[Problem] = []
    out: list[TableDifference] = []
    for stream in plan.streams:
        wanted = table_fields(stream.columns, plan.add_ingestion_metadata)
        name = ".".join((*plan.namespace, stream.table))
        schema = {f.name: str(f.type) for f in wanted}
        table = tables.find(stream.table)
        if table is None:
            out.append(
                TableDifference(
                    table=name,
                    exists=False,
                    columns=schema,
                    partition_by=tuple(map(str, stream.partition_by)),
                    sort_by=tuple(map(str, stream.sort_by or stream.key_order)),
                    identifier=tuple(".".join(path) for path in stream.identifier),
                    format_version=new_format_version(plan),
                )
            )
            continue
        problems += _layout_problems(stream, name, table)
        try:
            differing = protection_differences(stream, name, table.properties, filled_columns(table))
            if differing:
                problems += [_protection_problem(d, stream, transformations) for d in differing]
                continue
            changes = schema_changes(table.schema(), wanted)
            deterministic_versions(stream, table.properties, keys.describe)
        except ConfigurationFailed as e:
            problems.append(Problem("/schema_name", "table-does-not-fit", f"{name}: {e.message}", e.guidance))
            continue
        out.append(
            TableDifference(
                table=name,
                exists=True,
                columns=schema,
                changes=tuple(map(str, changes)),
                partition_by=tuple(partition_texts(table)),
                sort_by=tuple(sort_texts(table)),
                identifier=tuple(sorted(table.schema().identifier_field_names())),
                format_version=table.metadata.format_version,
            )
        )
    if problems:
        raise InvalidRequest(problems)
    return out


def filled_columns(table: Table) -> frozenset[Path]:
    """The columns of a table that may have values: none before the first commit of rows."""
    return column_paths(table.schema()) if table.current_snapshot() else frozenset()


def _protection_problem(
    difference: Difference, stream: StreamPlan, transformations: Sequence[Transformation]
) -> Problem:
    column = ".".join(difference.source)
    places = [
        i
        for i, t in enumerate(transformations)
        if t.column == column and (t.stream is None or t.stream.endswith(stream.name))
    ]
    protecting = [i for i in places if transformations[i].transformation_type in PROTECTIONS]
    at = next(iter(protecting or places), None)
    return Problem(
        "/column_transformations" if at is None else f"/column_transformations/{at}",
        "protection-differs",
        difference.message,
        difference.guidance,
    )


def _layout_problems(stream: StreamPlan, name: str, table: Table) -> list[Problem]:
    """A table that exists keeps its partitions and its order; asking for others is refused, not ignored."""
    stream_pointer = f"/tables/{pointer_part(stream.name)}"
    compared = (
        ("partition_by", "partitioned by", list(map(str, stream.partition_by)), partition_texts(table)),
        ("sort_by", "sorted by", list(map(str, stream.sort_by)), sort_texts(table)),
    )
    return [
        Problem(
            f"{stream_pointer}/{member}",
            "table-layout-differs",
            f"{name} exists and is {words} {', '.join(there) or 'nothing'}, not {', '.join(asked)}.",
            f"Leave {member} out to keep the table as it is, or write to a new table.",
        )
        for member, words, asked, there in compared
        if asked and asked != there
    ]
