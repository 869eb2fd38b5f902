"""The contract over HTTP: the documented call, and what wrong ones are answered."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from support.deployment import write_scenario
from support.live_stack import LiveStack, wait_for

USERS = {
    "name": "users",
    "cursor": "id",
    "primary_key": [["id"]],
    "records": [{"id": i, "email": f"u{i}@example.com", "address": {"city": "X"}} for i in range(1, 4)],
}
LOGS = {"name": "logs", "records": [{"line": "a"}]}


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source with two streams, one of them without a primary key."""
    return write_scenario(tmp_path_factory.mktemp("scenario"), {"streams": [USERS, LOGS]})


@pytest.fixture
def api(live: LiveStack) -> Iterator[httpx.Client]:
    """A client that may do everything but administrate."""
    with live.client() as client:
        yield client


def valid(scenario: Path, **changes: Any) -> dict[str, Any]:
    """A body that would be accepted, changed; a value of `...` leaves the field out."""
    body = {
        "name": f"contract {uuid4()}",
        "source_name": "source-scripted",
        "source_config": {"scenario": str(scenario), "password": "not-to-be-seen-1"},
        "schema_name": "contract",
        "mode": "append",
        "streams": ["users"],
    } | changes
    return {k: v for k, v in body.items() if v is not ...}


def test_the_curl_of_the_contract(live: LiveStack) -> None:
    """The documented command with real values: 201, a flow_url that opens, a successful run in Airflow."""
    body = {
        "name": "Faker by curl",
        "source_name": "source-faker",
        "source_config": {"count": 10, "seed": 1, "parallelism": 1},
        "schema_name": "by_curl",
        "mode": "merge",
        "streams": ["users"],
        "merge": "id",
        "schedule": "0 6 * * *",
        "domain": "Sales",
        "tags": ["demo"],
        "owner_id": "ann@example.com",
        "column_transformations": [
            {
                "column": "age",
                "transformation_type": "cast",
                "stream": "users",
                "target_type": "string",
                "new_name": None,
                "encryption_key_name": None,
            }
        ],
    }
    command = [
        *("curl", "-sS", "-w", "\n%{http_code}", "--request", "POST"),
        *("--url", f"{live.settings.api_url}/api/airbyte/ingest"),
        *("--header", f"Authorization: Bearer {live.token()}"),
        *("--header", "Content-Type: application/json", "--data", json.dumps(body)),
    ]

    def posted() -> tuple[dict[str, Any], str] | None:
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        text, status = out.rsplit("\n", 1)
        return None if status == "503" else (json.loads(text), status)  # 503: still installing

    answer, status = wait_for(posted, 120, "an answer other than 503")
    assert status == "201", answer
    assert set(answer) == {"flow_url", "job_id", "error"}
    assert answer["error"] is None
    assert httpx.get(answer["flow_url"], trust_env=False).status_code == 200
    flow = answer["flow_url"].rsplit("/", 1)[1]
    run = live.finished_run(answer["job_id"])
    assert run["status"] == "completed", run
    with live.airflow() as airflow:
        shown = airflow.get(f"/api/v2/dags/{flow}").json()
        assert shown["dag_display_name"] == "Faker by curl"
        assert shown["timetable_summary"] == "0 6 * * *"

        def state() -> str | None:
            got = airflow.get(f"/api/v2/dags/{flow}/dagRuns/{run['flow_run_id']}").json()["state"]
            return got if got in ("success", "failed") else None

        assert wait_for(state, 60, "the end of the flow run") == "success"


def test_names_and_idempotency(live: LiveStack, api: httpx.Client, scenario: Path) -> None:
    """A name is taken once per owner; a key repeats its answer, and is refused with another body."""
    body = valid(scenario, schedule="0 6 1 1 *", run_now=False)
    key = {"Idempotency-Key": str(uuid4())}
    first = api.post("/api/airbyte/ingest", json=body, headers=key)
    assert first.status_code == 201, first.text
    assert first.headers["location"] == f"/api/jobs/{first.json()['job_id']}"
    again = api.post("/api/airbyte/ingest", json=body, headers=key)
    assert (again.status_code, again.json()) == (200, first.json())
    other = api.post("/api/airbyte/ingest", json=body | {"mode": "overwrite"}, headers=key)
    assert (other.status_code, other.json()["type"]) == (409, "/problems/idempotency-key-reused")
    taken = api.post("/api/airbyte/ingest", json=body)
    assert (taken.status_code, taken.json()["type"]) == (409, "/problems/name-taken")
    assert first.json()["job_id"] in taken.json()["error"]
    with live.client("bob@example.com") as bob:
        assert bob.get(f"/api/jobs/{first.json()['job_id']}").status_code == 404
        table = bob.post("/api/airbyte/ingest", json=body | {"mode": "overwrite"})
        assert (table.status_code, table.json()["type"]) == (409, "/problems/table-taken")


