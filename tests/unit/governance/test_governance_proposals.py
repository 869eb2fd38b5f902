"""What is said about a table and a run."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot, Summary

from airberg.governance.datahub_settings import DataHubSettings
from airberg.governance.proposals import TableFacts, extent, table_proposals
from airberg.governance.runs import Edge, flow_proposals
from airberg.governance.wire import as_json
from airberg.jobs.model import RunStatus
from airberg.plan.model import HashRule, MaskRule
from airberg.testing.datahub import DataHubDouble
from support.governed_tables import (
    CUSTOMERS,
    ENDED,
    JOB_ID,
    ORDERS,
    STARTED,
    make_job,
    make_run,
)

LAKE = DataHubSettings(platform_instance="lake")
FLOW_URL = "http://airflow:8080/dags/flow"
DATASET = "urn:li:dataset:(urn:li:dataPlatform:iceberg,lake.sales.customers,PROD)"
SOURCE = "urn:li:dataset:(urn:li:dataPlatform:postgres,crm.public.customers,PROD)"
TASK = f"urn:li:dataJob:(urn:li:dataFlow:(airflow,airberg_{JOB_ID},prod),sync)"
ROOT = "[version=2.0].[type=struct]"


def facts_of(**changes: Any) -> TableFacts:
    """Facts of a run that loaded `customers`."""
    run = make_run("customers")
    values: dict[str, Any] = {
        "job": make_job(),
        "run": run,
        "stream": CUSTOMERS,
        "report": run.report.streams[0],
        "datahub": LAKE,
        "flow_url": FLOW_URL,
        "domain": "urn:li:domain:marketing-ops",
        "domain_name": "Marketing Ops",
    }
    return TableFacts(**(values | changes))


def flow_of(table: Table, facts: TableFacts) -> list[Any]:
    """What is said of the flow and of the run that loaded this table alone."""
    return flow_proposals([Edge.of(table, facts)], facts.job, facts.run, FLOW_URL, facts.datahub)


def said(proposals: list[Any], name: str) -> list[Any]:
    """Values of an aspect, in order."""
    return [p["aspect"]["json"] for p in map(as_json, proposals) if p["aspectName"] == name]


def patch_of(proposals: list[Any], name: str) -> dict[str, Any]:
    """Values by path of the one patch of an aspect."""
    (found,) = [p for p in map(as_json, proposals) if p["aspectName"] == name]
    assert found["changeType"] == "PATCH"
    value = found["aspect"]["json"]
    steps = value["patch"] if isinstance(value, dict) else value
    assert {step["op"] for step in steps} == {"add"}
    return {step["path"]: step["value"] for step in steps}


def test_tags_are_made_and_added(customers: Table) -> None:
    """Each tag's key comes first, so that it exists; the table's tags are patched."""
    out = table_proposals(customers, facts_of())
    assert [v["name"] for v in said(out, "tagKey")] == ["pii", "crm data", "encrypted"]
    tags = patch_of(out, "globalTags")
    assert [v["tag"] for v in tags.values()] == ["urn:li:tag:pii", "urn:li:tag:crm data"]


def test_owner_is_patched_in(customers: Table) -> None:
    """The owner's urn, technical; whoever else owns the table stays."""
    (owner,) = patch_of(table_proposals(customers, facts_of()), "ownership").values()
    assert owner == {"owner": "urn:li:corpuser:alice@example.com", "type": "TECHNICAL_OWNER"}


def test_domain_is_set_and_named(customers: Table) -> None:
    """A domain made by slug gets its name; the table is put into it."""
    out = table_proposals(customers, facts_of())
    assert said(out, "domains") == [{"domains": ["urn:li:domain:marketing-ops"]}]
    assert [v["name"] for v in said(out, "domainProperties")] == ["Marketing Ops"]


def test_a_domain_that_was_looked_up_is_not_renamed(customers: Table) -> None:
    """Only the table is put into it."""
    out = table_proposals(customers, facts_of(domain_name=None))
    assert said(out, "domainProperties") == []
    assert len(said(out, "domains")) == 1


def test_without_a_domain_the_table_stays_where_people_put_it(customers: Table) -> None:
    """No domain, no aspect."""
    assert said(table_proposals(customers, facts_of(domain=None, domain_name=None)), "domains") == []


def test_encrypted_columns_are_tagged_by_their_field_paths(customers: Table) -> None:
    """Nested ones too, in the part of the schema that people edit, with the key's name and the mode."""
    tags = patch_of(table_proposals(customers, facts_of()), "editableSchemaMetadata")
    fields = [f"{ROOT}.[type=bytes].email", f"{ROOT}.[type=struct].contact_info.[type=bytes].phone"]
    assert list(tags) == [
        f"/editableSchemaFieldInfo/{path}/globalTags/tags/urn:li:tag:encrypted" for path in fields
    ]
    contexts = [json.loads(v["context"]) for v in tags.values()]
    assert contexts == [{"key": "crm-pii", "mode": "deterministic"}, {"key": "crm-pii", "mode": "random"}]


