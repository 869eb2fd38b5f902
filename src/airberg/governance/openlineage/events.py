"""The events of an attempt: START, and then one of COMPLETE, FAIL and ABORT.

Pure functions of job, attempt and tables, so that an event that is told twice is the same. Names, types and
counts only: never the value of a column, and never a configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from openlineage.client import event_v2 as core
from openlineage.client.facet_v2 import (
    catalog_dataset,
    column_lineage_dataset,
    dataset_version_dataset,
    documentation_dataset,
    documentation_job,
    error_message_run,
    job_type_job,
    lifecycle_state_change_dataset,
    nominal_time_run,
    output_statistics_output_dataset,
    ownership_job,
    parent_run,
    processing_engine_run,
    schema_dataset,
    symlinks_dataset,
)
from openlineage.client.uuid import generate_static_uuid
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import IcebergType, ListType, MapType, NestedField, StructType

from airberg import __version__
from airberg.governance.facts import ColumnLine, column_lines
from airberg.governance.openlineage import naming
from airberg.governance.openlineage.attempts import Attempt, LoadedTables
from airberg.governance.openlineage.naming import DatasetName
from airberg.jobs.model import Job, RunStatus, StreamReport
from airberg.plan.model import ColumnPlan, StreamPlan

PRODUCER = f"urn:airberg:{__version__}"
MAX_MESSAGE = 2000
Facets: TypeAlias = dict[str, Any]

_ENDS = {
    RunStatus.COMPLETED: core.RunState.COMPLETE,
    RunStatus.FAILED: core.RunState.FAIL,
    RunStatus.CANCELLED: core.RunState.ABORT,
}
_SCHEDULED = re.compile(r"scheduled__(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))")


def run_id(attempt: Attempt) -> UUID:
    """OpenLineage's id of an attempt: always the same for the same one, whoever tells of it."""
    part = "" if attempt.run.part is None else f".part-{attempt.run.part}"
    data = f"{attempt.namespace}.{attempt.job.id}.{attempt.run.id}.{attempt.run.attempt}{part}"
    return generate_static_uuid(attempt.run.created_at, data.encode())


def start_event(attempt: Attempt, at: datetime, loaded: LoadedTables | None) -> core.RunEvent:
    """The attempt has begun. Without tables, where it came to its end before there were any."""
    return _event(core.RunState.START, attempt, at, loaded, {})


def end_event(
    attempt: Attempt,
    at: datetime,
    loaded: LoadedTables | None,
    before: Mapping[str, StreamReport],
) -> core.RunEvent:
    """The attempt has ended, as its run says. What is not known to have ended was aborted.

    Args:
        attempt: Its run has the status, the error and the report.
        at: When.
        loaded: The tables, if there were any.
        before: By table, what the report was made of when the attempt began.
    """
    state = _ENDS.get(attempt.run.status, core.RunState.ABORT)
    if attempt.run.error_code == "run-lost":
        state = core.RunState.ABORT
    done = {report.table: (report, before.get(report.table)) for report in attempt.run.report.streams}
    return _event(state, attempt, at, loaded, done, error=attempt.run.error or _untold(state))


def _untold(state: core.RunState) -> str | None:
    return "It ended without a word." if state is core.RunState.ABORT else None


Done: TypeAlias = Mapping[str, tuple[StreamReport, StreamReport | None]]


def _event(
    state: core.RunState,
    attempt: Attempt,
    at: datetime,
    loaded: LoadedTables | None,
    done: Done,
    *,
    error: str | None = None,
) -> core.RunEvent:
    ended = state is not core.RunState.START
    inputs, outputs = _datasets(attempt.job, loaded, done, ended=ended) if loaded else ([], [])
    event = core.RunEvent(
        eventType=state,
        eventTime=at.isoformat(),
        producer=PRODUCER,
        run=core.Run(runId=str(run_id(attempt)), facets=_run_facets(attempt, error)),
        job=core.Job(
            namespace=attempt.namespace, name=job_name(attempt.job), facets=_job_facets(attempt.job)
        ),
        inputs=inputs,
        outputs=outputs,
    )
    for facets in _all_facets(event):
        for facet in facets.values():
            facet._producer = PRODUCER  # the client has a setter for the whole process only
    return event


def job_name(job: Job) -> str:
    """The name of a job: that of its flow and a suffix, as the flow and its tasks are jobs of Airflow's."""
    return f"{job.flow_id}.load"


def _all_facets(event: core.RunEvent) -> Iterable[Facets]:
    yield from (event.run.facets or {}, event.job.facets or {})
    for dataset in (*(event.inputs or ()), *(event.outputs or ())):
        yield dataset.facets or {}
    for output in event.outputs or ():
        yield output.outputFacets or {}


