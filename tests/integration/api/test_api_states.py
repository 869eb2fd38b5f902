"""States, rewinds and tables over real HTTP: who may, what is answered, what is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from airberg.api.app import AppParts, create_app
from airberg.flows.memory import MemoryOrchestrator
from airberg.governance.memory import MemoryDirectory
from airberg.identity.development import DevelopmentIssuer
from airberg.identity.verifier import build_verifier
from airberg.jobs.model import Run
from airberg.plan.child import ChildPlanner
from airberg.sync.job_tables_here import JobTablesHere
from support.deployment import Deployment, write_scenario
from support.served import served

OWN = {"type": "STREAM", "stream": {"stream_descriptor": {"name": "users"}, "stream_state": {"cursor": 2}}}


@dataclass
class Service:
    """The application over a deployment whose job has run twice; members of the group sales see it."""

    deployment: Deployment
    job: str
    runs: list[Run]
    client: Callable[..., httpx.Client]

    def rows(self) -> int:
        """Rows in the table."""
        return self.deployment.table("users").scan().to_arrow().num_rows

    def recorded(self) -> list[tuple[str, str, dict[str, Any]]]:
        """What the audit log has of the job, oldest first."""
        found = self.deployment.store.audit.entries(target=self.job)
        return [(e.actor.split(" ")[0], e.action, dict(e.detail)) for e in reversed(found)]


@pytest.fixture
def service(tmp_path: Path, pyairbyte_dir: Path, connectors_dir: Path) -> Iterator[Service]:
    """The service."""
    deployment = Deployment(tmp_path / "home", pyairbyte_dir, connectors_dir)
    runs = []
    for count in (3, 7):
        records = [{"id": i, "mail": f"{i}@example.com"} for i in range(1, count + 1)]
        users = {"name": "users", "cursor": "id", "primary_key": [["id"]], "records": records}
        path = write_scenario(tmp_path, {"streams": [users]})
        if not runs:
            job = deployment.job(path, share_with=("sales",))
        runs.append(deployment.run(job, f"run-{count}"))
    settings = deployment.settings
    issuer = DevelopmentIssuer(settings)
    parts = AppParts(
        settings=settings,
        store=deployment.store,
        planner=ChildPlanner(settings),
        orchestrator=MemoryOrchestrator(),
        directory=MemoryDirectory({}),
        verifier=build_verifier(settings),
        machine_token="machine-token-of-the-test",
        job_tables=JobTablesHere(settings, deployment.store, deployment.catalog, deployment.store.sealer),
    )
    with ExitStack() as stack:
        url = stack.enter_context(served(create_app(parts)))

        def client(*groups: str, scope: str = "ingest:read ingest:write", **claims: Any) -> httpx.Client:
            token = issuer.mint("ann", scope.split(), 600, groups=[*groups], **claims)
            headers = {"Authorization": f"Bearer {token}"}
            return stack.enter_context(httpx.Client(base_url=url, headers=headers, trust_env=False))

        yield Service(deployment, str(job.id), runs, client)


def codes(answer: httpx.Response, status: int) -> list[str]:
    """Codes of a refusal."""
    assert answer.status_code == status, answer.text
    return [e["code"] for e in answer.json()["errors"]]


def test_state_is_shown_set_and_deleted(service: Service) -> None:
    """What is shown can be sent back; each change is recorded, without the state itself."""
    api, path = service.client("sales"), f"/api/jobs/{service.job}/state"
    shown = api.get(path).json()
    assert (shown["job_id"], shown["unfinished"], len(shown["states"])) == (service.job, [], 1)
    [users] = shown["streams"]
    assert (users["table"], users["kind"], users["complete"]) == ("shop.users", "stream", True)
    assert users["snapshot_id"] == str(service.deployment.table("users").metadata.current_snapshot_id)
    changed = api.put(path, json={"states": [OWN]})
    assert (changed.status_code, changed.json()["states"]) == (200, [OWN])
    assert api.delete(path, params={"stream": "users"}).json()["states"] == []
    assert api.put(path, json={"states": shown["states"]}).json()["states"] == shown["states"]
    assert service.recorded() == [
        ("ann", "state.set", {"streams": ["users"]}),
        ("ann", "state.delete", {"streams": ["users"]}),
        ("ann", "state.set", {"streams": ["users"]}),
    ]
    assert service.rows() == 7


def test_a_job_goes_back(service: Service) -> None:
    """First shown, then done; the next run goes on from there."""
    api, path = service.client("sales"), f"/api/jobs/{service.job}/rewind"
    body = {"run_id": str(service.runs[0].id)}
    asked = api.post(path, params={"dry_run": "true"}, json=body)
    assert asked.status_code == 200, asked.text
    [table] = asked.json()["tables"]
    assert (table["rows_before"], table["rows_after"], table["rows_difference"]) == (7, 3, -4)
    assert [(c["by"], c["who"]) for c in table["lost"]] == [("run", "run-7")]
    assert (asked.json()["done"], service.rows(), service.recorded()) == (False, 7, [])
    done = api.post(path, json=body)
    assert (done.json()["done"], service.rows()) == (True, 3)
    assert done.json()["tables"] == asked.json()["tables"]
    assert service.recorded() == [("ann", "job.rewind", {"run": body["run_id"], "force": False})]
    assert [s.rows_read for s in service.deployment.run(UUID(service.job), "run-8").report.streams] == [4]
    assert service.rows() == 7


def test_a_table_is_shown(service: Service) -> None:
    """To who sees a job that fills it, whatever its case; names in the address may have dots."""
    api = service.client("sales")
    shown = api.get("/api/tables/shop/users", params={"preview": 2, "snapshots": 1}).json()
    assert (shown["table"], shown["rows"], shown["jobs"]) == ("shop.users", 7, [service.job])
    assert len(shown["preview"]) == 2
    assert [s["current"] for s in shown["snapshots"]] == [True]
    assert shown["snapshot_count"] >= 2
    assert "preview" in shown
    assert api.get("/api/tables/shop/users").json()["preview"] is None
    assert codes(api.get("/api/tables/shop/users", params={"preview": 101}), 422) == ["out-of-range"]


def test_strangers_learn_nothing(service: Service) -> None:
    """Another's job is not found, nor is its table; a scope to read is none to change."""
    stranger, reader = service.client("lab"), service.client("sales", scope="ingest:read")
    root = service.client(roles=["ingest-admin"])
    job, body = f"/api/jobs/{service.job}", {"run_id": str(service.runs[0].id)}
    calls: list[tuple[str, str, Any]] = [
        ("PUT", f"{job}/state", {"states": [OWN]}),
        ("DELETE", f"{job}/state", None),
        ("POST", f"{job}/rewind", body),
    ]
    for method, path, content in [
        *calls,
        ("GET", f"{job}/state", None),
        ("GET", "/api/tables/shop/users", None),
    ]:
        assert codes(stranger.request(method, path, json=content), 404) == ["not-found"]
    for method, path, content in calls:
        assert codes(reader.request(method, path, json=content), 403) == ["not-allowed"]
    there, missing = (stranger.get(f"/api/tables/shop/{name}").json() for name in ("users", "nothing"))
    assert there == missing
    assert root.get("/api/tables/shop/users").status_code == 200
    assert codes(root.get("/api/tables/shop/nothing"), 404) == ["not-found"]
    assert reader.get("/api/tables/shop/users").status_code == 200
    assert service.recorded() == []


