"""A deployment of Airberg in a folder, and runs of it: `airberg sync` as a flow's task starts it.

The job is planned and stored as the HTTP service does it, without HTTP. What is measured is the command line:
nothing of the engine runs in this process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from pyiceberg.catalog import Catalog

from airberg.jobs.migrate import upgrade
from airberg.jobs.model import Job, Run
from airberg.jobs.open import open_store
from airberg.keys.kek import ensure_master_key
from airberg.keys.open import open_keys
from airberg.lake.catalog import open_catalog
from airberg.plan.model import IngestRequest, Transformation
from airberg.plan.preparation import prepare
from airberg.settings import Settings, SourceSettings
from airberg.stack.environments import ensure_pyairbyte_environment
from benchmarks.measure import Measured, run_measured
from benchmarks.recording import BUILD, Recording

OWNER = "bench@example.com"
REPLAY = Path(__file__).parent / "connectors" / "source-replay"
ROOT = Path(__file__).parents[1]
SETUP_WITHIN_S = 900.0


def pyairbyte_dir() -> Path:
    """PyAirbyte's environment, the one that Airberg makes."""
    return Path(os.environ.get("AIRBERG_SOURCES__PYAIRBYTE_DIR") or BUILD / "pyairbyte")


def connectors_dir() -> Path:
    """Where connectors are installed."""
    return Path(os.environ.get("AIRBERG_SOURCES__CONNECTORS_DIR") or BUILD / "connectors")


class RunFailed(Exception):
    """A run that had to succeed did not."""


@dataclass(frozen=True, slots=True)
class SyncRun:
    """One `airberg sync`, measured.

    Attributes:
        measured: The process tree.
        run: What the job store says of it.
        connector_started: When the connector began to read, on the wall clock.
    """

    measured: Measured
    run: Run
    connector_started: float

    @property
    def engine_s(self) -> float:
        """From the start of the connector to the end of the run, which follows the last commit."""
        assert self.run.ended_at is not None
        return self.run.ended_at.timestamp() - self.connector_started

    @property
    def startup_s(self) -> float:
        """From the start of the process to the start of the connector."""
        return self.connector_started - self.measured.started


class Deployment:
    """Airberg with everything embedded in `home`: job store, keys, SQLite catalog, warehouse.

    Args:
        home: Its folder, emptied first. Connectors and PyAirbyte's environment are kept elsewhere.
    """

    def __init__(self, home: Path) -> None:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        (home / "connectors.toml").write_text(f'[connectors.source-replay]\nexecutable = "{REPLAY}"\n')
        sources = SourceSettings(pyairbyte_dir=pyairbyte_dir(), connectors_dir=connectors_dir())
        self.settings = Settings(home=home, sources=sources)
        ensure_pyairbyte_environment(self.settings, lambda line: print(line, file=sys.stderr))
        ensure_master_key(self.settings)
        upgrade(self.settings.database_url)

    @property
    def catalog(self) -> Catalog:
        """The Iceberg catalog."""
        return open_catalog(self.settings)

    def job(
        self,
        source: str,
        config: dict[str, Any],
        schema: str,
        streams: tuple[str, ...] = (),
        transformations: tuple[Transformation, ...] = (),
    ) -> Job:
        """Plan and store a job in the mode append; its plan is fresh enough for the next run."""
        request = IngestRequest(
            name=f"bench {uuid4()}",
            source_name=source,
            schema_name=schema,
            mode="append",
            owner_id=OWNER,
            streams=streams,
            column_transformations=transformations,
        )
        deadline = time.monotonic() + SETUP_WITHIN_S
        prepared = prepare(request, config, self.settings, open_keys(self.settings), deadline=deadline)
        job = Job(
            id=uuid4(),
            owner_id=OWNER,
            created_by="bench|bench",
            request=request,
            plan=prepared.plan,
            public_config=prepared.public_config,
            created_at=datetime.now(UTC),
        )
        with contextlib.closing(open_store(self.settings)) as store:
            return store.add_job(job, config)

    def replay(
        self, recording: Recording, schema: str, transformations: tuple[Transformation, ...] = ()
    ) -> SyncRun:
        """Load a recording into tables of a new schema."""
        began = self.settings.home / f"{schema}.began"
        files = {"catalog": str(recording.catalog), "files": [str(recording.messages)]}
        config = {**files, "repeat": recording.repeat, "began": str(began)}
        job = self.job("source-replay", config, schema, transformations=transformations)
        measured, run = self.sync(job.id)
        return SyncRun(measured, run, float(began.read_text()))

    def sync(self, job_id: UUID) -> tuple[Measured, Run]:
        """Run `airberg sync` once.

        Raises:
            RunFailed: It did not succeed; the text has its last lines.
        """
        argv = [sys.executable, "-m", "airberg.cli", "sync", str(job_id), "--flow-run-id", "bench"]
        log = self.settings.home / f"sync-{job_id}.log"
        measured = run_measured(argv, log=log, environment=self.environment(), cwd=self.settings.home)
        if measured.exit_code:
            raise RunFailed("airberg sync failed:\n" + "\n".join(measured.output.splitlines()[-15:]))
        with contextlib.closing(open_store(self.settings)) as store:
            run = store.find_run(job_id, "bench")
        if run is None:
            raise RunFailed("airberg sync ended well, but the job store knows of no run")
        return measured, run

    def environment(self) -> dict[str, str]:
        """Variables of a child process: this deployment's settings and no others."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRBERG_", "PYICEBERG_"))}
        return kept | {
            "AIRBERG_HOME": str(self.settings.home),
            "AIRBERG_SOURCES__PYAIRBYTE_DIR": str(self.settings.pyairbyte_dir),
            "AIRBERG_SOURCES__CONNECTORS_DIR": str(self.settings.connectors_dir),
        }