# ---- run and job -----------------------------------------------------------------------------------------


def _run_facets(attempt: Attempt, error: str | None) -> Facets:
    facets: Facets = {
        "processing_engine": processing_engine_run.ProcessingEngineRunFacet(
            version=__version__, name="airberg", openlineageAdapterVersion=__version__
        )
    }
    if nominal := _nominal_time(attempt.run.flow_run_id):
        facets["nominalTime"] = nominal_time_run.NominalTimeRunFacet(nominalStartTime=nominal)
    if parent := _parent(attempt.parent):
        facets["parent"] = parent
    if error:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
            message=error[:MAX_MESSAGE], programmingLanguage="python"
        )
    return facets


def _nominal_time(flow_run_id: str) -> str | None:
    """The time in Airflow's id of a scheduled run; None when it is no date-time of RFC 3339.

    Those are what the specification takes, and anybody may start a run by an id that only looks like one.
    """
    found = _SCHEDULED.match(flow_run_id)
    if found is None:
        return None
    try:
        datetime.fromisoformat(found.group(1))
    except ValueError:
        return None
    return found.group(1)


def _parent(environment: Mapping[str, str]) -> parent_run.ParentRunFacet | None:
    """The task that started us, by the variables that others (dbt) look at too; None when they are wrong."""
    parent = _identity(environment.get("OPENLINEAGE_PARENT_ID"))
    if parent is None:
        return None
    root = _identity(environment.get("OPENLINEAGE_ROOT_PARENT_ID"))
    return parent_run.ParentRunFacet(
        run=parent_run.Run(runId=parent[2]),
        job=parent_run.Job(namespace=parent[0], name=parent[1]),
        root=parent_run.Root(
            run=parent_run.RootRun(runId=root[2]), job=parent_run.RootJob(namespace=root[0], name=root[1])
        )
        if root
        else None,
    )


def _identity(text: str | None) -> tuple[str, str, str] | None:
    """Namespace, name and run id of `<namespace>/<name>/<run id>`."""
    parts = (text or "").rsplit("/", 2)
    if len(parts) != 3 or not all(parts):
        return None
    try:
        return parts[0], parts[1], str(UUID(parts[2]))
    except ValueError:
        return None


def _job_facets(job: Job) -> Facets:
    facets: Facets = {
        "jobType": job_type_job.JobTypeJobFacet(
            processingType="BATCH", integration="AIRBERG", jobType="INGESTION"
        ),
        "documentation": documentation_job.DocumentationJobFacet(
            description=f"{job.request.name}: loads {job.request.source_name} into {job.request.schema_name}."
        ),
    }
    if job.owner_id:
        owner = ownership_job.Owner(name=job.owner_id, type="TECHNICAL_OWNER")
        facets["ownership"] = ownership_job.OwnershipJobFacet(owners=[owner])
    return facets


# ---- datasets --------------------------------------------------------------------------------------------


def _datasets(
    job: Job, loaded: LoadedTables, done: Done, *, ended: bool
) -> tuple[list[core.InputDataset], list[core.OutputDataset]]:
    inputs: dict[DatasetName, core.InputDataset] = {}
    outputs = []
    for stream in loaded.plan.streams:
        source = naming.source_dataset(loaded.plan.source_name, stream, job.public_config)
        inputs.setdefault(source, _input(source, stream))
        if (table := loaded.tables.get(stream.table)) is not None:
            outputs.append(_output(source, stream, table, loaded, done.get(stream.table), ended=ended))
    return list(inputs.values()), outputs


def _input(name: DatasetName, stream: StreamPlan) -> core.InputDataset:
    fields = [
        _field(column.source, str(column.source_type), column.doc, _source_fields(column.children), number)
        for number, column in enumerate(stream.columns, 1)
    ]
    facets: Facets = {"schema": schema_dataset.SchemaDatasetFacet(fields=fields)} if fields else {}
    return core.InputDataset(namespace=name.namespace, name=name.name, facets=facets)


def _source_fields(columns: Iterable[ColumnPlan]) -> list[schema_dataset.SchemaDatasetFacetFields]:
    return [_field(c.source, str(c.source_type), c.doc, _source_fields(c.children)) for c in columns]


