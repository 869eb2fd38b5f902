"""Aspects equal those of DataHub's own Iceberg source.

`datahub_iceberg_source_1_7.json` was written by acryl-datahub 1.7.0.17 with pyiceberg 0.11.1, which it pins,
run over `make_every_type`; what depends on place, time or chance was replaced by fixed words.
This is the quick form: `make test-datahub` runs the source itself over many tables, and compares this file.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table import Table

from airberg.governance.datahub_settings import DataHubSettings
from airberg.governance.entities import container_proposals, dataset_proposals, target_of
from airberg.governance.proposals import TableFacts, table_proposals
from airberg.governance.schema import describe_schema
from airberg.governance.wire import as_json
from airberg.jobs.model import StreamReport
from support.datahub_source import ROOT, without_chance, without_place
from support.governed_tables import ORDERS, make_job, make_run

ORACLE = json.loads((Path(__file__).parent / "datahub_iceberg_source_1_7.json").read_text())
INSTANCES = {"platform_instance lake": "lake", "no platform instance": None}


def normalised(proposal: Any) -> list[Any]:
    """Urn, aspect and value without place, time and generated names."""
    obj = as_json(proposal)
    name = obj["aspectName"]
    return [obj["entityUrn"], name, without_chance(without_place(name, obj["aspect"]["json"]))]


@pytest.mark.parametrize("recipe", ORACLE)
def test_container_and_dataset_equal_those_of_datahubs_source(everything: Table, recipe: str) -> None:
    """Same urns, same aspects, same values, same order; only its ownership, an UPSERT, is not repeated."""
    target = target_of(everything, DataHubSettings(platform_instance=INSTANCES[recipe]))
    ours = [
        *container_proposals(target, {"team": "crm"} | _namespace_defaults(recipe)),
        *dataset_proposals(target, describe_schema(everything.schema())),
    ]
    theirs = [entry for entry in ORACLE[recipe] if entry[1] != "ownership"]
    assert [normalised(p) for p in ours] == theirs
    assert len(theirs) == 12


@pytest.mark.parametrize("recipe", ORACLE)
def test_owner_equals_that_of_datahubs_source(everything: Table, recipe: str) -> None:
    """The owner that is patched in has the urn and the type that DataHub's source makes of the property."""
    job = make_job()
    datahub = DataHubSettings(platform_instance=INSTANCES[recipe])
    facts = TableFacts(
        job=job,
        run=make_run("Everything"),
        stream=ORDERS,
        report=StreamReport(stream="orders", table="Everything"),
        datahub=datahub,
        flow_url="http://airflow/dags/x",
    )
    patches = [as_json(p) for p in table_proposals(everything, facts)]
    (patch,) = [p["aspect"]["json"]["patch"] for p in patches if p["aspectName"] == "ownership"]
    (owner,) = next(value["owners"] for _, name, value in ORACLE[recipe] if name == "ownership")
    assert [step["value"] for step in patch] == [owner]


def test_the_source_that_is_run_is_of_the_version_that_we_send_with() -> None:
    """Locks are renewed together; one DataHub compared with another would prove nothing."""
    versions = {
        re.search(r"^acryl-datahub==(\S+)", (ROOT / "requirements" / lock).read_text(), re.M)[1]  # type: ignore[index]
        for lock in ("airberg.txt", "datahub.txt")
    }
    assert len(versions) == 1


def _namespace_defaults(recipe: str) -> dict[str, str]:
    """Properties that the catalog itself gives a namespace."""
    value = next(value for _, name, value in ORACLE[recipe] if name == "containerProperties")
    return {k: v for k, v in value["customProperties"].items() if k != "team"}
