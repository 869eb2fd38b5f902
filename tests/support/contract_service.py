"""The whole service over real HTTP, for tests of what it promises: quick parts, and people with tokens."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any

from airberg.api.app import AppParts
from airberg.flows.memory import MemoryOrchestrator
from airberg.governance.memory import MemoryDirectory
from airberg.identity.verifier import build_verifier
from airberg.jobs.memory import MemoryJobStore
from airberg.keys.memory import MemoryKeyStore
from airberg.plan.merging import merge_options
from airberg.plan.model import IngestRequest
from airberg.plan.planner import Connector, build_plan
from airberg.plan.prepared import Prepared
from airberg.settings import MergeSettings, Settings
from airberg.sources.registry import ConnectorRegistry
from airberg.sources.secret_fields import mask_config
from support.key_directory import keys_named

STREAM = {
    "name": "users",
    "json_schema": {"properties": {"id": {"type": "integer"}, "email": {"type": "string"}}},
    "supported_sync_modes": ["full_refresh"],
    "source_defined_primary_key": [["id"]],
}


class UsersPlanner:
    """A planner for which every connector has one stream; it plans in this process."""

    def prepare(
        self,
        request: IngestRequest,
        source_config: dict[str, Any],
        *,
        domain: str | None,
        preflight: bool,
        roles: AbstractSet[str],
    ) -> Prepared:
        """See `airberg.plan.prepared.Planner`."""
        del roles
        entry = ConnectorRegistry().find(request.source_name, request.source_version)
        connector = Connector(request.source_name, "1.0", [STREAM], 1.0)
        merging = merge_options(request, MergeSettings())
        keys = keys_named("default", "pii")
        plan = build_plan(request, connector, keys, domain=domain, merging=merging) if preflight else None
        return Prepared(plan=plan, public_config=mask_config({}, source_config), connector=entry)


def memory_parts(settings: Settings, **changes: Any) -> AppParts:
    """All parts in memory; some of them others."""
    parts: dict[str, Any] = {
        "settings": settings,
        "store": MemoryJobStore(),
        "planner": UsersPlanner(),
        "orchestrator": MemoryOrchestrator(),
        "domains": MemoryDirectory({"urn:li:domain:sales": "Sales"}),
        "verifier": build_verifier(settings),
        "machine_token": "machine-token-of-the-test",
        "open_keys": MemoryKeyStore,
    }
    return AppParts(**(parts | changes))
