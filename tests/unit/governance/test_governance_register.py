"""The flow task that registers a run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from pyiceberg.catalog import Catalog

from airberg.errors import ConfigurationFailed, TransientFailed
from airberg.governance.datahub_settings import DataHubSettings
from airberg.governance.files import FileSink
from airberg.governance.memory import MemorySink
from airberg.governance.port import Proposal
from airberg.governance.register import register_run
from airberg.governance.rest import RestSink
from airberg.governance.sinks import open_sink
from airberg.plan.model import GovernancePlan
from airberg.settings import Settings
from support.governed_tables import JOB_ID, PLAN, RUN_ID, make_job, make_run


def described(sink: MemorySink) -> list[str]:
    """Datasets of the one run that was sent."""
    return [p["entityUrn"] for p in sink.sent[JOB_ID, RUN_ID] if p["aspectName"] == "datasetProperties"]


def test_tables_of_the_run_are_sent_in_one_go(lake: Catalog) -> None:
    """Both tables, one flow, and the container that they share only once."""
    sink = MemorySink()
    where = register_run(make_job(), make_run("customers", "orders"), lake, Settings(), sink)
    assert where == f"memory:{JOB_ID}/{RUN_ID}"
    assert [urn.split(",")[1] for urn in described(sink)] == ["sales.customers", "sales.orders"]
    names = [p["aspectName"] for p in sink.sent[JOB_ID, RUN_ID]]
    assert names.count("containerProperties") == names.count("dataFlowInfo") == 1
    (container,) = [p for p in sink.sent[JOB_ID, RUN_ID] if p["aspectName"] == "containerProperties"]
    assert container["aspect"]["json"]["customProperties"]["team"] == "crm"


def test_streams_without_a_table_are_left_out(lake: Catalog) -> None:
    """A stream that never committed, and one that the plan no longer has."""
    plan = msgspec.structs.replace(
        PLAN, streams=(*PLAN.streams, msgspec.structs.replace(PLAN.streams[1], table="never"))
    )
    sink = MemorySink()
    register_run(make_job(plan), make_run("never", "gone", "orders"), lake, Settings(), sink)
    assert [urn.split(",")[1] for urn in described(sink)] == ["sales.orders"]


def test_a_run_without_tables_is_still_told(lake: Catalog) -> None:
    """The flow and the run are there."""
    sink = MemorySink()
    register_run(make_job(), make_run(), lake, Settings(), sink)
    assert {p["entityType"] for p in sink.sent[JOB_ID, RUN_ID]} == {
        "dataFlow",
        "dataJob",
        "dataProcessInstance",
    }


def test_urls_are_those_that_users_see(lake: Catalog) -> None:
    """The flow's page by Airflow's public address."""
    sink = MemorySink()
    airflow = {"public_url": "https://airflow.example.com/"}
    register_run(make_job(), make_run(), lake, Settings(airflow=airflow), sink)
    (flow,) = [p for p in sink.sent[JOB_ID, RUN_ID] if p["aspectName"] == "dataFlowInfo"]
    assert flow["aspect"]["json"]["externalUrl"] == f"https://airflow.example.com/dags/airberg_{JOB_ID}"


@pytest.mark.parametrize(
    ("datahub", "named"),
    [
        ({}, ["Marketing Ops"]),
        ({"server": "http://datahub"}, []),
        ({"server": "http://datahub", "domain_policy": "create"}, ["Marketing Ops"]),
    ],
)
def test_domains_are_named_where_they_may_be_made(
    lake: Catalog, datahub: dict[str, str], named: list[str]
) -> None:
    """In files, and where that is the policy; else the domain is there."""
    sink = MemorySink()
    settings = Settings(datahub=DataHubSettings.model_validate(datahub))
    register_run(make_job(), make_run("orders"), lake, settings, sink)
    sent = sink.sent[JOB_ID, RUN_ID]
    found = [p["aspect"]["json"]["name"] for p in sent if p["aspectName"] == "domainProperties"]
    assert found == named


def test_a_domain_that_was_never_resolved_is_resolved_now(lake: Catalog) -> None:
    """A job that was submitted without preflight has the name that was asked for."""
    plan = msgspec.structs.replace(PLAN, governance=GovernancePlan(domain="Marketing Ops"))
    sink = MemorySink()
    register_run(make_job(plan), make_run("orders"), lake, Settings(), sink)
    (domains,) = [p for p in sink.sent[JOB_ID, RUN_ID] if p["aspectName"] == "domains"]
    assert domains["aspect"]["json"] == {"domains": ["urn:li:domain:marketing-ops"]}


def test_a_sink_that_is_away_is_tried_again(lake: Catalog) -> None:
    """The reason and the guidance reach the run."""
    with pytest.raises(TransientFailed) as caught:
        register_run(make_job(), make_run("orders"), lake, Settings(), MemorySink(available=False))
    assert (caught.value.code, caught.value.exit_code) == ("metadata-unavailable", 1)


class BrokenSink:
    """Breaks in a way that nobody foresaw."""

    def send(self, job_id: UUID, run_id: UUID, proposals: Iterable[Proposal]) -> str:
        """Fail with something of its own."""
        raise RuntimeError(f"plaintext of {job_id}, {run_id}, {len(list(proposals))}")


def test_what_nobody_foresaw_is_tried_again_and_shows_nothing(lake: Catalog) -> None:
    """The kind of error is told, its text, which may hold anything, is not."""
    with pytest.raises(TransientFailed) as caught:
        register_run(make_job(), make_run("orders"), lake, Settings(), BrokenSink())
    assert "RuntimeError" in caught.value.message
    assert "plaintext" not in caught.value.sentence()


def test_a_job_without_plan_cannot_be_registered(lake: Catalog) -> None:
    """Trying again does not help before a sync has planned it."""
    with pytest.raises(ConfigurationFailed):
        register_run(make_job(None), make_run(), lake, Settings(), MemorySink())


def test_the_default_is_one_file_per_run(lake: Catalog, tmp_path: Path) -> None:
    """Settings without a server write below the home folder, and domain, tags and owner are in it."""
    settings = Settings(home=tmp_path)
    sink = open_sink(settings)
    assert isinstance(sink, FileSink)
    path = register_run(make_job(), make_run("customers"), lake, settings, sink)
    assert path == str(tmp_path / "metadata" / str(JOB_ID) / f"{RUN_ID}.json")
    text = Path(path).read_text()
    for word in ("urn:li:domain:marketing-ops", "urn:li:tag:crm data", "urn:li:corpuser:alice@example.com"):
        assert word in text
    assert json.loads(text)
    assert register_run(make_job(), make_run("customers"), lake, settings, sink) == path
    assert Path(path).read_text() == text
    assert [p.name for p in Path(path).parent.iterdir()] == [f"{RUN_ID}.json"]


def test_with_a_server_the_sink_is_datahub() -> None:
    """Its address is shown without credentials, its token never."""
    server = "http://user:s3cret@datahub:8080/"
    sink = open_sink(Settings(datahub=DataHubSettings.model_validate({"server": server, "token": "t0ken"})))
    assert isinstance(sink, RestSink)
    assert repr(sink) == "RestSink('http://datahub:8080')"