def test_tokens_and_owners(live: LiveStack, api: httpx.Client, scenario: Path) -> None:
    """No token 401, bad token 401, no scope 403, another owner 403 unless the role allows it."""
    url, body = "/api/airbyte/ingest", valid(scenario, run_now=False, schedule="@yearly")
    with httpx.Client(base_url=live.settings.api_url, trust_env=False) as plain:
        none = plain.post(url, json=body)
        bad = plain.post(url, json=body, headers={"Authorization": "Bearer a.b.c"})
        read_only = live.token(scope="ingest:read")
        weak = plain.post(url, json=body, headers={"Authorization": f"Bearer {read_only}"})
    assert (none.status_code, bad.status_code, weak.status_code) == (401, 401, 403)
    assert none.headers["www-authenticate"].startswith("Bearer")
    assert 'error="invalid_token"' in bad.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in weak.headers["www-authenticate"]
    assert none.json()["flow_url"] == ""
    assert api.post(url, json=body | {"owner_id": "bob@example.com"}).status_code == 403
    with live.client("root@example.com", roles=["ingest-admin"]) as root:
        made = root.post(url, json=body | {"owner_id": "bob@example.com"})
        assert made.status_code == 201, made.text
        assert root.get(f"/api/jobs/{made.json()['job_id']}").json()["owner_id"] == "bob@example.com"


def test_too_large_and_not_json(api: httpx.Client) -> None:
    """413 and 422 with the same problem shape."""
    large = api.post("/api/airbyte/ingest", content=b'{"name": "' + b"x" * 2_000_000 + b'"}')
    assert large.status_code == 413
    assert large.json()["job_id"] is None
    broken = api.post("/api/airbyte/ingest", content=b'{"name": ')
    assert broken.status_code == 422
    assert broken.json()["errors"][0]["code"] == "bad-json"


def test_dry_run_answers_the_plan_and_creates_nothing(api: httpx.Client, scenario: Path) -> None:
    """Streams, keys, tables, transformations, next runs; afterwards there is no job."""
    body = valid(
        scenario,
        mode="merge",
        schedule="0 6 * * *",
        timezone="Europe/Berlin",
        domain="Sales",
        column_transformations=[{"column": "id", "transformation_type": "encrypt"}],
    )
    answer = api.post("/api/airbyte/ingest", params={"dry_run": "true"}, json=body)
    assert answer.status_code == 200, answer.text
    plan = answer.json()["plan"]
    [stream] = plan["streams"]
    assert (stream["sync_mode"], stream["merge_key"]) == ("incremental", ["id"])
    column = next(c for c in stream["columns"] if c["column"] == "id")
    assert column["transformations"]["encrypt"]["mode"] == "deterministic"
    assert stream["table"]["name"] == "contract.users"
    assert plan["governance"]["domain"] == "urn:li:domain:sales"
    assert len(plan["flow"]["next_runs"]) == 3
    assert "not-to-be-seen-1" not in answer.text
    assert body["name"] not in [j["job_name"] for j in api.get("/api/jobs").json()]


def test_preflight_can_be_skipped(live: LiveStack, api: httpx.Client, tmp_path: Path) -> None:
    """The source is asked by the first run instead, which then says what is wrong."""
    path = write_scenario(tmp_path, {"streams": [USERS]})
    body = valid(path, streams=["no-such-stream"])
    answer = api.post("/api/airbyte/ingest", params={"preflight": "skip"}, json=body)
    assert answer.status_code == 201, answer.text
    run = live.finished_run(answer.json()["job_id"])
    assert run["status"] == "failed"
    assert "no-such-stream" in run["error"]
