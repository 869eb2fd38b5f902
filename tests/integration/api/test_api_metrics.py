"""`/metrics` over real HTTP: who may read it, and what it says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from airberg.api.metrics_settings import MetricsSettings
from airberg.jobs.model import RunReport, RunStatus, StreamReport
from airberg.jobs.port import JobStore
from support.conditions import eventually
from support.jobs import a_job
from support.memory_service import MACHINE_TOKEN, MemoryService, running_memory_service

TOKEN = "scraper-t0ken-4711"
OPEN = {"metrics": {"token": SecretStr(TOKEN), "holds_s": 0.0}}


def samples(service: MemoryService) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Name and labels → value of everything that a scraper reads."""
    with service.client(TOKEN) as scraper:
        answer = scraper.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(service: MemoryService, name: str, **labels: str) -> float | None:
    """One value; None if there is no such series."""
    return samples(service).get((name, tuple(sorted(labels.items()))))


def end_a_run(
    store: JobStore,
    job_id: UUID,
    name: str,
    at: datetime,
    status: RunStatus = RunStatus.COMPLETED,
    *,
    tables: int = 1,
    rows: int = 5,
) -> None:
    """Have a run of a job end."""
    streams = tuple(
        StreamReport(stream=f"s{n}", table=f"shop.t{n}", rows_written=rows, rows_deleted=2, bytes_written=900)
        for n in range(tables)
    )
    run = store.start_run(job_id, name, 1, at - timedelta(seconds=12))
    store.end_run(run.id, status, at, report=RunReport(streams=streams))


# ---- who -------------------------------------------------------------------------------------------------


def test_who_may_read_them(tmp_path: Path) -> None:
    """The scraper's token and administrators who may read; not other callers, and not Airflow's token."""
    with running_memory_service(tmp_path, **OPEN) as service:

        def status(token: str | None) -> int:
            with service.client(token) as client:
                return client.get("/metrics").status_code

        assert status(TOKEN) == 200
        assert status(service.token("ingest:read", roles=["ingest-admin"])) == 200
        assert status(service.token("ingest:write", roles=["ingest-admin"])) == 403
        assert status(service.token("ingest:read")) == 403
        assert status(MACHINE_TOKEN) == 401
        assert status(TOKEN + "x") == 401
        assert status(None) == 401


def test_wrong_tokens_are_counted_once(tmp_path: Path) -> None:
    """As everywhere else."""
    limits = {"failed_logins_per_minute": 2}
    with (
        running_memory_service(tmp_path, limits=limits, **OPEN) as service,
        service.client("wrong") as client,
    ):
        assert [client.get("/metrics").status_code for _ in range(3)] == [401, 401, 429]


