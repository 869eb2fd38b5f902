"""A job's life as DataHub sees it: by HTTP, the flow, and its task `register`, to a double of DataHub."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from airberg.testing.datahub import DataHubDouble, serve_datahub
from support.airflow_stack import AirflowStack
from support.deployment import write_scenario
from support.free_ports import free_ports
from support.live_stack import LiveStack, wait_for

TABLE = "urn:li:dataset:(urn:li:dataPlatform:iceberg,governed.orders,PROD)"
DOMAIN = "urn:li:domain:human-resources"


def scenario(folder: Path, *fields: str) -> Path:
    """A source with one stream of these fields."""
    values = {"id": "$i", "item": "item $i", "note": "note $i"}
    stream = {
        "name": "orders",
        "cursor": "id",
        "primary_key": [["id"]],
        "generate": {"count": 5, "from": 1, "fields": {name: values[name] for name in fields}},
    }
    return write_scenario(folder, {"streams": [stream]})


@contextlib.contextmanager
def second_service(live: LiveStack, variables: dict[str, str], log: Path) -> Iterator[httpx.Client]:
    """Another process of the service, with more settings; a client of an administrator."""
    port = str(free_ports(1)[0])
    command = [sys.executable, "-m", "airberg.cli", "serve"]
    environment = dict(os.environ) | variables | {"AIRBERG_API__PORT": port}
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
    headers = {"Authorization": f"Bearer {live.token(roles=['ingest-admin'])}"}
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=60.0, trust_env=False) as api:

            def ready() -> bool | None:
                assert process.poll() is None, log.read_text()
                with contextlib.suppress(httpx.TransportError):
                    return api.get("/api/health/ping").status_code == 200 or None
                return None

            wait_for(ready, 60, "the second service")
            yield api
    finally:
        process.terminate()
        process.wait(30)


def fed_columns(datahub: DataHubDouble) -> set[str]:
    """Columns of the table that lineage leads to."""
    lines = datahub.aspect(TABLE, "upstreamLineage")["fineGrainedLineages"]
    return {line["downstreams"][0].rpartition(".")[2].rstrip(")") for line in lines}


def submitted(api: httpx.Client, body: dict[str, Any]) -> str:
    """Id of a new job."""
    answer = api.post("/api/airbyte/ingest", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["job_id"])


def test_what_goes_is_gone_in_datahub_too(
    live: LiveStack, airflow_stack: AirflowStack, tmp_path: Path
) -> None:
    """A column that is dropped, one that the source has no more, and in the end the job, while it was away.

    Its domain is made with the first table; who is named is looked up.
    """
    config = {"scenario": str(scenario(tmp_path, "id", "item", "note")), "password": "hunter2-hunter2"}
    body = {
        "name": f"governed {uuid4()}",
        "source_name": "source-scripted",
        "source_config": config,
        "schema_name": "governed",
        "mode": "append",
        "schedule": "0 6 * * *",
        "run_now": False,
        "domain": "Human Resources",
        "tags": ["pii"],
    }
    with serve_datahub() as datahub:
        variables = {
            "AIRBERG_DATAHUB__SERVER": datahub.url,
            "AIRBERG_DATAHUB__TOKEN": datahub.token,
            "AIRBERG_DATAHUB__DOMAIN_POLICY": "create",
            "AIRBERG_DATAHUB__OWNER_POLICY": "must-exist",
            "AIRBERG_DATAHUB__USER_CLAIM_REGEX": "([^@]+)",
            "AIRBERG_SOURCES__REDISCOVER_AFTER_S": "0",
        }
        with second_service(live, variables, tmp_path / "service.log") as api:
            refused = api.post("/api/airbyte/ingest", json=body)
            assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "unknown-owner")
            datahub.upsert("urn:li:corpuser:ann", "status", {"removed": False})
            job_id = submitted(api, body)
            airflow_stack.give_variables(job_id, variables)

            first = live.trigger(job_id)
            assert (first["status"], first["metadata"]) == ("completed", datahub.url), first
            assert fed_columns(datahub) == {"id", "item", "note"}
            assert datahub.aspect(DOMAIN, "domainProperties")["name"] == "Human Resources"
            owners = datahub.aspect(TABLE, "ownership")["owners"]
            assert [o["owner"] for o in owners] == ["urn:li:corpuser:ann"]

            drop = [{"column": "note", "transformation_type": "drop"}]
            changed = api.patch(f"/api/jobs/{job_id}", json={"column_transformations": drop})
            assert changed.status_code == 200, changed.text
            assert live.trigger(job_id)["metadata"] == datahub.url
            assert fed_columns(datahub) == {"id", "item"}

            rule = {"column_transformations": []}
            assert api.patch(f"/api/jobs/{job_id}", json=rule).status_code == 200
            scenario(tmp_path, "id", "note")
            assert live.trigger(job_id)["metadata"] == datahub.url
            assert fed_columns(datahub) == {"id", "note"}

            flow = f"urn:li:dataFlow:(airflow,airberg_{job_id},prod)"
            assert datahub.aspect(flow, "status") == {"removed": False}
            assert api.delete(f"/api/jobs/{job_id}").status_code == 204
            wait_for(lambda: datahub.aspect(flow, "status") == {"removed": True} or None, 90, "its end")
            task = f"urn:li:dataJob:({flow},sync)"
            assert datahub.aspect(task, "status") == {"removed": True}
            about = datahub.aspect(TABLE, "datasetProperties")["customProperties"]
            assert "airberg.job-deleted-at" in about
            assert datahub.aspect(TABLE, "status") == {"removed": False}
