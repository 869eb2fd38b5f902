"""The real service with real connectors and tables, without Airflow: for what comes before a job is made."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from airberg.api.app import AppParts, create_app
from airberg.flows.memory import MemoryOrchestrator
from airberg.governance.memory import MemoryDirectory
from airberg.identity.development import DevelopmentIssuer
from airberg.identity.verifier import build_verifier
from airberg.plan.child import ChildPlanner
from airberg.plan.model import IngestRequest
from airberg.plan.preparation import prepare
from airberg.plan.prepared import Prepared
from airberg.settings import Settings
from airberg.sources.recent import RecentlyFound
from airberg.sources.registry import load_registry
from support.deployment import Deployment, write_scenario
from support.served import served

STRICT = Path(__file__).parent / "connectors" / "strict_source.py"
SECRET = "not-to-be-seen-1"
USERS = {
    "name": "users",
    "cursor": "id",
    "primary_key": [["id"]],
    "records": [{"id": i, "email": f"u{i}@example.com", "address": {"city": "X"}} for i in range(1, 4)],
}
LOGS = {"name": "logs", "records": [{"line": "a"}]}


@dataclass
class SourceService:
    """The service, a client that may do everything but administrate, and a scenario with two streams."""

    settings: Settings
    parts: AppParts
    api: httpx.Client
    url: str
    scenario: Path

    def config(self, **changes: Any) -> dict[str, Any]:
        """A configuration of `source-strict` that works, changed; a value of `...` leaves the field out."""
        credentials = {"auth_type": "key", "api_key": SECRET}
        config = {"scenario": str(self.scenario), "start_date": "2024-01-01", "credentials": credentials}
        return without(config | changes)

    def body(self, **changes: Any) -> dict[str, Any]:
        """A submission that would be accepted, changed in the same way."""
        body = {
            "name": f"job {uuid4()}",
            "source_name": "source-strict",
            "source_config": self.config(),
            "schema_name": "contract",
            "mode": "append",
            "streams": ["users"],
        }
        return without(body | changes)

    def client(self, *scopes: str, who: str = "ann") -> httpx.Client:
        """A client of somebody with some scopes."""
        token = DevelopmentIssuer(self.settings).mint(who, list(scopes), email=f"{who}@example.com")
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=60)


@dataclass
class InProcess:
    """Prepares jobs as the child process does, but here."""

    deployment: Deployment
    recent: RecentlyFound

    def prepare(
        self,
        request: IngestRequest,
        source_config: dict[str, Any],
        *,
        preflight: bool,
        roles: AbstractSet[str],
    ) -> Prepared:
        """See `airberg.plan.prepared.Planner`."""
        assert preflight
        settings = self.deployment.settings
        entry = load_registry(settings).find(request.source_name, request.source_version)
        return prepare(
            request,
            source_config,
            settings,
            self.deployment.keys,
            deadline=time.monotonic() + 60,
            roles=roles,
            recent=self.recent.get(self.recent.key(entry, source_config, request.owner_id, roles)),
        )


def without(values: dict[str, Any]) -> dict[str, Any]:
    """The values but those that are `...`."""
    return {name: value for name, value in values.items() if value is not ...}


@contextlib.contextmanager
def running_source_service(
    home: Path, pyairbyte_dir: Path, connectors_dir: Path, *, in_process: bool = False
) -> Iterator[SourceService]:
    """The service while the block lasts.

    Args:
        home: A new folder.
        pyairbyte_dir: PyAirbyte's environment.
        connectors_dir: Where connectors are installed.
        in_process: Prepare jobs in this process, not in a child of it.
    """
    deployment = Deployment(home, pyairbyte_dir, connectors_dir)
    with (home / "connectors.toml").open("a") as file:
        file.write(f'[connectors.source-strict]\nexecutable = "{STRICT}"\ndescription = "Reads scenarios"\n')
    settings = deployment.settings
    recent = RecentlyFound(settings.sources.discovered_holds_s)
    parts = AppParts(
        settings=settings,
        store=deployment.store,
        planner=InProcess(deployment, recent) if in_process else ChildPlanner(settings, recent),
        orchestrator=MemoryOrchestrator(),
        directory=MemoryDirectory({"urn:li:domain:1": "Sales"}),
        verifier=build_verifier(settings),
        machine_token="machine-token-of-the-test",
        recent=recent,
    )
    scenario = write_scenario(home, {"streams": [USERS, LOGS]})
    with pytest.MonkeyPatch.context() as environment, served(create_app(parts)) as url:
        # Workers get their settings from the environment.
        environment.setenv("AIRBERG_SOURCES__PYAIRBYTE_DIR", str(pyairbyte_dir))
        environment.setenv("AIRBERG_SOURCES__CONNECTORS_DIR", str(connectors_dir))
        service = SourceService(settings, parts, httpx.Client(), url, scenario)
        with service.client("ingest:read", "ingest:write") as api:
            yield replace(service, api=api)
