"""The check of events by the published schemas: what it knows, and that it refuses what they do not have."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

import attr
import jsonschema
import pytest
from openlineage.client.serde import Serde
from pyiceberg.catalog import Catalog

from airberg.governance.openlineage.attempts import Attempt, LoadedTables
from airberg.governance.openlineage.events import start_event
from support.governed_tables import PLAN, STARTED, make_job, make_run
from support.openlineage_schema import check_event, client_classes
from support.openlineage_specification import check_specified, facts, facts_of, schema_of

PARENT = "airflow-prod/airberg_x.sync/0198f0a0-0000-7000-8000-0000000000aa"
MISSING = object()
COLUMN = "outputs.0.facets.columnLineage.fields.amount.inputFields"
CATALOG_ADDRESS = "https://openlineage.io/spec/facets/1-1-0/CatalogDatasetFacet.json"


@pytest.fixture(scope="module")
def event(lake: Catalog) -> dict[str, Any]:
    """The START of an attempt that has a parent, as it is sent."""
    loaded = LoadedTables(
        plan=PLAN,
        tables={name: lake.load_table(("sales", name)) for name in ("customers", "orders")},
        fresh=frozenset({"orders"}),
        catalog_name="lake",
        catalog_properties={"uri": "postgresql://db/cat", "warehouse": "s3://lake/w"},
    )
    parent = {"OPENLINEAGE_PARENT_ID": PARENT, "OPENLINEAGE_ROOT_PARENT_ID": PARENT}
    run = make_run("customers")
    attempt = Attempt(job=make_job(), run=run, namespace="airberg", parent=parent)
    sent: dict[str, Any] = json.loads(Serde.to_json(start_event(attempt, STARTED, loaded)))
    check_event(sent)
    return sent


def changed(event: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """The event with another value in that place, or without it."""
    out = copy.deepcopy(event)
    *places, last = path.split(".")
    at: Any = out
    for place in places:
        at = at[int(place)] if isinstance(at, list) else at[place]
    if value is MISSING:
        del at[last]
    else:
        at[last] = value
    return out


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("eventTime", MISSING, "'eventTime' is a required property"),
        ("producer", MISSING, "'producer' is a required property"),
        ("run.runId", MISSING, "'runId' is a required property"),
        ("outputs.0.namespace", MISSING, "'namespace' is a required property"),
        ("job.facets.jobType._producer", MISSING, "'_producer' is a required property"),
        ("job.facets.jobType._schemaURL", MISSING, "'_schemaURL' is a required property"),
        ("job.facets.jobType.integration", MISSING, "'integration' is a required property"),
        ("job.facets.ownership.owners", [{"type": "TECHNICAL_OWNER"}], "'name' is a required property"),
        ("run.facets.parent.root.job.name", MISSING, "'name' is a required property"),
        (COLUMN, MISSING, "'inputFields' is a required property"),
        (f"{COLUMN}.0.transformations", [{"subtype": "IDENTITY"}], "'type' is a required property"),
        ("outputs.0.facets.schema.fields", [{"type": "long"}], "'name' is a required property"),
        ("eventType", "STARTED", "'STARTED' is not one of"),
        ("outputs.1.facets.lifecycleStateChange.lifecycleStateChange", "MADE", "'MADE' is not one of"),
        ("eventTime", datetime(2026, 1, 1, tzinfo=UTC).strftime("%d.%m."), "is not a 'date-time'"),
        ("eventTime", "2026-11-23T03:00+00:00", "is not a 'date-time'"),
        ("run.runId", "7", "'7' is not a 'uuid'"),
        ("run.facets.parent.root.run.runId", "x", "'x' is not a 'uuid'"),
        ("producer", "nobody", "'nobody' is not a 'uri'"),
        ("job.facets.jobType._producer", "no body:", "is not a 'uri'"),
        ("inputs", {}, "{} is not of type 'array'"),
        ("run.facets.processing_engine.version", 7, "7 is not of type 'string'"),
        ("outputs.0.facets.catalog.framework", None, "None is not of type 'string'"),
        ("outputs.0.facets.catalog.catalogProperties", {"a": 1}, "1 is not of type 'string'"),
        ("outputs.0.facets.schema.fields.0.ordinal_position", "1", "'1' is not of type 'integer'"),
        (f"{COLUMN}.0.transformations.0.masking", "no", "'no' is not of type 'boolean'"),
        ("outputs.0.facets.schema.fields.0.fields", [{"name": "a", "fields": [{}]}], "'name' is a required"),
        ("schemaURL", "https://openlineage.io/spec/2-0-1/OpenLineage.json", "names the schema"),
        ("outputs.0.facets.catalog._schemaURL", CATALOG_ADDRESS, "no schema of the specification"),
        (
            "outputs.0.facets.catalog._schemaURL",
            f"{CATALOG_ADDRESS.replace('1-1-0', '9-0-0')}#/$defs/CatalogDatasetFacet",
            "no schema of the specification",
        ),
    ],
)
def test_what_the_schemas_do_not_have_is_refused(
    event: dict[str, Any], path: str, value: object, message: str
) -> None:
    """Whatever is missing, of another type or form, or of a schema that nobody has published."""
    with pytest.raises(jsonschema.ValidationError, match=message.replace("(", r"\(")):
        check_specified(changed(event, path, value))


def test_facets_have_their_names_and_places(event: dict[str, Any]) -> None:
    """One of the run is none of the job, and is called as the specification does."""
    engine = event["run"]["facets"]["processing_engine"]
    statistics = {
        "_producer": "urn:x",
        "_schemaURL": "https://openlineage.io/spec/facets/1-0-2/OutputStatisticsOutputDatasetFacet.json"
        "#/$defs/OutputStatisticsOutputDatasetFacet",
    }
    check_event(changed(event, "outputs.0.outputFacets", {"outputStatistics": statistics | {"rowCount": 1}}))
    for path, value in {
        "run.facets.engine": engine,
        "job.facets.processing_engine": engine,
        "outputs.0.facets.outputStatistics": statistics,
        "inputs.0.inputFacets": {"outputStatistics": statistics},
    }.items():
        with pytest.raises(jsonschema.ValidationError, match="of that name"):
            check_specified(changed(event, path, value))
    wrong = {"outputStatistics": statistics | {"rowCount": "x"}}
    with pytest.raises(jsonschema.ValidationError, match="'x' is not of type 'integer'"):
        check_specified(changed(event, "outputs.0.outputFacets", wrong))


@pytest.mark.parametrize(
    ("path", "value"), [("unknown", 1), ("job.facets.jobType.unknown", "x"), ("inputs.0.unknown", 1)]
)
def test_members_that_nobody_knows_are_refused_too(event: dict[str, Any], path: str, value: object) -> None:
    """The specification lets them be; as they may be misspelt, the client's classes have the last word."""
    check_specified(changed(event, path, value))
    with pytest.raises(jsonschema.ValidationError, match="Additional properties are not allowed"):
        check_event(changed(event, path, value))


