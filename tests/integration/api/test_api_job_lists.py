"""Lists of jobs over real HTTP: whose, which ones, page by page."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from msgspec.structs import replace as replaced

from support.api_service import Service


def names(answer: httpx.Response) -> list[str]:
    """The names of jobs, sorted."""
    return [job["job_name"] for job in answer.json()]


@pytest.fixture
def jobs(service: Service) -> list[str]:
    """Jobs of ann and of bob."""
    for number in range(5):
        answer = service.post(name=f"a{number}", tags=["x"] if number % 2 else [], schedule="@daily")
        assert answer.status_code == 201, answer.text
    with service.client("bob") as bob:
        body = {"name": "b", "source_name": "source-github", "source_config": {}, "schema_name": "s"}
        answer = bob.post("/api/airbyte/ingest", json=body | {"mode": "append"})
        assert answer.status_code == 201, answer.text
    return [f"a{number}" for number in reversed(range(5))]


def test_everybody_sees_their_own(service: Service, jobs: list[str]) -> None:
    """Also jobs that are shared with a group of theirs; administrators see all."""
    assert names(service.api.get("/api/jobs")) == jobs
    assert names(service.admin.get("/api/jobs")) == ["b", *jobs]
    shared = service.store.jobs()[-1]
    request = replaced(shared.request, name="shared", share_with=("sales",))
    service.store.add_job(replace(shared, id=uuid4(), request=request), {})
    with service.client("carl", roles=["sales"]) as carl:
        assert names(carl.get("/api/jobs")) == ["shared"]
    with service.client("dora") as dora:
        assert names(dora.get("/api/jobs")) == []


def test_pages(service: Service, jobs: list[str]) -> None:
    """Link leads on and keeps the filters; the last page has none."""
    found: list[str] = []
    answer = service.api.get("/api/jobs", params={"limit": 2, "source": "source-faker"})
    pages = 1
    while "next" in answer.links:
        found += names(answer)
        assert "source=source-faker" in answer.links["next"]["url"]
        answer = service.api.get(answer.links["next"]["url"])
        pages += 1
    assert (found + names(answer), pages) == (jobs, 3)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"tag": "x"}, 2),
        ({"owner_id": "ann@example.com"}, 5),
        ({"owner_id": "bob@example.com"}, 0),
        ({"status": "new"}, 5),
        ({"status": "failed"}, 0),
        ({"source": "source-github"}, 0),
        ({"include_deleted": "true"}, 6),
    ],
)
def test_filters(service: Service, jobs: list[str], query: dict[str, str], count: int) -> None:
    """Among one's own; deleted ones when they are asked for."""
    gone = service.post(name="gone").json()["job_id"]
    assert service.api.delete(f"/api/jobs/{gone}").status_code == 204
    found = service.api.get("/api/jobs", params=query).json()
    assert len(found) == count
    assert {job["is_deleted"] for job in found} <= ({True, False} if count == 6 else {False})
    assert len(jobs) == 5


def test_a_list_shows_the_newest_run_and_the_tables(service: Service) -> None:
    """A job by itself shows ten runs."""
    job_id = service.post().json()["job_id"]
    newest = service.api.post(f"/api/jobs/{job_id}/trigger").json()["id"]
    [listed] = service.api.get("/api/jobs").json()
    alone = service.api.get(f"/api/jobs/{job_id}").json()
    assert [run["id"] for run in listed["runs"]] == [newest]
    assert (len(alone["runs"]), listed["tables"]) == (2, ["shop.users"])
    assert listed | {"runs": 0} == alone | {"runs": 0}


WRONG: list[dict[str, Any]] = [
    {"cursor": "x"},
    {"cursor": "é"},
    {"cursor": "MTIz"},
    {"cursor": "OTk5OTk5OTk5OTk5OTk5OTk5LjAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw"},  # beyond year 9999
    {"cursor": "A" * 101},
    {"limit": 0},
    {"limit": 501},
    {"status": "odd"},
    {"include_deleted": "perhaps"},
]


@pytest.mark.parametrize("query", WRONG)
def test_wrong_queries(service: Service, query: dict[str, Any]) -> None:
    """Are refused, and the parameter is named."""
    answer = service.api.get("/api/jobs", params=query)
    assert answer.status_code == 422
    assert "query" in answer.json()["errors"][0]["message"]
