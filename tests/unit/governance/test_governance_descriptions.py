"""Words of the connector about its streams and columns, on their way to the table and to DataHub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airberg.columns.arrow import table_fields
from airberg.governance.datahub_settings import DataHubSettings
from airberg.governance.entities import dataset_proposals, target_of
from airberg.governance.facts import table_facts
from airberg.governance.schema import describe_schema
from airberg.governance.wire import as_json
from airberg.lake.tables import ensure_table
from airberg.plan.model import IngestRequest, Transformation
from airberg.plan.planner import Connector, build_plan
from support.governed_tables import JOB_ID, memory_catalog
from support.key_directory import keys_named

_ADDRESS = {
    "type": "object",
    "description": "Where they live",
    "properties": {"city": {"type": "string", "description": "Town"}, "zip": {"type": "string"}},
}
_SCHEMA = {
    "type": "object",
    "description": "People who buy.",
    "properties": {
        "e_mail": {"type": "string", "description": "Reaches them", "examples": ["eve@example.com"]},
        "address": _ADDRESS,
        "tags": {
            "type": "array",
            "description": "What we think of them",
            "items": {"type": "object", "properties": {"word": {"type": "string", "description": "Short"}}},
        },
        "age": {"type": "integer", "description": 7, "default": 4711},
    },
}


def test_words_of_the_connector_reach_datahub_and_nothing_else_of_its_schema(tmp_path: Path) -> None:
    """Of streams, columns and members, renamed and encrypted ones, too; examples and defaults may be data."""
    stream = {"name": "people", "json_schema": _SCHEMA, "supported_sync_modes": ["full_refresh"]}
    transformations = (
        Transformation(column="e_mail", transformation_type="encrypt"),
        Transformation(column="address.city", transformation_type="rename", new_name="town"),
    )
    request = IngestRequest(
        name="crm",
        source_name="source-crm",
        schema_name="sales",
        mode="append",
        column_transformations=transformations,
    )
    connector = Connector("source-crm", "1.0", [stream], 1.0)
    plan = build_plan(request, connector, keys_named("default"))
    (planned,) = plan.streams
    table = ensure_table(
        memory_catalog(tmp_path),
        ("sales",),
        planned.table,
        table_fields(planned.columns, False),
        table_facts(JOB_ID, plan, planned, {}),
    )
    proposals = dataset_proposals(target_of(table, DataHubSettings()), describe_schema(table.schema()))
    said: dict[str, Any] = {p["aspectName"]: p["aspect"]["json"] for p in map(as_json, proposals)}
    assert said["datasetProperties"]["description"] == "People who buy."
    words = {
        f["fieldPath"].rpartition(".")[2]: f.get("description") for f in said["schemaMetadata"]["fields"]
    }
    assert {name: text for name, text in words.items() if text} == {
        "e_mail": "Reaches them",
        "address": "Where they live",
        "town": "Town",
        "tags": "What we think of them",
        "word": "Short",
    }
    assert "eve@example.com" not in str(said)
    assert "4711" not in str(said)
