"""The events of an attempt, checked against the specification."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from openlineage.client.serde import Serde
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from airberg.governance.openlineage.attempts import Attempt, LoadedTables
from airberg.governance.openlineage.events import end_event, run_id, start_event
from airberg.jobs.model import Run, RunReport, RunStatus, StreamReport
from airberg.plan.model import HashRule, MaskRule
from support.governed_tables import CUSTOMERS, ENDED, JOB_ID, ORDERS, PLAN, STARTED, make_job, make_run
from support.openlineage_schema import check_event

PARENT = "airflow-prod/airberg_x.sync/0198f0a0-0000-7000-8000-0000000000aa"
ROOT = "airflow-prod/airberg_x/0198f0a0-0000-7000-8000-0000000000bb"


@pytest.fixture
def loaded(lake: Catalog) -> LoadedTables:
    """The tables of the job; `orders` has never had a row."""
    tables = {name: lake.load_table(("sales", name)) for name in ("customers", "orders")}
    properties = {"uri": "postgresql://u:pa55word@db/cat", "warehouse": "s3://u:pa55word@lake/w"}
    return LoadedTables(
        plan=PLAN,
        tables=tables,
        fresh=frozenset({"orders"}),
        catalog_name="lake",
        catalog_properties=properties,
    )


def attempt(run: Run | None = None, **changes: Any) -> Attempt:
    """The attempt of a run."""
    values: dict[str, Any] = {"job": make_job(), "run": run or make_run("customers"), "namespace": "airberg"}
    return Attempt(**(values | changes))


def ended(
    loaded: LoadedTables | None, before: dict[str, StreamReport] | None = None, **changes: Any
) -> dict[str, Any]:
    """The last event as it is sent, after a check."""
    return sent(end_event(attempt(**changes), ENDED, loaded, before or {}))


def sent(event: Any) -> dict[str, Any]:
    """An event as it is sent, after a check."""
    out: dict[str, Any] = json.loads(Serde.to_json(event))
    check_event(out)
    return out


def with_report(*reports: StreamReport, **changes: Any) -> Run:
    """A completed run."""
    return replace(make_run(), report=RunReport(streams=reports), **changes)


def output(event: dict[str, Any], table: str) -> dict[str, Any]:
    """The one output of that name."""
    [found] = [d for d in event["outputs"] if d["name"].endswith(f"/{table}")]
    return dict(found)


def test_a_start_says_what_will_be_loaded(loaded: LoadedTables) -> None:
    """Job and run with their facets, both streams, both tables; the new one will be made."""
    event = sent(start_event(attempt(), STARTED, loaded))
    assert (event["eventType"], event["eventTime"]) == ("START", STARTED.isoformat())
    assert (event["job"]["namespace"], event["job"]["name"]) == ("airberg", f"airberg_{JOB_ID}.load")
    facets = event["job"]["facets"]
    assert facets["jobType"]["integration"] == "AIRBERG"
    assert facets["ownership"]["owners"] == [{"name": "alice@example.com", "type": "TECHNICAL_OWNER"}]
    assert "CRM nightly" in facets["documentation"]["description"]
    assert [(d["namespace"], d["name"]) for d in event["inputs"]] == [
        ("postgres://db:5432", "crm.public.customers"),
        ("postgres://db:5432", "crm.public.orders"),
    ]
    assert "lifecycleStateChange" not in output(event, "customers")["facets"]
    assert output(event, "orders")["facets"]["lifecycleStateChange"]["lifecycleStateChange"] == "CREATE"
    assert "outputFacets" not in output(event, "orders") or not output(event, "orders")["outputFacets"]


def test_a_table_is_named_by_its_place_and_by_its_catalog(customers: Table, loaded: LoadedTables) -> None:
    """As Spark's integration names it; no password of the catalog is told."""
    event = sent(start_event(attempt(), STARTED, loaded))
    found = output(event, "customers")
    assert "file://" + found["name"] == customers.metadata.location
    assert found["namespace"] == "file"
    assert found["facets"]["symlinks"]["identifiers"] == [
        {"namespace": "postgres://db:5432", "name": "cat.sales.customers", "type": "TABLE"}
    ]
    assert found["facets"]["catalog"]["metadataUri"] == "postgresql://db/cat"
    assert found["facets"]["documentation"]["description"] == "People who buy."
    assert "pa55word" not in json.dumps(event)


