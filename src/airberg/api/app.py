"""The HTTP application, put together from its parts."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from airberg import __version__
from airberg.api import (
    audit,
    auth,
    docs_page,
    ingest,
    jobs,
    keys,
    metrics,
    problems,
    run_logs,
    runs,
    service_keys,
    service_routes,
    sources,
    states,
    tables,
    triggering,
)
from airberg.api.envelope import Envelope, Exchange, log_exchange
from airberg.api.metrics import Metrics
from airberg.api.openapi import DocumentedApp
from airberg.api.slots import Slots
from airberg.api.submission import Submitter
from airberg.flows.feed import FlowFeed
from airberg.flows.port import Orchestrator
from airberg.flows.pulls import FeedPulls
from airberg.flows.reconciler import FlowReconciler
from airberg.governance.directory import EntityDirectory
from airberg.governance.ends import EndsOfJobs
from airberg.governance.policies import Policies
from airberg.identity.service_keys import ServiceKeyVerifier
from airberg.identity.verifier import Verifier
from airberg.jobs.port import JobStore
from airberg.keys.open import open_keys
from airberg.keys.port import KeyStore
from airberg.plan.prepared import Planner
from airberg.settings import Settings
from airberg.sources.questions import SourceQuestions
from airberg.sources.recent import RecentlyFound
from airberg.sync.job_tables import JobTables
from airberg.sync.job_tables_child import ChildJobTables

DESCRIPTION = """One call turns any Airbyte source into governed Apache Iceberg tables.

Errors are problem documents (RFC 9457) that also carry the members of the ingest answer."""

CORS_HEADERS = (
    *("Authorization", "Authorization-PSK", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match"),
    *("Last-Event-ID", "X-Request-Id"),
)
"""What a page of an allowed origin may send; cookies are not used here."""
ROUTED = (
    *(ingest, sources, jobs, triggering, runs, run_logs, keys, service_keys, audit, states, tables),
    metrics,
)
"""Modules with a router each."""


@dataclass(frozen=True, slots=True)
class AppParts:
    """What the application works with; real parts, or their in-memory twins.

    Attributes:
        directory: What DataHub has; None: there is no DataHub.
        open_keys: Opens the key store, when it is needed first; None: that of the settings.
        recent: What sources were found to offer lately, if it is to be shared with the planner.
        job_tables: Looks after tables between runs; None: worker processes with these settings.
    """

    settings: Settings
    store: JobStore
    planner: Planner
    orchestrator: Orchestrator
    directory: EntityDirectory | None
    verifier: Verifier
    machine_token: str
    open_keys: Callable[[], KeyStore] | None = None
    recent: RecentlyFound | None = None
    job_tables: JobTables | None = None


def create_app(parts: AppParts) -> FastAPI:
    """Build the application. Background reconciling runs while the application does."""
    settings = parts.settings
    reconciler = FlowReconciler(parts.store, parts.orchestrator, settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        stop = threading.Event()
        loops = {"reconciler": reconciler.loop, "ends-of-jobs": EndsOfJobs(parts.store, settings).loop}
        threads = [
            threading.Thread(target=loop, args=(stop, settings.api.reconcile_every_s), name=name, daemon=True)
            for name, loop in loops.items()
        ]
        for thread in threads:
            thread.start()
        yield
        stop.set()
        for thread in threads:
            thread.join(timeout=5)

    app = DocumentedApp(
        public_url=settings.public_url,
        title="Airberg",
        version=__version__,
        summary="Any Airbyte source to governed Iceberg tables, by one call.",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.store = parts.store
    app.state.audit = parts.store.audit
    app.state.orchestrator = parts.orchestrator
    app.state.reconciler = reconciler
    app.state.flow_feed, app.state.pulls = FlowFeed(parts.store, settings), FeedPulls(__version__)
    app.state.verifier = parts.verifier
    app.state.service_keys = parts.store.service_keys
    app.state.service_key_verifier = ServiceKeyVerifier(
        parts.store.service_keys,
        admin_roles=settings.auth.admin_roles,
        allowed=settings.auth.service_key_days > 0,
    )
    app.state.machine_token = parts.machine_token
    app.state.keys = keys.OpenedOnce(parts.open_keys or (lambda: open_keys(settings)))
    _add_slots(app, settings)
    recent = parts.recent or RecentlyFound(settings.sources.discovered_holds_s)
    app.state.questions = SourceQuestions(settings, recent)
    app.state.job_tables = parts.job_tables or ChildJobTables(settings)
    app.state.submitter = Submitter(
        settings,
        parts.store,
        parts.planner,
        parts.orchestrator,
        reconciler,
        Policies(settings.datahub, parts.directory),
        body_key=hashlib.sha256(b"airberg idempotency " + parts.machine_token.encode()).digest(),
        slots=app.state.slots,
    )
    app.state.metrics = metrics.Metrics(parts.store.totals, settings.metrics)
    problems.install(app, max_body_bytes=settings.api.max_body_bytes, limits=settings.limits)
    _add_outer_layers(app, settings)
    auth.install(app)
    docs_page.install(app)
    for part in ROUTED:
        app.include_router(part.router)
    app.include_router(service_routes.health)
    app.include_router(service_routes.internal)
    return app


def _add_slots(app: FastAPI, settings: Settings) -> None:
    """How much may be at work at once; see `airberg.api.slots`."""
    limits = settings.api
    app.state.slots = Slots(limits.max_preflights, "Too many sources are being checked at this moment.")
    app.state.table_slots = Slots(
        limits.max_table_questions, "Too many tables are being looked at at this moment."
    )
    app.state.log_followers = Slots(
        limits.max_log_followers,
        "Too many logs are followed at this moment.",
        "Try again later, or read pages with `after`.",
    )


def _add_outer_layers(app: FastAPI, settings: Settings) -> None:
    """What also holds for refusals of the layers below: each is put around those before it."""
    counted: Metrics = app.state.metrics

    def ended(exchange: Exchange) -> None:
        log_exchange(exchange)
        counted.request_ended(exchange)

    if settings.limits.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.limits.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=CORS_HEADERS,
            expose_headers=["ETag", "Location", "Retry-After", "RateLimit", "X-Request-Id"],
        )
    app.add_middleware(Envelope, https=settings.public_url.startswith("https://"), ended=ended)
