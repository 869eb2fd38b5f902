"""DataHub's own Iceberg source and Airberg describe one catalog, aspect for aspect.

The source runs in an environment of its own, with the pyiceberg that it pins, over tables that ours wrote.
`tests/unit/governance/test_governance_parity.py` is the quick form, against what it once said of one table.
"""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import Catalog

from airberg.governance.datahub_settings import DataHubSettings
from airberg.governance.entities import STATE_PREFIX, container_proposals, dataset_proposals, target_of
from airberg.governance.proposals import owner_aspect
from airberg.governance.schema import describe_schema
from airberg.governance.wire import as_json
from support.datahub_source import ingest, without_chance, without_place

Said = dict[tuple[str, str], Any]

RECIPES = [("lake", "PROD"), (None, "PROD"), ("Größer, lake", "DEV")]
ORACLE = Path(__file__).parents[1] / "unit" / "governance" / "datahub_iceberg_source_1_7.json"


@pytest.fixture(scope="session")
def theirs(shared: Catalog, shared_folder: Path) -> dict[tuple[str | None, str], Said]:
    """What DataHub's source says, by recipe."""
    return {
        (instance, env): _by_aspect(ingest(shared_folder, instance=instance, env=env))
        for instance, env in RECIPES
    }


def _by_aspect(proposals: list[dict[str, Any]]) -> Said:
    said = {(p["entityUrn"], p["aspectName"]): without_chance(p["aspect"]["json"]) for p in proposals}
    assert len(said) == len(proposals)
    return said


def _ours(catalog: Catalog, instance: str | None, env: str) -> Said:
    """What is said of every table and its namespace."""
    settings = DataHubSettings(platform_instance=instance, env=env)
    identifiers = chain.from_iterable(catalog.list_tables(n) for n in catalog.list_namespaces())
    proposals: list[dict[str, Any]] = []
    for identifier in identifiers:
        target = target_of(table := catalog.load_table(identifier), settings)
        container = container_proposals(target, catalog.load_namespace_properties(identifier[:-1]))
        proposals += map(as_json, [*container, *dataset_proposals(target, describe_schema(table.schema()))])
    return {(p["entityUrn"], p["aspectName"]): without_chance(p["aspect"]["json"]) for p in proposals}


def _without_state(properties: dict[str, Any]) -> dict[str, Any]:
    custom = {k: v for k, v in properties["customProperties"].items() if not k.startswith(STATE_PREFIX)}
    assert (properties["name"] in ("loaded_v2", "loaded_v3")) == (custom != properties["customProperties"])
    return properties | {"customProperties": custom}


@pytest.mark.parametrize(("instance", "env"), RECIPES)
def test_every_aspect_of_every_table_equals_that_of_datahubs_source(
    shared: Catalog, theirs: dict[tuple[str | None, str], Said], instance: str | None, env: str
) -> None:
    """Same urns, aspects and values. Not repeated: owners (below), namespaces without tables, and positions.

    The source makes custom properties of all table properties, those with a connector's state among them.
    """
    said = {
        (urn, name): _without_state(value) if name == "datasetProperties" else value
        for (urn, name), value in theirs[instance, env].items()
        if name != "ownership"
    }
    ours = _ours(shared, instance, env)
    empty = {urn for urn, _ in said} - {urn for urn, _ in ours}
    assert [said[urn, "containerProperties"]["name"] for urn in empty] == ["empty"]
    assert ours == {key: value for key, value in said.items() if key[0] not in empty}
    datasets = [urn for urn, name in ours if name == "schemaMetadata"]
    assert (len(datasets), len(ours)) == (8, 8 * 7 + 3 * 5)


@pytest.mark.parametrize(("instance", "env"), RECIPES)
def test_owners_are_those_that_datahubs_source_reads_from_the_property(
    shared: Catalog, theirs: dict[tuple[str | None, str], Said], instance: str | None, env: str
) -> None:
    """What we patch in for a table's `owner` is what the source makes of it; a group and odd names, too."""
    owners = {
        urn: value["owners"] for (urn, name), value in theirs[instance, env].items() if name == "ownership"
    }
    settings = DataHubSettings(platform_instance=instance, env=env)
    tables = [shared.load_table(t) for n in shared.list_namespaces() for t in shared.list_tables(n)]
    wanted = {
        target_of(table, settings).urn: [owner_aspect(table.properties["owner"]).to_obj()]
        for table in tables
        if "owner" in table.properties
    }
    assert owners == wanted
    assert len(owners) == 5


def test_what_the_quick_form_is_compared_with_is_what_the_source_says(
    theirs: dict[tuple[str | None, str], Said],
) -> None:
    """`datahub_iceberg_source_1_7.json` holds the newest words of the source about `sales.Everything`."""
    stored = json.loads(ORACLE.read_text())
    recipes = {"platform_instance lake": ("lake", "PROD"), "no platform instance": (None, "PROD")}
    assert list(stored) == list(recipes)
    for name, recipe in recipes.items():
        for urn, aspect, value in stored[name]:
            assert without_place(aspect, theirs[recipe][urn, aspect]) == without_place(aspect, value)
