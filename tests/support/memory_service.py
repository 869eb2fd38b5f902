"""The real application with in-memory parts, served as `airberg serve` does."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from fastapi import FastAPI

from airberg.api.app import AppParts, create_app
from airberg.api.connections import server_config
from airberg.flows.memory import MemoryOrchestrator
from airberg.governance.memory import MemoryDirectory
from airberg.identity.development import DevelopmentIssuer
from airberg.identity.verifier import build_verifier
from airberg.jobs.memory import MemoryJobStore
from airberg.plan.child import ChildPlanner
from airberg.settings import Settings
from support.served import served

MACHINE_TOKEN = "machine-token-of-the-test"


@dataclass(frozen=True)
class MemoryService:
    """A running service.

    Attributes:
        api: A client with all scopes for jobs.
    """

    settings: Settings
    app: FastAPI
    parts: AppParts
    url: str
    api: httpx.Client

    def token(self, *scopes: str, who: str = "ann", **claims: Any) -> str:
        """A token of somebody."""
        return DevelopmentIssuer(self.settings).mint(who, list(scopes), email=f"{who}@example.com", **claims)

    def client(self, token: str | None = None) -> httpx.Client:
        """A client with a token, or without."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=30)

    def connect(self) -> socket.socket:
        """A connection to the service that has sent nothing."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return socket.create_connection((parts.hostname, parts.port), timeout=20)


@contextlib.contextmanager
def running_memory_service(
    home: Path,
    *,
    change: Callable[[FastAPI], None] | None = None,
    store: Any = None,
    **groups: Any,
) -> Iterator[MemoryService]:
    """The service while the block lasts.

    Args:
        home: A new folder.
        change: Adds to the application before it is served.
        store: The job store; default one in memory.
        groups: Groups of the settings, `limits={...}`.
    """
    settings = Settings(home=home, **groups)
    parts = AppParts(
        settings=settings,
        store=store or MemoryJobStore(),
        planner=ChildPlanner(settings),
        orchestrator=MemoryOrchestrator(),
        directory=MemoryDirectory({}),
        verifier=build_verifier(settings),
        machine_token=MACHINE_TOKEN,
    )
    app = create_app(parts)
    if change is not None:
        change(app)
    with served(app, server_config(app, settings)) as url:
        service = MemoryService(settings, app, parts, url, httpx.Client())
        with service.client(service.token("ingest:read", "ingest:write")) as api:
            yield MemoryService(settings, app, parts, url, api)


def read_all(connection: socket.socket) -> bytes:
    """What comes until the other side closes; b"" also when it was cut off."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65_536):
            found += chunk
    return found