def test_hashed_and_masked_columns_have_tags_of_their_own(customers: Table) -> None:
    """They are not encrypted: nobody gets their plaintext back. No tag says more than how it was done."""
    hashed, masked = HashRule(key_name="crm-pii"), MaskRule(keep_last=2)
    rules = {"email": {"hash": hashed, "encrypt": None}, "amount": {"mask": masked}}
    columns = tuple(msgspec.structs.replace(c, **rules.get(c.name, {})) for c in CUSTOMERS.columns)
    out = table_proposals(customers, facts_of(stream=msgspec.structs.replace(CUSTOMERS, columns=columns)))
    assert [v["name"] for v in said(out, "tagKey")] == ["pii", "crm data", "hashed", "masked", "encrypted"]
    tags = patch_of(out, "editableSchemaMetadata")
    shown = [(path.rpartition(":")[2], json.loads(v["context"])) for path, v in tags.items()]
    assert shown == [
        ("hashed", {"key": "crm-pii"}),
        ("masked", {"keep_last": "2"}),
        ("encrypted", {"key": "crm-pii", "mode": "random"}),
    ]


def test_lineage_names_what_happens_to_each_column(customers: Table) -> None:
    """From the source's field to the table's field path, metadata columns left out."""
    (lineage,) = said(table_proposals(customers, facts_of()), "upstreamLineage")
    assert [(u["dataset"], u["type"]) for u in lineage["upstreams"]] == [(SOURCE, "TRANSFORMED")]
    lines = [
        (fine["upstreams"], fine["downstreams"], fine["transformOperation"])
        for fine in lineage["fineGrainedLineages"]
    ]
    contact = f"{ROOT}.[type=struct].contact_info"
    expected = [
        ("id", f"{ROOT}.[type=long].id", "IDENTITY"),
        ("e_mail", f"{ROOT}.[type=bytes].email", "RENAME+ENCRYPT"),
        ("amount", f"{ROOT}.[type=fixed].amount", "CAST"),
        ("contact.phone", f"{contact}.[type=bytes].phone", "RENAME+CAST+ENCRYPT"),
        ("contact.city", f"{contact}.[type=string].town", "RENAME"),
        ("labels", f"{ROOT}.[type=array].[type=string].labels", "IDENTITY"),
    ]
    assert lines == [
        ([f"urn:li:schemaField:({SOURCE},{a})"], [f"urn:li:schemaField:({DATASET},{b})"], op)
        for a, b, op in expected
    ]


def test_profile_and_operation_have_numbers_only(customers: Table) -> None:
    """Rows, columns and bytes of the table, rows of the run; no value of any column."""
    out = table_proposals(customers, facts_of())
    (profile,) = said(out, "datasetProfile")
    assert (profile["rowCount"], profile["columnCount"]) == (2, 6)
    assert profile["sizeInBytes"] > 0
    assert "fieldProfiles" not in profile
    (operation,) = said(out, "operation")
    assert (operation["operationType"], operation["numAffectedRows"]) == ("UPDATE", 3)
    assert operation["timestampMillis"] == int(ENDED.timestamp() * 1000)
    assert "plaintext" not in json.dumps([as_json(p) for p in out])


def test_a_table_without_snapshot_is_empty_and_untouched(lake: Catalog) -> None:
    """No rows, no operation."""
    run = make_run()
    from_nothing = facts_of(stream=ORDERS, run=run, report=make_run("orders").report.streams[0])
    idle = facts_of(stream=ORDERS, report=type(from_nothing.report)(stream="orders", table="orders"))
    out = table_proposals(lake.load_table("sales.orders"), idle)
    assert said(out, "operation") == []
    assert [(p["rowCount"], p["sizeInBytes"]) for p in said(out, "datasetProfile")] == [(0, 0)]
    assert said(table_proposals(lake.load_table("sales.orders"), from_nothing), "operation") != []


@pytest.mark.parametrize(
    ("summary", "rows_and_bytes"),
    [
        ({"total-records": "10", "total-position-deletes": "3", "total-files-size": "99"}, (7, 99)),
        ({"total-records": "10"}, (10, None)),
        ({}, (None, None)),
    ],
)
def test_rows_that_are_hidden_do_not_count(
    summary: dict[str, str], rows_and_bytes: tuple[int | None, int | None]
) -> None:
    """A merge writes position deletes; what a summary does not say is not guessed."""
    told = Summary(Operation.OVERWRITE, **summary)
    snapshot = Snapshot(snapshot_id=1, timestamp_ms=1, manifest_list="m", summary=told)
    assert extent(snapshot) == rows_and_bytes


def test_columns_that_the_table_lacks_are_left_out(lake: Catalog) -> None:
    """A plan may know more columns than the table has yet: no field tag and no line hangs in the air."""
    out = table_proposals(lake.load_table("sales.orders"), facts_of())
    assert said(out, "editableSchemaMetadata") == []
    (lineage,) = said(out, "upstreamLineage")
    assert [fine["transformOperation"] for fine in lineage["fineGrainedLineages"]] == ["IDENTITY"]