def test_schemas_are_nested(loaded: LoadedTables, everything: Table) -> None:
    """Structs, lists and maps have their members; positions count the columns."""
    event = sent(start_event(attempt(), STARTED, loaded))
    fields = output(event, "customers")["facets"]["schema"]["fields"]
    assert [(f["name"], f["type"], f["ordinal_position"]) for f in fields[:3]] == [
        ("id", "long", 1),
        ("email", "binary", 2),
        ("amount", "decimal(10, 2)", 3),
    ]
    contact, labels = fields[3], fields[4]
    assert [(f["name"], f["type"]) for f in contact["fields"]] == [("phone", "binary"), ("town", "string")]
    assert (labels["type"], labels["fields"]) == ("array", [{"name": "_element", "type": "string"}])
    all_types = replace(loaded, tables={"customers": everything})
    columns = sent(start_event(attempt(), STARTED, all_types))["outputs"][0]["facets"]["schema"]["fields"]
    by_name = {f["name"]: f for f in columns}
    assert [f["name"] for f in by_name["attributes"]["fields"]] == ["key", "value"]
    assert by_name["matrix"]["fields"][0]["fields"] == [{"name": "_element", "type": "double"}]
    assert by_name["id"]["description"] == "Primary key"
    source = event["inputs"][0]["facets"]["schema"]["fields"]
    assert [f["name"] for f in source] == ["id", "e_mail", "amount", "contact", "labels"]
    assert [f["name"] for f in source[3]["fields"]] == ["phone", "city"]


def test_columns_say_what_happens_on_the_way(loaded: LoadedTables) -> None:
    """A rename keeps the value, a cast changes it, and what is protected is masked, however."""
    lineage = output(sent(start_event(attempt(), STARTED, loaded)), "customers")["facets"]["columnLineage"]

    def line(column: str) -> tuple[str, str, str, bool]:
        [origin] = lineage["fields"][column]["inputFields"]
        [how] = origin["transformations"]
        assert how["type"] == "DIRECT"
        assert (origin["namespace"], origin["name"]) == ("postgres://db:5432", "crm.public.customers")
        return origin["field"], how["subtype"], how["description"], how["masking"]

    assert line("id") == ("id", "IDENTITY", "IDENTITY", False)
    assert line("email") == ("e_mail", "TRANSFORMATION", "RENAME+ENCRYPT", True)
    assert line("amount") == ("amount", "TRANSFORMATION", "CAST", False)
    assert line("contact_info.town") == ("contact.city", "IDENTITY", "RENAME", False)
    assert line("contact_info.phone") == ("contact.phone", "TRANSFORMATION", "RENAME+CAST+ENCRYPT", True)


@pytest.mark.parametrize("rule", [{"hash": HashRule(key_name="k")}, {"mask": MaskRule()}])
def test_hashes_and_masks_are_masking(loaded: LoadedTables, rule: dict[str, Any]) -> None:
    """Not only encryption."""
    column = msgspec.structs.replace(CUSTOMERS.columns[1], encrypt=None, **rule)
    stream = msgspec.structs.replace(CUSTOMERS, columns=(column,))
    plan = msgspec.structs.replace(PLAN, streams=(stream,))
    event = sent(start_event(attempt(), STARTED, replace(loaded, plan=plan)))
    fields = event["outputs"][0]["facets"]["columnLineage"]["fields"]
    assert fields["email"]["inputFields"][0]["transformations"][0]["masking"] is True


def test_a_completed_attempt_counts_what_it_wrote(loaded: LoadedTables) -> None:
    """Not what an earlier attempt of the run had written already."""
    before = StreamReport(
        stream="customers", table="customers", rows_written=10, bytes_written=500, snapshot_ids=(1,)
    )
    report = msgspec.structs.replace(before, rows_written=25, bytes_written=900, snapshot_ids=(1, 7))
    event = ended(loaded, {"customers": before}, run=with_report(report))
    found = output(event, "customers")
    assert event["eventType"] == "COMPLETE"
    statistics = found["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"]) == (15, 400)
    assert found["facets"]["version"]["datasetVersion"] == "7"
    assert "errorMessage" not in event["run"]["facets"]


@pytest.mark.parametrize(
    ("mode", "table", "snapshots", "change"),
    [
        ("overwrite", "customers", (7,), "OVERWRITE"),
        ("overwrite", "customers", (), None),
        ("append", "customers", (7,), None),
        ("append", "orders", (7,), "CREATE"),
        ("append", "orders", (), None),
        ("overwrite", "orders", (7,), "CREATE"),
    ],
)
def test_the_life_of_tables(
    loaded: LoadedTables, mode: Any, table: str, snapshots: tuple[int, ...], change: str | None
) -> None:
    """Made where there was nothing before, overwritten by that mode; neither where nothing was committed."""
    streams = tuple(msgspec.structs.replace(s, mode=mode) for s in (CUSTOMERS, ORDERS))
    report = StreamReport(stream=table, table=table, snapshot_ids=snapshots)
    plan = msgspec.structs.replace(PLAN, streams=streams)
    event = ended(replace(loaded, plan=plan), run=with_report(report))
    facet = output(event, table)["facets"].get("lifecycleStateChange")
    assert (facet["lifecycleStateChange"] if facet else None) == change


