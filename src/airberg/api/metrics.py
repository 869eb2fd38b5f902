"""What the service tells Prometheus: requests, jobs, runs, and what was written to which table.

What happens in this process is counted as it happens. What runs do, in other processes, is read from the job
store: runs that have ended since the service was started are counted once each. So counters begin at 0 with
the process, which is what Prometheus expects of them.
"""

from __future__ import annotations

import hmac
import logging
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.security import SecurityScopes
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from airberg import __version__
from airberg.api.auth import INGEST_READ, principal, token_digest
from airberg.api.envelope import Exchange
from airberg.api.metrics_settings import MetricsSettings
from airberg.api.problems import PROBLEM_RESPONSES
from airberg.errors import NotAllowed, Unavailable
from airberg.jobs.totals import EndedRun, TotalsReader

router = APIRouter(tags=["health"], responses=PROBLEM_RESPONSES)
log = logging.getLogger(__name__)

_EXAMPLE: Final = """# HELP airberg_runs_ended_total Runs that have ended.
# TYPE airberg_runs_ended_total counter
airberg_runs_ended_total{status="completed"} 3.0
"""

LOOK_BACK: Final = timedelta(days=1)
"""Runs that ended so long before the start are shown as the last ones of their jobs; they are not counted."""
OVERLAP: Final = timedelta(minutes=1)
"""How much later than another one a run may appear in the store that ended before it: clocks differ."""
PAGE: Final = 5_000
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
NO_ROUTE = "none"


class Metrics:
    """The registry of one service; thread-safe.

    Args:
        totals: Reads numbers over all jobs.
    """

    def __init__(self, totals: TotalsReader, settings: MetricsSettings) -> None:
        self._totals = totals
        self._settings = settings
        self._lock = threading.Lock()
        self._looked_at = -float("inf")
        self._started = datetime.now(UTC)
        self._since = self._started - LOOK_BACK
        self._seen: dict[tuple[object, datetime], None] = {}
        self._series: set[tuple[str, ...]] = set()
        self._left_out: set[tuple[str, ...]] = set()
        self._make()

    def _make(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Gauge("airberg_build_info", "Always 1.", ["version"], registry=registry).labels(__version__).set(1)
        of_route = ["method", "route"]
        self._requests = Counter(
            "airberg_http_requests", "Requests by their answer.", [*of_route, "status"], registry=registry
        )
        self._seconds = Histogram(
            "airberg_http_request_duration_seconds",
            "From the headers of a request to the end of its answer.",
            of_route,
            buckets=BUCKETS,
            registry=registry,
        )
        self._store_up = Gauge("airberg_store_up", "Whether the job store answered.", registry=registry)
        self._jobs = Gauge("airberg_jobs", "Jobs that are not deleted.", ["status"], registry=registry)
        self._open = Gauge("airberg_open_runs", "Runs that have not ended.", ["status"], registry=registry)
        self._ended = Counter("airberg_runs_ended", "Runs that have ended.", ["status"], registry=registry)
        of_job = ["job_id", "job"]
        self._success = Gauge(
            "airberg_job_last_success_timestamp_seconds",
            "When the last completed run of a job ended.",
            of_job,
            registry=registry,
        )
        self._duration = Gauge(
            "airberg_job_last_run_duration_seconds", "How long its last run took.", of_job, registry=registry
        )
        of_table = [*of_job, "table"]
        self._written = Counter(
            "airberg_table_rows_written", "Rows that runs committed.", of_table, registry=registry
        )
        self._deleted = Counter(
            "airberg_table_rows_deleted", "Rows that runs deleted.", of_table, registry=registry
        )
        self._bytes = Counter(
            "airberg_table_bytes_written", "Size of their data files.", of_table, registry=registry
        )
        self._omitted = Gauge(
            "airberg_series_left_out",
            "Jobs and tables without metrics of their own: there are more than metrics.max_series.",
            registry=registry,
        )

    def request_ended(self, exchange: Exchange) -> None:
        """Count a request."""
        route = exchange.route or NO_ROUTE
        self._requests.labels(exchange.method, route, str(exchange.status)).inc()
        self._seconds.labels(exchange.method, route).observe(exchange.seconds)

    def text(self) -> bytes:
        """All metrics, as Prometheus reads them."""
        with self._lock:
            if time.monotonic() - self._looked_at >= self._settings.holds_s:
                self._look()
                self._looked_at = time.monotonic()
            return generate_latest(self.registry)

    # ---- the job store -----------------------------------------------------------------------------------

    def _look(self) -> None:
        try:
            found = self._totals.totals(self._since, PAGE)
        except Unavailable as e:
            log.warning("metrics without the job store: %s", e.message)
            self._store_up.set(0)
            return
        self._store_up.set(1)
        for gauge, counts in ((self._jobs, found.jobs), (self._open, found.open_runs)):
            gauge.clear()
            for status, count in counts.items():
                gauge.labels(status).set(count)
        for run in found.ended:
            key = (run.id, run.ended_at)
            if key not in self._seen:
                self._seen[key] = None
                self._count(run)
        if found.ended:
            full = len(found.ended) == PAGE
            self._since = found.ended[-1].ended_at - (timedelta() if full else OVERLAP)
            self._seen = {key: None for key in self._seen if key[1] >= self._since}
        self._omitted.set(len(self._left_out))

    def _count(self, run: EndedRun) -> None:
        counts = run.ended_at >= self._started
        if counts:
            self._ended.labels(run.status).inc()
        job = (str(run.job_id), run.job_name)
        if self._has_series(job):
            if run.status == "completed":
                self._success.labels(*job).set(run.ended_at.timestamp())
            if run.started_at is not None:
                self._duration.labels(*job).set((run.ended_at - run.started_at).total_seconds())
        for table in run.tables:
            of_table = (*job, table.table)
            if counts and self._has_series(of_table):
                self._written.labels(*of_table).inc(max(table.rows_written, 0))
                self._deleted.labels(*of_table).inc(max(table.rows_deleted, 0))
                self._bytes.labels(*of_table).inc(max(table.bytes_written, 0))

    def _has_series(self, labels: tuple[str, ...]) -> bool:
        if labels in self._series:
            return True
        if len(self._series) >= self._settings.max_series:
            self._left_out.add(labels)
            return False
        self._series.add(labels)
        return True


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE}}}},
    openapi_extra={"security": [{scheme: [INGEST_READ]} for scheme in ("accessToken", "serviceKey")]},
)
def read_metrics(request: Request) -> Response:
    """Metrics for Prometheus: for the scraper's token, administrators, and networks that are named.

    The token and the networks are settings of the deployment (`AIRBERG_METRICS__...`).
    """
    settings: MetricsSettings = request.app.state.settings.metrics
    if not settings.allows(request.client.host if request.client else ""):
        _require_reader(request, settings)
    metrics: Metrics = request.app.state.metrics
    return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _require_reader(request: Request, settings: MetricsSettings) -> None:
    """Raise unless the caller has the scraper's token, or is an administrator who may read."""
    if settings.token is not None:
        expected = token_digest(f"Bearer {settings.token.get_secret_value()}")
        if hmac.compare_digest(token_digest(request.headers.get("authorization", "")), expected):
            return
    caller = principal(SecurityScopes([INGEST_READ]), request)
    if not caller.is_admin:
        raise NotAllowed(
            "Metrics are for administrators, and for the token of AIRBERG_METRICS__TOKEN.",
            guidance="They name jobs and tables of everybody.",
        )