def test_networks_that_need_no_token(tmp_path: Path) -> None:
    """By the address of the client, which nobody but a trusted proxy can choose."""
    settings = {"allow_from": ("127.0.0.0/8",)}
    proxies = {"trusted_proxies": ("127.0.0.1",)}
    with running_memory_service(tmp_path, metrics=settings, limits=proxies) as service, service.client() as c:
        assert c.get("/metrics").status_code == 200
        assert c.get("/metrics", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 401


def test_networks_of_settings_are_checked() -> None:
    """A word, or an address with bits beyond its mask, is refused at the start."""
    assert MetricsSettings(allow_from=("2001:db8::/32",)).allows("2001:db8::7")
    assert not MetricsSettings(allow_from=("2001:db8::/32",)).allows("no address")
    for wrong in ("everybody", "10.0.0.1/8"):
        with pytest.raises(ValueError, match="allow_from"):
            MetricsSettings(allow_from=(wrong,))


# ---- what ------------------------------------------------------------------------------------------------


def test_requests_are_counted_by_route(tmp_path: Path) -> None:
    """By template, so that ids and inventions of clients make no series of their own."""
    with running_memory_service(tmp_path, **OPEN) as service:
        for path in ("/api/jobs", f"/api/jobs/{UUID(int=1)}", f"/api/jobs/{UUID(int=2)}", "/nowhere/1", "/x"):
            service.api.get(path)
        service.api.request("BREW", "/pot")
        found = eventually(lambda: _all_counted(service))
    requests = {k[1]: v for k, v in found.items() if k[0] == "airberg_http_requests_total"}
    label = lambda **labels: tuple(sorted(labels.items()))  # noqa: E731 - said once
    assert requests[label(method="GET", route="/api/jobs", status="200")] == 1
    assert requests[label(method="GET", route="/api/jobs/{job_id}", status="404")] == 2
    assert requests[label(method="GET", route="none", status="404")] == 2
    assert requests[label(method="other", route="none", status="404")] == 1
    name = "airberg_http_request_duration_seconds_count"
    assert found[name, label(method="GET", route="/api/jobs/{job_id}")] == 2
    assert found["process_resident_memory_bytes", ()] > 0


def _all_counted(
    service: MemoryService,
) -> dict[tuple[str, tuple[tuple[str, str], ...]], float] | None:
    found = samples(service)
    counted = sum(v for k, v in found.items() if k[0] == "airberg_http_requests_total")
    return found if counted >= 6 else None  # they are counted after their answers


def test_runs_are_counted_once_from_the_start_on(tmp_path: Path) -> None:
    """Earlier ones are shown as the last of their jobs; late ones, and attempts that were repeated, count."""
    with running_memory_service(tmp_path, **OPEN) as service:
        store, now = service.parts.store, datetime.now(UTC)
        job = a_job("orders")
        store.add_job(job, {})
        labels = {"job_id": str(job.id), "job": "orders"}
        end_a_run(store, job.id, "before", now - timedelta(hours=2))
        assert value(service, "airberg_runs_ended_total", status="completed") is None
        success = value(service, "airberg_job_last_success_timestamp_seconds", **labels)
        assert success == pytest.approx((now - timedelta(hours=2)).timestamp())
        end_a_run(store, job.id, "one", now + timedelta(seconds=30))
        end_a_run(store, job.id, "late", now + timedelta(seconds=20), rows=7)
        for _ in range(3):
            found = samples(service)
        of_table = {"table": "shop.t0", **labels}
        key = tuple(sorted(of_table.items()))
        assert found["airberg_table_rows_written_total", key] == 12
        assert found["airberg_table_rows_deleted_total", key] == 4
        assert found["airberg_table_bytes_written_total", key] == 1800
        assert found["airberg_runs_ended_total", (("status", "completed"),)] == 2
        assert found["airberg_job_last_run_duration_seconds", tuple(sorted(labels.items()))] == 12
        assert sum(v for k, v in found.items() if k[0] == "airberg_jobs") == 1
        end_a_run(store, job.id, "again", now + timedelta(seconds=40), RunStatus.FAILED)
        assert value(service, "airberg_runs_ended_total", status="failed") == 1
        end_a_run(store, job.id, "again", now + timedelta(seconds=45))  # its second attempt
        assert value(service, "airberg_runs_ended_total", status="completed") == 3


def test_series_are_bounded(tmp_path: Path) -> None:
    """And it is said how many have none."""
    metrics = OPEN["metrics"] | {"max_series": 3}
    with running_memory_service(tmp_path, metrics=metrics) as service:
        store, now = service.parts.store, datetime.now(UTC) + timedelta(seconds=5)
        for number in range(3):
            job = a_job(f"job {number}")
            store.add_job(job, {})
            end_a_run(store, job.id, "one", now, tables=2)
        found = samples(service)
        own = [k for k in found if k[0] == "airberg_table_rows_written_total" or "last_success" in k[0]]
        assert len(own) == 3
        assert found["airberg_series_left_out", ()] == 6
        assert found["airberg_runs_ended_total", (("status", "completed"),)] == 3


def test_more_runs_than_a_page_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In several looks."""
    monkeypatch.setattr("airberg.api.metrics.PAGE", 2)
    with running_memory_service(tmp_path, **OPEN) as service:
        store, now = service.parts.store, datetime.now(UTC)
        job = a_job("orders")
        store.add_job(job, {})
        for number in range(5):
            end_a_run(store, job.id, f"r{number}", now + timedelta(seconds=number + 1))
        assert eventually(
            lambda: value(service, "airberg_runs_ended_total", status="completed") == 5, every_s=0.0
        )


def test_a_look_is_shown_for_a_while(tmp_path: Path) -> None:
    """Several scrapers cost the store one query."""
    with running_memory_service(tmp_path, metrics={"token": SecretStr(TOKEN)}) as service:
        assert value(service, "airberg_jobs", status="new") is None
        service.parts.store.add_job(a_job(), {})
        assert value(service, "airberg_jobs", status="new") is None


def test_names_do_not_break_the_format(tmp_path: Path) -> None:
    """Names of jobs are chosen by people."""
    with running_memory_service(tmp_path, **OPEN) as service:
        name = 'a "b" \\ \n c} 1'
        job = a_job(name)
        service.parts.store.add_job(job, {})
        end_a_run(service.parts.store, job.id, "one", datetime.now(UTC) + timedelta(seconds=1))
        labels = {"job_id": str(job.id), "job": name}
        assert value(service, "airberg_job_last_run_duration_seconds", **labels) == 12
