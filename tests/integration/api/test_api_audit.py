"""The audit log over real HTTP: what it records, and who sees it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from support.api_service import BODY, Service


def test_what_people_do_is_recorded(service: Service) -> None:
    """Creating, changing, starting, cancelling and deleting; who, from where; no secrets."""
    created = service.post(schedule="@daily")
    job_id = created.json()["job_id"]
    url = f"/api/jobs/{job_id}"
    service.api.patch(url, json={"schedule": None})
    service.api.post(f"{url}/pause")
    run_id = service.api.post(f"{url}/trigger").json()["id"]
    service.api.post(f"/api/runs/{run_id}/cancel")
    service.api.delete(url)
    answer = service.admin.get("/api/audit")
    found = list(reversed(answer.json()))
    assert [e["action"] for e in found] == [
        "job.create",
        "job.change",
        "job.pause",
        "job.trigger",
        "run.cancel",
        "job.delete",
    ]
    assert {e["address"] for e in found} == {"127.0.0.1"}
    assert all(e["actor"].startswith("ann@example.com (") for e in found)
    assert [e["target"] for e in found if e["kind"] == "job"] == [job_id] * 5
    assert found[0]["detail"] == {"name": BODY["name"], "owner_id": "ann@example.com"}
    assert found[3]["detail"] == {"run": run_id}
    assert "never-shown-9" not in answer.text


def test_administrators_only(service: Service) -> None:
    """Whoever else asks is told so, whatever is asked for."""
    assert service.api.get("/api/audit").status_code == 403
    assert service.api.get("/api/audit", params={"target": "x"}).status_code == 403


def test_pages_and_filters(service: Service) -> None:
    """Link leads through all entries, and keeps the filters."""
    ids = [service.post(name=f"job {n}").json()["job_id"] for n in range(5)]
    for job_id in ids:
        service.api.post(f"/api/jobs/{job_id}/pause")
    found: list[Any] = []
    answer = service.admin.get("/api/audit", params={"limit": 4})
    while True:
        found += answer.json()
        if "next" not in answer.links:
            break
        answer = service.admin.get(answer.links["next"]["url"])
    assert [e["action"] for e in found] == ["job.pause"] * 5 + ["job.create"] * 5
    of_one = service.admin.get("/api/audit", params={"target": ids[0], "limit": 1})
    rest: httpx.Response = service.admin.get(of_one.links["next"]["url"])
    assert [e["action"] for e in (*of_one.json(), *rest.json())] == ["job.pause", "job.create"]
    assert "next" not in rest.links
    assert service.admin.get("/api/audit", params={"actor": "nobody"}).json() == []


@pytest.mark.parametrize("query", [{"before": 0}, {"limit": 0}, {"limit": 5000}, {"target": "x" * 1001}])
def test_wrong_queries(service: Service, query: dict[str, Any]) -> None:
    """Are refused by name."""
    assert service.admin.get("/api/audit", params=query).status_code == 422
