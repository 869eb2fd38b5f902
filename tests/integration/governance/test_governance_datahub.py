"""DataHub's own client and command line against a double of its service."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog

from airberg.errors import TransientFailed, Unavailable
from airberg.governance.datahub_settings import DataHubSettings
from airberg.governance.directory import DataHubDirectory
from airberg.governance.policies import Policies
from airberg.governance.register import register_run
from airberg.governance.rest import RestSink
from airberg.settings import Settings
from airberg.testing.datahub import Fault, serve_datahub
from support.governed_tables import (
    JOB_ID,
    RUN_ID,
    make_customers,
    make_job,
    make_orders,
    make_run,
    memory_catalog,
)


@pytest.fixture
def lake(tmp_path: Path) -> Catalog:
    """A catalog with the two tables of the job."""
    catalog = memory_catalog(tmp_path)
    make_customers(catalog)
    make_orders(catalog)
    return catalog


def child(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python process with an empty home folder and nothing else of this environment but the path."""
    home.mkdir(exist_ok=True)
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "DATAHUB_TELEMETRY_ENABLED": "false"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env=environment, cwd=home, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_run_is_one_request(lake: Catalog) -> None:
    """All proposals of a run go in one batch, stamped so that DataHub can roll the run back."""
    with serve_datahub() as gms:
        sink = RestSink(gms.url, token=gms.token, timeout_s=5, retries=0)
        where = register_run(make_job(), make_run("customers", "orders"), lake, Settings(), sink)
    assert where == gms.url
    domain, *calls = [call for call in gms.calls if call != "GET /config"]
    assert domain.startswith("GET /openapi/v3/entity/domain/"), "one that is there would keep its name"
    assert calls == ["POST /aspects?action=ingestProposalBatch"]
    stamps = {(m["runId"], m["pipelineName"]) for m in gms.system_metadata}
    assert stamps == {(f"airberg-{RUN_ID}", f"airberg_{JOB_ID}")}


def test_sending_writes_nothing_into_the_home_folder(tmp_path: Path) -> None:
    """Not even what DataHub's emitter writes when it is imported, telemetry off or on."""
    program = """
import sys
from uuid import UUID
from airberg.governance.rest import RestSink
import datahub.metadata.schema_classes as aspects
from datahub.emitter.mcp import MetadataChangeProposalWrapper as Wrapper
tag = Wrapper(entityUrn="urn:li:tag:pii", aspect=aspects.TagKeyClass(name="pii"))
print(RestSink(sys.argv[1], token=sys.argv[2]).send(UUID(int=1), UUID(int=2), [tag]))
from datahub.telemetry.telemetry import telemetry_instance
assert not telemetry_instance.enabled
"""
    home = tmp_path / "home"
    with serve_datahub() as gms:
        done = child(home, "-W", "error", "-c", program, gms.url, gms.token)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, gms.url, "")
    assert list(home.rglob("*")) == []
    assert ("urn:li:tag:pii", "tagKey") in gms.aspects


def test_building_proposals_writes_nothing_into_the_home_folder(tmp_path: Path) -> None:
    """The modules that describe tables stay away from what writes there."""
    program = "import airberg.governance.runs, sys; assert 'datahub.telemetry.telemetry' not in sys.modules"
    done = child(tmp_path / "home", "-W", "error", "-c", program)
    assert (done.returncode, done.stderr) == (0, "")
    assert list((tmp_path / "home").rglob("*")) == []


def test_light_modules_import_neither_datahub_nor_pyiceberg(tmp_path: Path) -> None:
    """The HTTP process and the command line may import them."""
    names = (
        "port",
        "wire",
        "files",
        "rest",
        "connection",
        "patch_merge",
        "memory",
        "sinks",
        "facts",
        "resolve",
        "register",
    )
    imports = ", ".join(f"airberg.governance.{name}" for name in names)
    program = (
        f"import sys, {imports}\n"
        "heavy = {'datahub', 'pyiceberg', 'pyarrow', 'avro', 'requests'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert __import__('os').environ['DATAHUB_TELEMETRY_ENABLED'] == 'false'\n"
    )
    done = child(tmp_path / "home", "-c", program)
    assert (done.returncode, done.stderr) == (0, "")


def test_platforms_are_those_of_datahubs_airbyte_source(tmp_path: Path) -> None:
    """Every connector that it knows is on the same platform here."""
    program = """
from datahub.ingestion.source.airbyte.constants import KNOWN_SOURCE_TYPE_MAPPING as known
from airberg.governance.sources import source_platform
different = {k: v for k, v in known.items() if source_platform("source-" + k) != v}
assert len(known) > 40 and not different, different
"""
    done = child(tmp_path / "home", "-c", program)
    assert (done.returncode, done.stderr) == (0, "")