def test_what_is_wrong_with_a_request(service: Service) -> None:
    """All of it with its place; nothing is done or recorded."""
    api, job = service.client("sales"), f"/api/jobs/{service.job}"
    assert codes(api.put(f"{job}/state", json={"states": []}), 422) == ["out-of-range"]
    assert codes(api.put(f"{job}/state", json={"states": [OWN, OWN], "x": 1}), 422) == ["unknown-field"]
    assert codes(api.put(f"{job}/state", json={"states": [OWN, OWN]}), 422) == ["state-given-twice"]
    json = {"Content-Type": "application/json"}
    assert codes(api.put(f"{job}/state", content=b"{", headers=json), 422) == ["bad-json"]
    assert codes(api.delete(f"{job}/state", params={"stream": ["users", "no"]}), 422) == ["unknown-stream"]
    assert codes(api.post(f"{job}/rewind", json={"run_id": "first"}), 422) == ["wrong-type"]
    assert codes(api.post(f"{job}/rewind", json={"run_id": str(uuid4())}), 404) == ["not-found"]
    lease = service.deployment.store.acquire_lease(UUID(service.job), "a run", 60.0)
    body = {"run_id": str(service.runs[0].id)}
    assert codes(api.post(f"{job}/rewind", json=body), 409) == ["job-running"]
    assert api.post(f"{job}/rewind", params={"dry_run": True}, json=body).status_code == 200
    service.deployment.store.release_lease(lease)
    assert api.delete(job).status_code == 204
    assert codes(api.delete(f"{job}/state"), 409) == ["job-deleted"]
    assert api.get(f"{job}/state").status_code == 200
    assert [action for _, action, _ in service.recorded()] == ["job.delete"]