@pytest.mark.parametrize(
    ("status", "code", "state"),
    [
        (RunStatus.FAILED, "connector-error", "FAIL"),
        (RunStatus.FAILED, "run-lost", "ABORT"),
        (RunStatus.CANCELLED, "cancelled", "ABORT"),
        (RunStatus.RUNNING, None, "ABORT"),
    ],
)
def test_ends_that_are_none(status: RunStatus, code: str | None, state: str) -> None:
    """With the reason; without any table where it did not come so far."""
    run = replace(make_run(), status=status, error="The key was revoked." if code else None, error_code=code)
    event = ended(None, run=run)
    assert (event["eventType"], event["inputs"], event["outputs"]) == (state, [], [])
    message = event["run"]["facets"]["errorMessage"]["message"]
    assert message == ("The key was revoked." if code else "It ended without a word.")


def test_attempts_have_ids_of_their_own() -> None:
    """Always the same for the same attempt, and never for another one."""
    run = make_run()
    ids = [run_id(attempt(replace(run, attempt=number))) for number in (1, 2, 1)]
    assert ids[0] == ids[2] != ids[1]
    assert ids[0] != run_id(attempt(replace(run, attempt=1), namespace="other"))
    assert ids[0].version == 7


@pytest.mark.parametrize(
    ("flow_run_id", "nominal"),
    [
        ("scheduled__2026-11-23T03:00:00+00:00", "2026-11-23T03:00:00+00:00"),
        ("scheduled__2026-11-23T03:00:00.000001Z", "2026-11-23T03:00:00.000001Z"),
        ("airberg__1", None),
        ("scheduled__2026-11-23T03:00:00+00:00__2", "2026-11-23T03:00:00+00:00"),
        ("scheduled__soon", None),
        ("scheduled__2026-11-23T03:00+00:00", None),
        ("scheduled__2026-13-23T03:00:00+00:00", None),
        ("scheduled__2026-11-23T03:00:00+99:99", None),
        ("scheduled__2026-11-23T03:00:61Z", None),
    ],
)
def test_scheduled_runs_have_a_nominal_time(flow_run_id: str, nominal: str | None) -> None:
    """The time that Airflow's id of the run has; runs that somebody started have none.

    Nor has one whose id only looks like it: times are told with seconds, and of days that there are.
    """
    event = ended(None, run=replace(make_run(), flow_run_id=flow_run_id))
    facet = event["run"]["facets"].get("nominalTime")
    assert (facet["nominalStartTime"] if facet else None) == nominal


def test_the_parent_is_the_task_of_airflow() -> None:
    """With the flow's run as the root."""
    parent = {"OPENLINEAGE_PARENT_ID": PARENT, "OPENLINEAGE_ROOT_PARENT_ID": ROOT}
    facet = ended(None, parent=parent)["run"]["facets"]["parent"]
    assert (facet["job"]["namespace"], facet["job"]["name"]) == ("airflow-prod", "airberg_x.sync")
    assert facet["run"]["runId"] == PARENT.rpartition("/")[2]
    assert facet["root"]["job"]["name"] == "airberg_x"
    alone = ended(None, parent={"OPENLINEAGE_PARENT_ID": "a/b/" + PARENT})["run"]["facets"]["parent"]
    assert alone["job"]["namespace"] == "a/b/airflow-prod"
    assert "root" not in alone


@pytest.mark.parametrize("text", ["", "x", "a/b", "a/b/c", "//0198f0a0-0000-7000-8000-0000000000aa"])
def test_a_parent_that_is_none_is_left_out(text: str) -> None:
    """Whatever somebody has set the variable to."""
    assert "parent" not in ended(None, parent={"OPENLINEAGE_PARENT_ID": text})["run"]["facets"]


def test_no_value_of_a_column_is_told(loaded: LoadedTables) -> None:
    """Nor anything of the configuration but names."""
    report = StreamReport(stream="customers", table="customers", rows_written=2, snapshot_ids=(7,))
    text = json.dumps(ended(loaded, run=with_report(report)))
    assert "plaintext" not in text
    assert "******" not in text