def test_the_client_has_the_same_members() -> None:
    """Its classes and the published schemas name the same ones, and require the same."""
    for address, known in facts().items():
        for name, shape in known["shapes"].items():
            cls = client_classes().get(f"{address}#/$defs/{name}")
            if cls is None or "key" not in known:
                continue
            ours = {n.removesuffix("!"): n.endswith("!") for n in shape if n not in ("<", "*")}
            theirs = {
                field.name: field.default is attr.NOTHING
                for field in attr.fields(cls)
                if field.name not in ("_producer", "_schemaURL", "_deleted")
            }
            assert ours == theirs, name


def test_published_schemas_become_facts_and_schemas_again() -> None:
    """Texts are left out; what the notation has no word for is refused, never lost."""
    member = {"type": "string", "enum": ["A", "B"], "description": "Text.", "example": "A"}
    facet = {
        "description": "Text.",
        "allOf": [
            {"$ref": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunFacet"},
            {"type": "object", "properties": {"description": member}, "required": ["description"]},
        ],
        "type": "object",
    }
    published = {"$defs": {"XRunFacet": facet}, "properties": {"x": {"$ref": "#/$defs/XRunFacet"}}}
    found = facts_of(published)
    base = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunFacet"
    assert found == {"key": "x", "shapes": {"XRunFacet": {"<": base, "description!": "A|B"}}}
    assert schema_of(found["shapes"]["XRunFacet"]) == {
        "type": "object",
        "properties": {"description": {"type": "string", "enum": ["A", "B"]}},
        "required": ["description"],
        "allOf": [{"$ref": base}],
    }
    for unknown in ({"not": {}}, {"pattern": "a"}, {"additionalProperties": False}, {"anyOf": [{}, {}]}):
        for kind in ("object", "string"):
            with pytest.raises(ValueError, match="no word"):
                facts_of({"$defs": {"X": {"type": kind, **unknown}}})
