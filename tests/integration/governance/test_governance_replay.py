"""Files of change proposals, sent by DataHub's own command line as the how-to says."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
import yaml
from pyiceberg.catalog import Catalog

from airberg.governance.files import FileSink
from airberg.governance.port import MetadataSink
from airberg.governance.register import register_run
from airberg.governance.rest import RestSink
from airberg.jobs.model import Run
from airberg.settings import Settings
from airberg.testing.datahub import DataHubDouble, serve_datahub
from support.governed_tables import ENDED, make_customers, make_job, make_orders, make_run, memory_catalog
from support.pages import Page

DATASET = "urn:li:dataset:(urn:li:dataPlatform:iceberg,sales.customers,PROD)"
BOB = {"owner": "urn:li:corpuser:bob", "type": "BUSINESS_OWNER"}


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], DataHubDouble]:
    """Two runs of a job as files, and a service that got both directly; people were busy in between."""
    folder = tmp_path_factory.mktemp("replay")
    catalog = memory_catalog(folder)
    customers = make_customers(catalog)
    make_orders(catalog)
    files = FileSink(folder / "metadata")
    paths: list[Path] = []
    with serve_datahub() as direct:
        rest = RestSink(direct.url, token=direct.token, retries=0)
        first = make_run("customers", "orders")
        people_come(direct)
        paths.append(both(catalog, first, files, rest))
        people_come_again(direct)
        later = dataclasses.replace(
            make_run("customers"),
            id=UUID(int=99),
            flow_run_id="scheduled__2026-11-24",
            ended_at=ENDED + timedelta(days=1),
        )
        row = [{"id": 3, "email": b"\x02", "labels": []}]
        customers.append(pa.Table.from_pylist(row, schema=customers.schema().as_arrow()))
        paths.append(both(catalog, later, files, rest))
    return paths, direct


def both(catalog: Catalog, run: Run, files: FileSink, rest: MetadataSink) -> Path:
    """Register a run in both ways; the path of its file."""
    register_run(make_job(), run, catalog, Settings(), rest)
    return Path(register_run(make_job(), run, catalog, Settings(), files))


def people_come(datahub: DataHubDouble) -> None:
    """Before the first run."""
    datahub.upsert(DATASET, "globalTags", {"tags": [{"tag": "urn:li:tag:human"}]})
    datahub.upsert(DATASET, "ownership", {"owners": [BOB]})


def people_come_again(datahub: DataHubDouble) -> None:
    """Between the runs: a tag of theirs goes, another comes."""
    tags = [t for t in datahub.aspect(DATASET, "globalTags")["tags"] if t["tag"] != "urn:li:tag:human"]
    datahub.upsert(DATASET, "globalTags", {"tags": [*tags, {"tag": "urn:li:tag:gold"}]})


def replay(folder: Path, file: Path, datahub: DataHubDouble, **sink: Any) -> None:
    """Run `datahub ingest` with the recipe of the how-to: its path and its server replaced, a token added."""
    (block,) = [b for b in Page("docs/how-to/own-datahub.md").blocks if b.language == "yaml"]
    recipe = yaml.safe_load(block.text)
    recipe["source"]["config"]["path"] = str(file)
    recipe["sink"]["config"] |= {"server": datahub.url, "token": datahub.token} | sink
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command = [sys.executable, "-m", "datahub", "ingest", "run", "--no-default-report", "-c", "recipe.yaml"]
    environment = {"HOME": str(folder), "PATH": os.environ["PATH"], "DATAHUB_TELEMETRY_ENABLED": "false"}
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("endpoint", ["RESTLI", "OPENAPI"])
def test_files_that_datahub_sends_end_as_sending_does(
    two_runs: tuple[list[Path], DataHubDouble], tmp_path: Path, endpoint: str
) -> None:
    """UPSERTs, PATCHes and events of two runs, one file after the other, with people in between."""
    (first, second), direct = two_runs
    with serve_datahub() as replayed:
        people_come(replayed)
        replay(tmp_path, first, replayed, endpoint=endpoint)
        people_come_again(replayed)
        replay(tmp_path, second, replayed, endpoint=endpoint)
    paths = {call.split("?")[0] for call in replayed.calls if not call.startswith("GET")}
    assert any("/openapi/v3/entity" in path for path in paths) is (endpoint == "OPENAPI")
    assert replayed.state() == direct.state()
    assert len(replayed.aspects) > 40
    tags = {t["tag"] for t in replayed.aspect(DATASET, "globalTags")["tags"]}
    assert tags == {"urn:li:tag:gold", "urn:li:tag:pii", "urn:li:tag:crm data"}
    assert BOB in replayed.aspect(DATASET, "ownership")["owners"]
    profiles = replayed.events(DATASET, "datasetProfile")
    assert [p["rowCount"] for p in profiles] == [2, 3]