def test_the_connectors_state_stays_out(customers: Table) -> None:
    """The checkpoint property is no custom property in DataHub; the others are."""
    (properties,) = said(table_proposals(customers, facts_of()), "datasetProperties")
    assert "airberg.checkpoint.j" in customers.properties
    assert [k for k in properties["customProperties"] if k.startswith("airberg")] == []
    assert properties["description"] == "People who buy."


def test_a_run_has_all_tables_as_outputs(lake: Catalog, customers: Table) -> None:
    """Flow, task and process instance, with every stream and table of the run in one aspect."""
    run = make_run("customers", "orders")
    orders = facts_of(run=run, stream=ORDERS, report=run.report.streams[1])
    loads = [(customers, facts_of(run=run)), (lake.load_table("sales.orders"), orders)]
    out = flow_proposals([Edge.of(*load) for load in loads], make_job(), run, FLOW_URL, LAKE)
    (links,) = said(out, "dataJobInputOutput")
    assert links["inputDatasets"] == [SOURCE, SOURCE.replace("customers", "orders")]
    assert links["outputDatasets"] == [DATASET, DATASET.replace("customers", "orders")]
    assert said(out, "dataProcessInstanceInput")[0]["inputs"] == links["inputDatasets"]
    assert said(out, "dataProcessInstanceOutput")[0]["outputs"] == links["outputDatasets"]
    assert said(out, "dataProcessInstanceRelationships")[0]["parentTemplate"] == TASK
    assert said(out, "dataFlowInfo")[0]["externalUrl"] == FLOW_URL
    assert said(out, "dataProcessInstanceProperties")[0]["externalUrl"] == (
        f"{FLOW_URL}/runs/manual__2026-11-23T10%3A00%3A00%2B00%3A00"
    )


@pytest.mark.parametrize(
    ("status", "result"),
    [
        (RunStatus.COMPLETED, "SUCCESS"),
        (RunStatus.FAILED, "FAILURE"),
        (RunStatus.CANCELLED, "SKIPPED"),
        (RunStatus.RUNNING, None),
    ],
)
def test_a_run_starts_and_ends_with_its_result(status: RunStatus, result: str | None) -> None:
    """Start and end at the run's own times; a run that still runs has only started."""
    events = said(
        flow_proposals([], make_job(), make_run(status=status), FLOW_URL, LAKE),
        "dataProcessInstanceRunEvent",
    )
    start, end = (int(at.timestamp() * 1000) for at in (STARTED, ENDED))
    assert (events[0]["status"], events[0]["timestampMillis"], events[0]["attempt"]) == ("STARTED", start, 2)
    ends = [(e["timestampMillis"], e["durationMillis"], e["result"]["type"]) for e in events[1:]]
    assert ends == ([(end, 65_000, result)] if result else [])


def test_proposals_are_a_function_of_table_job_and_run(customers: Table) -> None:
    """Made twice they are the same, byte for byte."""
    first, second = (
        [as_json(p) for p in [*table_proposals(customers, f), *flow_of(customers, f)]]
        for f in (facts_of(), facts_of())
    )
    assert json.dumps(first) == json.dumps(second)


@pytest.mark.parametrize("instance", ["lake", None])
def test_every_proposal_is_valid_by_datahubs_own_schema(customers: Table, instance: str | None) -> None:
    """Aspects, urns and patches are taken by the double, which checks them with the generated classes."""
    facts = facts_of(datahub=DataHubSettings(platform_instance=instance, env="dev"))
    gms = DataHubDouble()
    proposals = [
        *table_proposals(customers, facts),
        *flow_of(customers, facts),
    ]
    for proposal in proposals:
        obj = proposal.make_mcp().to_obj() if hasattr(proposal, "make_mcp") else proposal.to_obj()
        gms.propose(obj)
    assert {urn.split(":")[2] for urn, _ in gms.aspects} == {
        "container",
        "dataFlow",
        "dataJob",
        "dataProcessInstance",
        "dataset",
        "domain",
        "tag",
    }


def test_what_people_added_in_datahub_stays(customers: Table) -> None:
    """A tag and an owner set by hand survive, and sending twice adds nothing twice."""
    gms = DataHubDouble()
    gms.upsert(DATASET, "globalTags", {"tags": [{"tag": "urn:li:tag:human"}]})
    bob = {"owner": "urn:li:corpuser:bob", "type": "BUSINESS_OWNER"}
    gms.upsert(
        DATASET, "ownership", {"owners": [bob], "lastModified": {"time": 0, "actor": "urn:li:corpuser:bob"}}
    )
    for _ in range(2):
        for proposal in table_proposals(customers, facts_of()):
            gms.propose(proposal.make_mcp().to_obj() if hasattr(proposal, "make_mcp") else proposal.to_obj())
    tags = [t["tag"] for t in gms.aspects[DATASET, "globalTags"]["tags"]]
    assert tags == ["urn:li:tag:human", "urn:li:tag:pii", "urn:li:tag:crm data"]
    owners = [o["owner"] for o in gms.aspects[DATASET, "ownership"]["owners"]]
    assert owners == ["urn:li:corpuser:bob", "urn:li:corpuser:alice@example.com"]