def test_urns_of_flows_runs_and_namespaces_are_those_of_datahubs_classes(tmp_path: Path) -> None:
    """The container of the Iceberg source; flow, task and run as DataHub's Airflow plugin computes them.

    The plugin's own steps (`AirflowGenerator` of acryl-datahub-airflow-plugin 1.7.0.17), with its classes.
    """
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from datahub.api.entities.datajob import DataFlow, DataJob
from datahub.api.entities.dataprocess.dataprocess_instance import DataProcessInstance
from datahub.emitter.mcp_builder import NamespaceKey
from airberg.governance.datahub_settings import DataHubSettings
from airberg.governance.entities import Target
from airberg.governance.runs import flow_proposals
from support.governed_tables import make_job, make_run

class Named:
    def name(self):
        return ("a", "b", "t")

for instance in ("lake", None):
    theirs = NamespaceKey(namespace="a.b", platform="iceberg", instance=instance, env="PROD").as_urn()
    assert Target(Named(), instance, "PROD").container == theirs
job, run = make_job(), make_run()
for cluster, instance in (("prod", None), ("dev", None), ("prod", "airflow-eu")):
    flow = DataFlow(env=cluster, id=job.flow_id, orchestrator="airflow", platform_instance=instance)
    task = DataJob(id="sync", flow_urn=flow.urn, platform_instance=instance)
    ran = DataProcessInstance.from_datajob(datajob=task, id=f"{{job.flow_id}}_sync_{{run.flow_run_id}}")
    datahub = DataHubSettings(flow_cluster=cluster, flow_platform_instance=instance)
    ours = {{p.entityUrn for p in flow_proposals([], job, run, "http://airflow", datahub)}}
    assert ours == {{str(flow.urn), str(task.urn), str(ran.urn)}}, ours
    (parent,) = {{
        p.aspect.parentTemplate for p in flow_proposals([], job, run, "http://airflow", datahub)
        if p.aspectName == "dataProcessInstanceRelationships"
    }}
    assert parent == str(task.urn)
"""
    done = child(tmp_path / "home", "-c", program)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("status", [401, 429, 500, 422])
def test_a_refusal_is_told_without_the_token(lake: Catalog, status: int) -> None:
    """Whatever the service answers, the task is tried again and the token is not in the message."""
    with serve_datahub() as gms:
        token = "wrong-t0ken" if status == 401 else gms.token
        if status != 401:
            gms.fault = Fault(status=status, only="/aspects")
        sink = RestSink(gms.url, token=token, timeout_s=5, retries=0)
        with pytest.raises(TransientFailed) as caught:
            register_run(make_job(), make_run("orders"), lake, Settings(), sink)
    assert caught.value.code == "metadata-unavailable"
    assert gms.url in caught.value.message
    assert token not in caught.value.sentence()


def closed_port() -> str:
    """An address that was somebody's until a moment ago."""
    with serve_datahub() as gms:
        return gms.url


def test_a_server_that_is_gone_is_told(lake: Catalog) -> None:
    """Nobody listens: both the sink and the directory say that it is away."""
    url = closed_port()
    with pytest.raises(Unavailable):
        RestSink(url, timeout_s=2, retries=0).send(JOB_ID, RUN_ID, [])
    with pytest.raises(Unavailable, match="ConnectError"):
        DataHubDirectory(url, timeout_s=2).entities("domain")


def test_the_web_front_end_is_told_from_the_service() -> None:
    """A page that is no JSON is no directory."""
    with serve_datahub() as gms, pytest.raises(Unavailable, match="answered 404"):
        DataHubDirectory(f"{gms.url}/frontend", token=gms.token).entities("domain")


def test_a_domain_that_the_index_has_not_seen_is_found_by_urn_and_id() -> None:
    """The store is asked too: the search index follows it by some seconds."""
    with serve_datahub() as gms:
        gms.add_domain("urn:li:domain:fresh", "Fresh")
        gms.unindexed.add("urn:li:domain:fresh")
        asking = Policies(DataHubSettings(server=gms.url), DataHubDirectory(gms.url, token=gms.token))
        assert asking.domain("urn:li:domain:fresh") == "urn:li:domain:fresh"
        assert asking.domain("fresh") == "urn:li:domain:fresh"


def test_a_graphql_error_is_no_empty_directory() -> None:
    """A service that does not know the query must not look like one without domains."""
    with serve_datahub() as gms:
        gms.graphql_error = "Validation error"
        with pytest.raises(Unavailable, match="could not say"):
            DataHubDirectory(gms.url, token=gms.token).entities("domain")
