"""A deployment in a folder: tables in a catalog, a job and its runs in a store, and a DataHub that knows."""

from __future__ import annotations

from pathlib import Path

from airberg.governance.datahub_settings import DataHubSettings
from airberg.governance.register import register_run
from airberg.governance.rest import RestSink
from airberg.jobs.migrate import upgrade
from airberg.jobs.model import Job, Run, RunReport, RunStatus, StreamReport
from airberg.jobs.open import open_store
from airberg.keys.kek import ensure_master_key
from airberg.lake.catalog import open_catalog
from airberg.settings import Settings
from airberg.testing.datahub import DataHubDouble
from support.governed_tables import make_customers, make_job, make_orders
from support.jobs import at


class GovernedDeployment:
    """A deployment whose job has loaded two tables, and has told DataHub of them.

    Args:
        home: Its folder.
        datahub: The service.
    """

    def __init__(self, home: Path, datahub: DataHubDouble) -> None:
        self.datahub = datahub
        self.settings = self.settings_of(home, datahub)
        ensure_master_key(self.settings)
        upgrade(self.settings.database_url)
        self.catalog = open_catalog(self.settings)
        self.catalog.create_namespace("sales", {"team": "crm"})
        make_customers(self.catalog)
        make_orders(self.catalog)
        self.store = open_store(self.settings)
        self.job: Job = self.store.add_job(make_job(), {})
        self.run = self.load(1, "customers", "orders")

    @staticmethod
    def settings_of(home: Path, datahub: DataHubDouble) -> Settings:
        """Those of a deployment that tells this service."""
        about = DataHubSettings.model_validate({"server": datahub.url, "token": datahub.token, "retries": 0})
        return Settings(home=home).model_copy(update={"datahub": about})

    def load(self, minute: float, *tables: str) -> Run:
        """A completed run of these tables, of which DataHub is told."""
        run = self.store.start_run(self.job.id, f"r{minute}", 1, at(minute))
        report = RunReport(streams=tuple(StreamReport(stream=t, table=t, rows_written=1) for t in tables))
        run = self.store.end_run(run.id, RunStatus.COMPLETED, at(minute + 0.5), report=report)
        sink = RestSink(self.datahub.url, token=self.datahub.token, retries=0)
        register_run(self.job, run, self.catalog, self.settings, sink)
        return run
