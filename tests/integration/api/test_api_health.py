"""Health over real HTTP, with a database that goes away."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from pydantic import SecretStr

from airberg import __version__
from airberg.jobs.migrate import upgrade
from airberg.jobs.open import open_store
from airberg.settings import Settings
from support.memory_service import running_memory_service
from support.postgresql import NoServer, running_server

TOKEN = "scraper-t0ken-4711"


def test_ping_says_what_it_is(tmp_path: Path) -> None:
    """As clients of the sibling API read it; without credentials."""
    with running_memory_service(tmp_path, api={"build_number": "2026.11.27-4711"}) as service:
        with service.client() as stranger:
            answer = stranger.get("/api/health/ping")
        assert answer.json() == {"status": "ok", "version": __version__, "build_number": "2026.11.27-4711"}


def test_a_service_without_its_database_lives_and_is_not_ready(tmp_path: Path) -> None:
    """503 says what is missing and when to look again; metrics of the process itself go on."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(running_server())
        except NoServer as e:
            pytest.skip(f"PostgreSQL: {e}")
        upgrade(server.url)
        store = open_store(Settings(home=tmp_path, store_url=server.url, keys={"master_key": "A" * 43 + "="}))
        metrics = {"token": SecretStr(TOKEN), "holds_s": 0.0}
        with (
            running_memory_service(tmp_path, store=store, metrics=metrics) as service,
            service.client() as stranger,
            service.client(TOKEN) as scraper,
        ):
            ready = stranger.get("/api/health/ready")
            assert (ready.status_code, ready.json()["orchestrator"]) == (200, True)
            assert "airberg_store_up 1.0" in scraper.get("/metrics").text
            stack.close()  # the server stops
            gone = stranger.get("/api/health/ready")
            assert (gone.status_code, gone.json()["type"]) == (503, "/problems/store-unavailable")
            assert int(gone.headers["Retry-After"]) > 0
            assert stranger.get("/api/health/live").status_code == 200
            shown = scraper.get("/metrics")
            assert shown.status_code == 200
            assert "airberg_store_up 0.0" in shown.text
            assert 'route="/api/health/ready",status="503"' in shown.text
        store.close()
