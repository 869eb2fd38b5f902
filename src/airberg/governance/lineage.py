"""Where a table's columns come from: the source stream's urn and the lines between columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datahub.emitter.mce_builder as builder
import datahub.metadata.schema_classes as aspects

from airberg.governance.facts import column_lines
from airberg.governance.sources import first_text, source_platform
from airberg.plan.model import StreamPlan

_DATABASE_KEYS = (
    "database",
    "db",
    "db_name",
    "database_name",
    "dbname",
    "service_name",
    "sid",
    "project",
    "project_id",
    "catalog",
    "keyspace",
)
_SCHEMA_KEYS = ("schema", "default_schema", "schema_name")


def source_urn(source_name: str, stream: StreamPlan, config: Mapping[str, object], env: str) -> str:
    """The dataset urn of a source stream, as DataHub's Airbyte source and the source's own ingestion make it.

    `database.schema.stream`; without the schema when it is the database, and without what is not known.

    Args:
        source_name: The connector.
        stream: Its namespace is the schema; without one the configured schema is.
        config: The job's public configuration. Only the names of database and schema are read.
        env: DataHub's environment, `PROD`.
    """
    database = first_text(config, _DATABASE_KEYS)
    schema = stream.namespace or first_text(config, _SCHEMA_KEYS)
    leaf = stream.name.rpartition(".")[2] or stream.name
    parts = [database, schema if schema != database else None, leaf]
    name = ".".join(part for part in parts if part)
    return str(builder.make_dataset_urn(source_platform(source_name), name, env))


def fine_grained(
    source: str, target: str, stream: StreamPlan, paths: Mapping[tuple[str, ...], str]
) -> list[Any]:
    """One line per leaf of the stream that the table has, saying what happens on the way.

    Args:
        source: Urn of the source stream; its fields are named by their dotted paths.
        target: Urn of the table.
        stream: The plan of the stream.
        paths: DataHub's field paths of the table, from `describe_schema`.
    """
    return [
        aspects.FineGrainedLineageClass(
            upstreamType=aspects.FineGrainedLineageUpstreamTypeClass.FIELD_SET,
            downstreamType=aspects.FineGrainedLineageDownstreamTypeClass.FIELD,
            upstreams=[builder.make_schema_field_urn(source, ".".join(line.source))],
            downstreams=[builder.make_schema_field_urn(target, paths[line.target])],
            transformOperation=line.operation,
        )
        for line in column_lines(stream.columns)
        if line.target in paths
    ]
