"""The whole service over real HTTP, for tests of what it promises: quick parts, and people with tokens."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx

from airberg.api.app import AppParts, create_app
from airberg.api.limit_settings import LimitSettings
from airberg.columns.arrow import table_fields
from airberg.flows.memory import MemoryOrchestrator
from airberg.governance.memory import MemoryDirectory
from airberg.identity.development import DevelopmentIssuer
from airberg.identity.verifier import build_verifier
from airberg.jobs.memory import MemoryJobStore
from airberg.jobs.model import RunReport, RunStatus, StreamReport
from airberg.jobs.open import open_store
from airberg.keys.kek import ensure_master_key
from airberg.keys.memory import MemoryKeyStore
from airberg.keys.seal import Sealer
from airberg.lake.catalog import open_catalog
from airberg.lake.commit import Committer
from airberg.lake.note import Note
from airberg.lake.snapshots import FileChanges
from airberg.lake.tables import ensure_table
from airberg.plan.merging import merge_options
from airberg.plan.model import IngestRequest
from airberg.plan.planner import Connector, build_plan
from airberg.plan.prepared import Prepared
from airberg.settings import MergeSettings, Settings
from airberg.sources.entry import ConnectorEntry
from airberg.sources.questions import Checked, Discovered
from airberg.sources.references import refuse_values
from airberg.sources.registry import ConnectorRegistry
from airberg.sources.secret_fields import mask_config
from airberg.sources.verbs import CheckOutcome
from airberg.sync.job_tables_here import JobTablesHere
from support.key_directory import keys_named
from support.served import served

STREAM = {
    "name": "users",
    "json_schema": {"properties": {"id": {"type": "integer"}, "email": {"type": "string"}}},
    "supported_sync_modes": ["full_refresh", "incremental"],
    "source_defined_cursor": True,
    "default_cursor_field": ["id"],
    "source_defined_primary_key": [["id"]],
}


class UsersPlanner:
    """A planner for which every connector has one stream; it plans in this process."""

    def prepare(
        self,
        request: IngestRequest,
        source_config: dict[str, Any],
        *,
        preflight: bool,
        roles: AbstractSet[str],
    ) -> Prepared:
        """See `airberg.plan.prepared.Planner`."""
        del roles
        entry = ConnectorRegistry().find(request.source_name, request.source_version)
        connector = Connector(request.source_name, "1.0", [STREAM], 1.0)
        merging = merge_options(request, MergeSettings())
        keys = keys_named("default", "pii")
        plan = build_plan(request, connector, keys, merging=merging) if preflight else None
        return Prepared(plan=plan, public_config=mask_config({}, source_config), connector=entry)


class Willing:
    """Answers for every source: its configuration works, and it has one stream."""

    def check(self, entry: ConnectorEntry, config: dict[str, Any], **_: Any) -> Checked:
        """See `SourceQuestions`; nobody is asked."""
        refuse_values(config, None, ())
        return Checked(version=entry.known_version, outcome=CheckOutcome(ok=True, message=""))

    def discover(self, entry: ConnectorEntry, config: dict[str, Any], **_: Any) -> Discovered:
        """See `SourceQuestions`; nobody is asked."""
        refuse_values(config, None, ())
        return Discovered(version=entry.known_version, streams=[STREAM], at=1.0e9)


def memory_parts(settings: Settings, **changes: Any) -> AppParts:
    """All parts in memory; some of them others."""
    store = changes.get("store") or MemoryJobStore()
    parts: dict[str, Any] = {
        "settings": settings,
        "store": store,
        "job_tables": JobTablesHere(settings, store, open_catalog(settings), Sealer([bytes(32)])),
        "planner": UsersPlanner(),
        "orchestrator": MemoryOrchestrator(),
        "directory": MemoryDirectory({"urn:li:domain:sales": "Sales"}),
        "verifier": build_verifier(settings),
        "machine_token": "machine-token-of-the-test",
        "open_keys": MemoryKeyStore,
    }
    return AppParts(**(parts | changes))


def load(parts: AppParts, job_id: UUID) -> None:
    """What a run of a job leaves behind: a table with a state, and a run that has completed."""
    tables, store = parts.job_tables, parts.store
    assert isinstance(tables, JobTablesHere)
    plan = store.job(job_id).plan
    assert plan is not None
    now, name = datetime.now(UTC), f"loaded__{uuid4()}"
    run = store.start_run(job_id, name, 1, now)
    reports = []
    for stream in plan.streams:
        state = {"stream_descriptor": {"name": stream.name}, "stream_state": {"cursor": 1}}
        fields = table_fields(stream.columns, plan.add_ingestion_metadata)
        table = ensure_table(tables.catalog, plan.namespace, stream.table, fields)
        committer = Committer(tables.catalog, table, job_id)
        text = json.dumps({"type": "STREAM", "stream": state})
        note = Note(run_id=name, attempt=1, number=1, state=text, complete=True)
        committer.commit(note, lambda _: FileChanges(always=True))
        reports.append(StreamReport(stream=stream.name, table=stream.table, complete=True))
    store.end_run(run.id, RunStatus.COMPLETED, now, report=RunReport(streams=tuple(reports)))


@dataclass(frozen=True)
class ContractService:
    """The service with its address, and who may be who.

    Attributes:
        url: Where it listens.
    """

    url: str
    parts: AppParts

    def token(self, who: str, *scopes: str, roles: tuple[str, ...] = ()) -> str:
        """An access token of somebody."""
        issuer = DevelopmentIssuer(self.parts.settings)
        return issuer.mint(who, scopes, email=f"{who}@example.com", roles=list(roles))

    def client(self, who: str, *scopes: str, roles: tuple[str, ...] = ()) -> httpx.Client:
        """A client of somebody."""
        headers = {"Authorization": f"Bearer {self.token(who, *scopes, roles=roles)}"}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False)


@contextlib.contextmanager
def running_contract_service(home: Path, database: Path | None = None) -> Iterator[ContractService]:
    """The service while the block lasts.

    Args:
        home: A folder for settings and tokens.
        database: A migrated SQLite file that it shall work on; else its store is in memory.
    """
    # No limits of rates: they are a subject of their own.
    rates = dict.fromkeys((name for name in LimitSettings.model_fields if name.endswith("_per_minute")), 0)
    settings = Settings(
        home=home,
        store_url=f"sqlite:///{database}" if database else None,
        limits=LimitSettings(**rates),
    )
    if database:
        ensure_master_key(settings)
    parts = memory_parts(settings, **({"store": open_store(settings)} if database else {}))
    app = create_app(parts)
    app.state.questions = Willing()
    with served(app) as address:
        yield ContractService(address, parts)
