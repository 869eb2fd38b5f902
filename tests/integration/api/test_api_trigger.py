"""Starting runs over real HTTP: what can be asked of one run, and how a run with parts is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from airberg.jobs.lifecycle import Ending
from airberg.jobs.model import RunReport, RunRequest, RunStatus, StreamReport
from support.api_service import STREAM, Service

AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def url(service: Service) -> str:
    """Of a job with two streams."""
    service.planner.streams = [STREAM, STREAM | {"name": "orders"}]
    answer = service.post(schedule="@daily", run_now=False)
    return f"/api/jobs/{answer.json()['job_id']}"


def test_what_is_asked_of_a_run_reaches_airflow(service: Service, url: str) -> None:
    """It is stored with the run, shown, recorded, and told to the orchestrator."""
    asked = {"streams": ["orders", "orders"], "full_refresh": True}
    answer = service.api.post(f"{url}/trigger", json=asked)
    assert answer.status_code == 202
    run = answer.json()
    assert (run["asked"], run["parts"]) == ({"streams": ["orders"], "full_refresh": True}, [])
    assert service.api.get(f"/api/runs/{run['id']}").json()["asked"] == run["asked"]
    flow_id = f"airberg_{url.rpartition('/')[2]}"
    wanted = RunRequest(streams=("orders",), full_refresh=True)
    assert service.orchestrator.asked_of(flow_id, run["flow_run_id"]) == wanted
    [act] = [entry for entry in service.store.audit.entries(limit=10) if entry.action == "job.trigger"]
    assert act.detail == {"run": run["id"], "streams": ["orders"], "full_refresh": True}


@pytest.mark.parametrize("body", [None, {}, {"streams": None}, {"streams": []}])
def test_a_plain_run_needs_no_body(service: Service, url: str, body: dict[str, object] | None) -> None:
    """Everything is synced, from where the tables are."""
    answer = service.api.post(f"{url}/trigger", **({} if body is None else {"json": body}))  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["asked"]) == (202, {"streams": [], "full_refresh": False})


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"streams": ["order"]}, "/streams/0", "unknown-stream"),
        ({"streams": ["users", "nothing"]}, "/streams/1", "unknown-stream"),
        ({"streams": "users"}, "/streams", "wrong-type"),
        ({"streams": [""]}, "/streams/0", "out-of-range"),
        ({"streams": ["users"] * 501}, "/streams", "out-of-range"),
        ({"full_refresh": "yes"}, "/full_refresh", "wrong-type"),
        ({"refresh": True}, "/refresh", "unknown-field"),
    ],
)
def test_what_cannot_be_asked(
    service: Service, url: str, body: dict[str, object], pointer: str, code: str
) -> None:
    """Is refused with its place, before there is a run."""
    answer = service.api.post(f"{url}/trigger", json=body)
    first = answer.json()["errors"][0]
    assert (answer.status_code, first["pointer"]) == (422, pointer)
    assert first["code"] == code
    if body == {"streams": ["order"]}:
        assert first["guidance"] == 'Did you mean "orders"?'
    assert service.store.runs(UUID(url.rpartition("/")[2])) == []


def test_a_run_shows_its_parts(service: Service, url: str) -> None:
    """Each with its tables, attempts and error; the run's streams are those of all parts."""
    run = service.api.post(f"{url}/trigger").json()
    store, run_id = service.store, UUID(run["id"])
    store.start_run(UUID(run["job_id"]), run["flow_run_id"], 1, AT)
    store.run_parts.share_out(run_id, [["users"], ["orders"]])
    store.run_parts.start(run_id, 1, 1, AT)
    report = RunReport(streams=(StreamReport(stream="orders", table="orders", rows_written=3),))
    failed = Ending(
        status=RunStatus.FAILED, at=AT, error="It broke.", error_code="connector-exited", report=report
    )
    store.run_parts.end(run_id, 1, failed)
    shown = service.api.get(f"/api/runs/{run_id}").json()
    assert shown["status"] == "running"
    assert [s["rows_written"] for s in shown["streams"]] == [3]
    first, last = shown["parts"]
    assert (first["number"], first["tables"], first["status"], first["attempts"]) == (
        0,
        ["users"],
        "queued",
        [],
    )
    assert (last["status"], last["attempt"], last["error"]) == ("failed", 1, "It broke.")
    assert last["error_code"] == "connector-exited"
    assert [a["number"] for a in last["attempts"]] == [1]


def test_a_run_is_cancelled_between_its_parts(service: Service, url: str) -> None:
    """No process of ours is at work then that could report it; one that is at work reports it itself."""
    store = service.store
    for at_work in (False, True):
        run = service.api.post(f"{url}/trigger").json()
        job_id, run_id = UUID(run["job_id"]), UUID(run["id"])
        store.start_run(job_id, run["flow_run_id"], 1, AT)
        store.run_parts.share_out(run_id, [["users"], ["orders"]])
        if at_work:
            store.acquire_lease(job_id, "part 0", 60, tables=["users"])
        answer = service.api.post(f"/api/runs/{run_id}/cancel")
        assert answer.json()["status"] == ("running" if at_work else "cancelled")
        state = service.orchestrator.run_state(f"airberg_{job_id}", run["flow_run_id"])
        assert state == "failed"