def _output(
    source: DatasetName,
    stream: StreamPlan,
    table: Table,
    loaded: LoadedTables,
    done: tuple[StreamReport, StreamReport | None] | None,
    *,
    ended: bool,
) -> core.OutputDataset:
    name = naming.table_dataset(table.metadata.location)
    report, before = done or (None, None)
    facets = _table_facets(source, stream, table, loaded)
    snapshots = report.snapshot_ids[len(before.snapshot_ids) if before else 0 :] if report else ()
    if snapshots:
        version = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=str(snapshots[-1]))
        facets["version"] = version
    changes = lifecycle_state_change_dataset.LifecycleStateChange
    change = changes.CREATE if stream.table in loaded.fresh and (snapshots or not ended) else None
    if change is None and stream.mode == "overwrite" and snapshots:
        change = changes.OVERWRITE
    if change is not None:
        facets["lifecycleStateChange"] = lifecycle_state_change_dataset.LifecycleStateChangeDatasetFacet(
            lifecycleStateChange=change
        )
    return core.OutputDataset(
        namespace=name.namespace,
        name=name.name,
        facets=facets,
        outputFacets=_statistics(report, before) if report else {},
    )


def _statistics(report: StreamReport, before: StreamReport | None) -> Facets:
    """What this attempt wrote: the report is of the run, over all its attempts."""
    rows = report.rows_written - (before.rows_written if before else 0)
    size = report.bytes_written - (before.bytes_written if before else 0)
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=rows, size=size)
    return {"outputStatistics": statistics}


def _table_facets(source: DatasetName, stream: StreamPlan, table: Table, loaded: LoadedTables) -> Facets:
    properties = loaded.catalog_properties
    identity = naming.catalog_dataset(loaded.catalog_name, properties, tuple(table.name()))
    uri, warehouse = properties.get("uri"), properties.get("warehouse")
    facets: Facets = {
        "schema": schema_dataset.SchemaDatasetFacet(fields=_table_fields(table.schema())),
        "symlinks": symlinks_dataset.SymlinksDatasetFacet(
            identifiers=[
                symlinks_dataset.Identifier(namespace=identity.namespace, name=identity.name, type="TABLE")
            ]
        ),
        "catalog": catalog_dataset.CatalogDatasetFacet(
            framework="iceberg",
            type=naming.catalog_type(properties),
            name=loaded.catalog_name,
            metadataUri=naming.without_credentials(uri) if uri else None,
            warehouseUri=naming.without_credentials(warehouse) if warehouse else None,
            source="airberg",
        ),
    }
    if lines := list(column_lines(stream.columns)):
        facets["columnLineage"] = _column_lineage(source, lines)
    if comment := table.metadata.properties.get("comment"):
        facets["documentation"] = documentation_dataset.DocumentationDatasetFacet(description=comment)
    return facets


def _column_lineage(
    source: DatasetName, lines: Iterable[ColumnLine]
) -> column_lineage_dataset.ColumnLineageDatasetFacet:
    """Columns by dotted paths. A rename alone leaves the value as it is; what is protected is masked."""
    fields = {}
    for line in lines:
        changed = set(line.operation.split("+")) - {"IDENTITY", "RENAME"}
        transformation = column_lineage_dataset.Transformation(
            type="DIRECT",
            subtype="TRANSFORMATION" if changed else "IDENTITY",
            description=line.operation,
            masking=line.rule is not None,
        )
        origin = column_lineage_dataset.InputField(
            namespace=source.namespace,
            name=source.name,
            field=".".join(line.source),
            transformations=[transformation],
        )
        fields[".".join(line.target)] = column_lineage_dataset.Fields(inputFields=[origin])
    return column_lineage_dataset.ColumnLineageDatasetFacet(fields=fields, dataset=None)


def _table_fields(schema: Schema) -> list[schema_dataset.SchemaDatasetFacetFields]:
    return [_nested(field, number) for number, field in enumerate(schema.fields, 1)]


def _nested(column: NestedField, number: int | None = None) -> schema_dataset.SchemaDatasetFacetFields:
    return _typed(column.name, column.field_type, column.doc, number)


def _typed(
    name: str, kind: IcebergType, doc: str | None = None, number: int | None = None
) -> schema_dataset.SchemaDatasetFacetFields:
    """A field with what is in it: elements are called `_element`, as the specification's examples do."""
    if isinstance(kind, StructType):
        return _field(name, "struct", doc, [_nested(child) for child in kind.fields], number)
    if isinstance(kind, ListType):
        return _field(name, "array", doc, [_typed("_element", kind.element_type)], number)
    if isinstance(kind, MapType):
        members = [_typed("key", kind.key_type), _typed("value", kind.value_type)]
        return _field(name, "map", doc, members, number)
    return _field(name, str(kind), doc, [], number)


def _field(
    name: str,
    kind: str,
    doc: str | None,
    members: list[schema_dataset.SchemaDatasetFacetFields],
    number: int | None = None,
) -> schema_dataset.SchemaDatasetFacetFields:
    return schema_dataset.SchemaDatasetFacetFields(
        name=name, type=kind, description=doc, ordinal_position=number, fields=members or None
    )
