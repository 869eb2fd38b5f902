"""The HTTP service on the in-memory twins, with a planner that knows one connector, and clients of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from airberg.api.app import AppParts, create_app
from airberg.flows.memory import MemoryOrchestrator
from airberg.governance.directory import EntityDirectory
from airberg.governance.memory import MemoryDirectory
from airberg.identity.development import DevelopmentIssuer
from airberg.identity.verifier import build_verifier
from airberg.jobs.memory import MemoryJobStore
from airberg.plan.merging import merge_options
from airberg.plan.model import IngestRequest
from airberg.plan.planner import Connector, build_plan
from airberg.plan.prepared import Prepared, TableDifference
from airberg.settings import ApiSettings, MergeSettings, Settings
from airberg.sources.references import refuse_values
from airberg.sources.registry import ConnectorRegistry
from airberg.sources.secret_fields import mask_config
from support.key_directory import keys_named
from support.served import served

STREAM = {
    "name": "users",
    "json_schema": {"properties": {"id": {"type": "integer"}, "email": {"type": "string"}}},
    "supported_sync_modes": ["full_refresh"],
    "source_defined_primary_key": [["id"]],
}
BODY: dict[str, Any] = {
    "name": "users to the lake",
    "source_name": "source-faker",
    "source_config": {"count": 3, "password": "never-shown-9"},
    "schema_name": "shop",
    "mode": "append",
}
ENTITIES = MemoryDirectory(
    {"urn:li:domain:1": "Sales", "urn:li:domain:2": "Twice", "urn:li:domain:3": "Twice"}
)


class TablePlanner:
    """A planner that knows one connector with one stream, and can be held."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.error: Exception | None = None
        self.roles: list[AbstractSet[str]] = []
        self.asked: list[tuple[IngestRequest, dict[str, Any]]] = []
        self.streams: list[dict[str, Any]] = [STREAM]
        self.existing: set[str] = set()
        self.renewed: dict[str, Any] | None = None

    def prepare(
        self,
        request: IngestRequest,
        source_config: dict[str, Any],
        *,
        preflight: bool,
        roles: AbstractSet[str],
    ) -> Prepared:
        """Plan against the one stream."""
        self.entered.release()
        if preflight:
            self.gate.wait(20)
        if self.error is not None:
            raise self.error
        self.roles.append(roles)
        refuse_values(source_config, request.owner_id, ())
        if preflight:
            self.asked.append((request, source_config))
        keys = keys_named("default")
        connector = Connector(request.source_name, "1.0", self.streams, 1.0)
        merging = merge_options(request, MergeSettings())
        plan = build_plan(request, connector, keys, merging=merging) if preflight else None
        entry = request.connector or ConnectorRegistry().find(request.source_name, request.source_version)
        tables = [".".join((*plan.namespace, s.table)) for s in plan.streams] if plan else []
        config = self.renewed if preflight and self.renewed is not None else source_config
        return Prepared(
            plan=plan,
            public_config=mask_config({}, config),
            renewed_config=self.renewed if preflight else None,
            tables=tuple(TableDifference(table=t, exists=t in self.existing, columns={}) for t in tables),
            connector=entry,
        )


@dataclass
class Service:
    """The application with its twins, and a client."""

    store: MemoryJobStore
    orchestrator: MemoryOrchestrator
    planner: TablePlanner
    directory: EntityDirectory | None
    api: httpx.Client
    parts: AppParts
    admin: httpx.Client
    url: str

    def client(self, who: str, *scopes: str, **claims: Any) -> httpx.Client:
        """A client for somebody else, who may read and write unless scopes are given."""
        return _client(self.parts.settings, self.url, who, *scopes, **claims)

    def post(self, **changes: Any) -> httpx.Response:
        """Submit the body, changed."""
        return self.api.post("/api/airbyte/ingest", json=BODY | changes)


def _client(settings: Settings, url: str, who: str, *scopes: str, **claims: Any) -> httpx.Client:
    claims = {"email": f"{who}@example.com"} | claims
    token = DevelopmentIssuer(settings).mint(who, list(scopes) or ["ingest:read", "ingest:write"], **claims)
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False)


@contextlib.contextmanager
def running_service(
    home: Path, directory: EntityDirectory | None = ENTITIES, **changes: Any
) -> Iterator[Service]:
    """The application; it compares jobs and flows every 50 ms. Changes are those of its settings."""
    settings = Settings(home=home, api=ApiSettings(reconcile_every_s=0.05, max_preflights=2), **changes)
    store, orchestrator, planner = MemoryJobStore(), MemoryOrchestrator(), TablePlanner()
    parts = AppParts(
        settings=settings,
        store=store,
        planner=planner,
        orchestrator=orchestrator,
        directory=directory,
        verifier=build_verifier(settings),
        machine_token="machine-token-of-the-test",
    )
    with (
        served(create_app(parts)) as url,
        _client(settings, url, "ann") as api,
        _client(settings, url, "root", roles=["ingest-admin"]) as admin,
    ):
        yield Service(store, orchestrator, planner, directory, api, parts, admin, url)


def until(condition: Any, what: str) -> None:
    """Wait for a condition."""
    pause = threading.Event()
    for _ in range(400):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError(f"waited in vain for {what}")
