"""A deployment in a temporary folder: real store, keys, catalog and connectors, without Airflow or HTTP."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from pyiceberg.table import Table

from airberg.jobs.migrate import upgrade
from airberg.jobs.model import Job, Run, RunRequest
from airberg.jobs.open import open_store
from airberg.keys.kek import ensure_master_key
from airberg.keys.open import open_keys
from airberg.lake.catalog import open_catalog
from airberg.lake.tables import find_table
from airberg.plan.model import IngestRequest, Transformation
from airberg.plan.preparation import prepare
from airberg.settings import CatalogSettings, KeySettings, Settings, SourceSettings, SyncSettings
from airberg.sync.backends import Backends
from airberg.sync.run import plan_run, run_part, run_sync

SCRIPTED = Path(__file__).parent / "connectors" / "scripted_source.py"


def write_scenario(folder: Path, scenario: dict[str, Any], name: str = "scenario.json") -> Path:
    """Store a scenario of the scripted source."""
    path = folder / name
    path.write_text(json.dumps(scenario))
    return path


def numbered_stream(name: str, count: int = 12, **members: Any) -> dict[str, Any]:
    """A stream of a scenario: numbered records, read incrementally."""
    return {
        "name": name,
        "cursor": "id",
        "primary_key": [["id"]],
        "state_every": 5,
        "generate": {"count": count, "from": 1, "fields": {"id": "$i", "item": f"{name} $i"}},
    } | members


@dataclass
class Deployment:
    """Everything that a run needs, in one folder."""

    home: Path
    pyairbyte_dir: Path
    connectors_dir: Path
    sync: SyncSettings = field(default_factory=SyncSettings)
    catalog_settings: CatalogSettings = field(default_factory=CatalogSettings)
    key_settings: KeySettings = field(default_factory=KeySettings)
    wait_s: float = 60.0

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "connectors.toml").write_text(
            f'[connectors.source-scripted]\nexecutable = "{SCRIPTED}"\n'
        )
        sources = SourceSettings(pyairbyte_dir=self.pyairbyte_dir, connectors_dir=self.connectors_dir)
        self.settings = Settings(
            home=self.home,
            sources=sources,
            sync=self.sync,
            catalog=self.catalog_settings,
            keys=self.key_settings,
        )
        ensure_master_key(self.settings)
        upgrade(self.settings.database_url)
        self.store = open_store(self.settings)
        self.catalog = open_catalog(self.settings)
        self.keys = open_keys(self.settings)
        self.parts = Backends(
            settings=self.settings,
            store=self.store,
            keys=self.keys,
            catalog=self.catalog,
            sealer=self.store.sealer,
        )

    def job(self, scenario: Path, mode: str = "append", **changes: Any) -> Job:
        """Plan and store a job that reads a scenario."""
        config = {"scenario": str(scenario), "password": changes.pop("password", "hunter2-hunter2")}
        return self.job_of("source-scripted", config, mode, **changes)

    def job_of(self, source: str, config: dict[str, Any], mode: str = "append", **changes: Any) -> Job:
        """Plan and store a job that reads any source; it is installed when it is not."""
        rules = tuple(Transformation(**t) for t in changes.pop("column_transformations", ()))
        request = IngestRequest(
            name=changes.pop("name", f"job {uuid4()}"),
            source_name=source,
            schema_name=changes.pop("schema_name", "shop"),
            mode=mode,
            owner_id="ann@example.com",
            column_transformations=rules,
            **changes,
        )
        deadline = time.monotonic() + self.wait_s
        prepared = prepare(request, config, self.settings, self.keys, deadline=deadline)
        job = Job(
            id=uuid4(),
            owner_id="ann@example.com",
            created_by="test|ann",
            request=request.pinned(prepared.connector),
            plan=prepared.plan,
            public_config=prepared.public_config,
            created_at=datetime.now(UTC),
        )
        return self.store.add_job(job, config)

    def run(
        self,
        job: Job | UUID,
        flow_run_id: str = "run-1",
        attempt: int = 1,
        *,
        asked: RunRequest | None = None,
    ) -> Run:
        """Run a job in this process."""
        job_id = job if isinstance(job, UUID) else job.id
        return run_sync(self.parts, job_id, flow_run_id, attempt, asked=asked)

    def plan(
        self, job: Job, flow_run_id: str = "run-1", attempt: int = 1, *, asked: RunRequest | None = None
    ) -> Run:
        """Begin a run and share it out, in this process."""
        return plan_run(self.parts, job.id, flow_run_id, attempt, asked=asked)

    def part(self, job: Job, number: int, flow_run_id: str = "run-1", attempt: int = 1) -> Run:
        """Do a part of a run in this process."""
        return run_part(self.parts, job.id, flow_run_id, number, attempt)

    def table(self, name: str, schema: str = "shop") -> Table:
        """A table as it is now."""
        table = find_table(self.catalog, tuple(schema.split(".")), name)
        assert table is not None
        return table

    def rows(self, name: str, *columns: str) -> list[tuple[Any, ...]]:
        """Values of some columns, sorted."""
        rows = self.table(name).scan().to_arrow().to_pylist()
        return sorted((tuple(r[c] for c in columns) for r in rows), key=repr)
