"""The HTTP service as a process."""

from __future__ import annotations

import contextlib
import logging
import sys

import uvicorn

from airberg.api.app import AppParts, create_app
from airberg.api.connections import server_config
from airberg.flows.airflow import AirflowOrchestrator
from airberg.flows.credentials import load_credentials
from airberg.governance.directory import open_directory
from airberg.identity.verifier import build_verifier
from airberg.jobs.open import open_store
from airberg.plan.child import ChildPlanner
from airberg.settings import Settings
from airberg.sources.recent import RecentlyFound

log = logging.getLogger(__name__)

STARTUP_FAILURE = 3
"""Exit code of a service that could not listen, as uvicorn's own command has it."""


def real_parts(settings: Settings) -> AppParts:
    """The parts that a deployment works with."""
    credentials = load_credentials(settings)
    recent = RecentlyFound(settings.sources.discovered_holds_s)
    return AppParts(
        settings=settings,
        store=open_store(settings),
        planner=ChildPlanner(settings, recent),
        orchestrator=AirflowOrchestrator(settings, credentials),
        directory=open_directory(settings),
        verifier=build_verifier(settings),
        machine_token=credentials.bundle_token,
        recent=recent,
    )


def serve_api(settings: Settings) -> None:
    """Serve until told to stop."""
    serve_app(real_parts(settings), settings)


def serve_app(parts: AppParts, settings: Settings) -> None:
    """Serve an application of these parts until told to stop: as `airberg serve` does."""
    app = create_app(parts)
    server = uvicorn.Server(server_config(app, settings))
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)
