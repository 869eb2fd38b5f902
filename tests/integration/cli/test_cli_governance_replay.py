"""`airberg governance replay`: runs that DataHub was not told of, and what they may not take back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pyarrow as pa
import pytest
from pyiceberg.table import Table
from typer.testing import CliRunner

from airberg.cli.app import app
from airberg.errors import ConfigurationFailed
from airberg.governance.datahub_settings import DataHubSettings
from airberg.governance.files import FileSink
from airberg.governance.later import later_runs
from airberg.governance.register import register_run
from airberg.governance.rest import RestSink
from airberg.governance.stored import read_file
from airberg.jobs.migrate import upgrade
from airberg.jobs.model import Job, Run, RunReport, RunStatus, StreamReport
from airberg.jobs.open import open_store
from airberg.jobs.sql import SqlJobStore
from airberg.keys.kek import ensure_master_key
from airberg.lake.catalog import open_catalog
from airberg.settings import Settings
from airberg.testing.datahub import DataHubDouble, Fault, serve_datahub
from support.governed_tables import make_customers, make_job, make_orders
from support.jobs import at

TABLE = "urn:li:dataset:(urn:li:dataPlatform:iceberg,sales.customers,PROD)"
HUMAN = {"tag": "urn:li:tag:human"}


@dataclass
class Ground:
    """A deployment with a job and its two tables, in the environment of the command."""

    settings: Settings
    store: SqlJobStore
    job: Job
    environment: pytest.MonkeyPatch

    def load(self, minute: float, *tables: str) -> Run:
        """A completed run that wrote a row into each of these tables."""
        reports = []
        for name in tables:
            table = self.table(name)
            row = [{"id": int(minute)}]
            table.append(pa.Table.from_pylist(row, schema=table.schema().as_arrow()))
            snapshot = table.current_snapshot()
            assert snapshot is not None
            ids = (snapshot.snapshot_id,)
            reports.append(StreamReport(stream=name, table=name, rows_written=1, snapshot_ids=ids))
        run = self.store.start_run(self.job.id, f"r{minute}", 1, at(minute))
        report = RunReport(streams=tuple(reports))
        return self.store.end_run(run.id, RunStatus.COMPLETED, at(minute + 0.5), report=report)

    def table(self, name: str) -> Table:
        """A table as it is now."""
        return open_catalog(self.settings).load_table(f"sales.{name}")

    def register(self, run: Run, datahub: DataHubDouble) -> None:
        """What the task does."""
        sink = RestSink(datahub.url, token=datahub.token, retries=0)
        settings = self.settings.model_copy(update={"datahub": DataHubSettings(server=datahub.url)})
        catalog, later = open_catalog(settings), later_runs(self.store, self.job, run)
        where = register_run(self.job, run, catalog, settings, sink, later)
        self.store.report_run(run.id, msgspec.structs.replace(run.report, metadata=where))

    def write_file(self, run: Run) -> Path:
        """What the task does without DataHub."""
        sink = FileSink(self.settings.metadata_dir)
        where = register_run(self.job, run, open_catalog(self.settings), self.settings, sink)
        self.store.report_run(run.id, msgspec.structs.replace(run.report, metadata=where))
        return Path(where)

    def point_to(self, datahub: DataHubDouble) -> None:
        """Have commands find it."""
        for name, value in {"SERVER": datahub.url, "TOKEN": datahub.token, "RETRIES": "0"}.items():
            self.environment.setenv(f"AIRBERG_DATAHUB__{name}", value)

    def replay(self, datahub: DataHubDouble | None, *options: str) -> tuple[int, list[str]]:
        """Exit code and lines of the command."""
        if datahub is not None:
            self.point_to(datahub)
        done = CliRunner().invoke(app, ["governance", "replay", *options])
        if isinstance(done.exception, ConfigurationFailed):
            return done.exception.exit_code, [done.exception.sentence()]
        assert done.exception is None or isinstance(done.exception, SystemExit), done.output
        assert datahub is None or datahub.token not in done.output
        return done.exit_code, done.output.splitlines()

    def due(self) -> list[UUID]:
        """Runs that are due."""
        return [run.id for run in self.store.metadata_due.runs()]


@pytest.fixture
def ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """Empty tables, no run."""
    settings = Settings(home=tmp_path)
    ensure_master_key(settings)
    upgrade(settings.database_url)
    monkeypatch.setenv("AIRBERG_HOME", str(tmp_path))
    catalog = open_catalog(settings)
    catalog.create_namespace("sales", {"team": "crm"})
    make_customers(catalog)
    make_orders(catalog)
    store = open_store(settings)
    yield Ground(settings, store, store.add_job(make_job(), {}), monkeypatch)
    store.close()


def test_two_runs_end_as_if_they_had_been_registered_in_time(ground: Ground) -> None:
    """Also their events: the older run tells how large the table was then. A second time nothing is due."""
    with serve_datahub() as prompt, serve_datahub() as late:
        for minute in (1, 2):
            run = ground.load(minute, "customers", "orders")
            ground.register(run, prompt)
            ground.store.report_run(run.id, run.report)  # as if it had failed
        code, lines = ground.replay(late)
        assert code == 0, lines
        assert late.state() == prompt.state()
        assert [e["rowCount"] for e in late.events(TABLE, "datasetProfile")] == [3, 4]
        assert ground.due() == []
        assert [line.split(": ")[1].split(",")[0] for line in lines[:2]] == [
            "what it did was sent",
            f"sent to {late.url}",
        ]
        assert ground.replay(late) == (0, ["0 sent, 0 not"])


def test_a_late_run_takes_nothing_back(ground: Ground) -> None:
    """Of the table that a newer run has loaded, only events come; of the other everything does."""
    first = ground.load(1, "customers", "orders")
    second = ground.load(2, "customers")
    with serve_datahub() as datahub:
        ground.register(second, datahub)
        datahub.upsert(TABLE, "globalTags", {"tags": [HUMAN]})  # ours was taken away by people since
        before = datahub.state()["latest"]
        code, lines = ground.replay(datahub, "--json")
        after = datahub.state()["latest"]
        told = [json.loads(line) for line in lines]
        assert (code, [(t["run"], t["outcome"]) for t in told]) == (0, [(str(first.id), "history")])
        assert {k: v for k, v in after.items() if k in before} == before
        assert len(datahub.events(TABLE, "operation")) == 2
        assert datahub.aspect(TABLE.replace("customers", "orders"), "schemaMetadata")
        assert ground.due() == []


def test_another_job_that_has_filled_the_table_since_counts(ground: Ground) -> None:
    """Lineage of the table is that of the newest run, whichever job it is of."""
    run = ground.load(1, "customers")
    request = msgspec.structs.replace(ground.job.request, name="another")
    other = ground.store.add_job(replace(ground.job, id=UUID(int=99), request=request), {})
    newer = ground.store.start_run(other.id, "o1", 1, at(5))
    report = RunReport(streams=(StreamReport(stream="customers", table="Customers"),))
    ground.store.end_run(newer.id, RunStatus.COMPLETED, at(6), report=report)
    later = later_runs(ground.store, ground.job, run)
    assert (later.tables, later.flow) == (frozenset({"sales.customers"}), False)
    assert later_runs(ground.store, other, ground.store.run(newer.id)).tables == frozenset()


def test_an_outage_stops_at_once_and_everything_stays_due(ground: Ground) -> None:
    """The first run says why; what is not reached is not touched."""
    runs = [ground.load(minute, "customers") for minute in (1, 2)]
    with serve_datahub() as datahub:
        pass
    code, lines = ground.replay(datahub)
    assert (code, len(lines), lines[-1]) == (1, 2, "0 sent, 1 not")
    assert "not sent, nor any after it: DataHub at" in lines[0]
    assert ground.due() == [run.id for run in runs]
    errors = [ground.store.run(run.id).report.metadata_error for run in runs]
    assert "gave no answer" in str(errors[0])
    assert errors[1] is None
    with serve_datahub(datahub):
        assert ground.replay(datahub)[0] == 0
    assert ground.store.run(runs[0].id).report.metadata_error is None


def test_a_refused_run_keeps_no_other_back(ground: Ground) -> None:
    """It stays due, and is sent when it is taken."""
    runs = [ground.load(minute, "customers") for minute in (1, 2)]
    with serve_datahub() as datahub:
        ground.environment.setenv("AIRBERG_DATAHUB__PATCH_MODE", "patch")
        datahub.fault = Fault(status=422, only="/aspects", times=1)
        code, lines = ground.replay(datahub)
        assert (code, lines[-1]) == (1, "1 sent, 1 not")
        assert ground.due() == [runs[0].id]
        assert ground.replay(datahub)[0] == 0
    assert ground.due() == []


def test_choosing_runs(ground: Ground) -> None:
    """By job, by time, and by its id one that was sent already."""
    runs = [ground.load(minute, "orders") for minute in (1, 2, 3)]
    with serve_datahub() as datahub:
        assert ground.replay(datahub, "--since", "2026-03-29T12:02:30")[1][-1] == "1 sent, 0 not"
        assert ground.due() == [runs[0].id, runs[1].id]
        assert ground.replay(datahub, "--run", str(runs[2].id))[1][-1] == "1 sent, 0 not"
        assert ground.due() == [runs[0].id, runs[1].id]
        assert ground.replay(datahub, "--job", str(ground.job.id))[1][-1] == "2 sent, 0 not"
        failed = ground.store.start_run(ground.job.id, "f", 1, at(9))
        ground.store.end_run(failed.id, RunStatus.FAILED, at(10))
        code, [words] = ground.replay(datahub, "--run", str(failed.id))
        assert (code, "no completed run" in words) == (2, True)


def test_without_datahub_there_is_nothing_to_send_to(ground: Ground) -> None:
    """A person has to configure it."""
    code, [words] = ground.replay(None)
    assert (code, "AIRBERG_DATAHUB__SERVER" in words) == (2, True)


def test_files_that_were_written_without_datahub(ground: Ground) -> None:
    """Both ways end the same; from files even when the tables are gone. The older file takes nothing back."""
    first = ground.load(1, "customers", "orders")
    ground.write_file(first)
    second = ground.load(2, "customers", "orders")
    ground.write_file(second)
    with serve_datahub() as anew, serve_datahub() as filed:
        assert ground.replay(anew)[0] == 0
        for run in (first, second):
            ground.store.report_run(run.id, run.report)
        for name in ("customers", "orders"):
            open_catalog(ground.settings).drop_table(f"sales.{name}")
        code, lines = ground.replay(filed, "--from-files")
        assert code == 0, lines
        without = {k: v for k, v in filed.state()["latest"].items() if "domain" not in str(k)}
        assert without == {k: v for k, v in anew.state()["latest"].items() if "domain" not in str(k)}
        assert len(filed.events(TABLE, "operation")) == 2


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[", "is not JSON"),
        ("\xff", "is not JSON"),
        ("{}", "is no list"),
        ("[1]", "has no change proposal at 0"),
        ('[{"aspect": {"json": {}}, "changeType": "DELETE"}]', "has no change proposal at 0"),
        (None, "cannot be read (No such file"),
    ],
)
def test_files_that_are_none(tmp_path: Path, text: str | None, found: str) -> None:
    """The place is told, the content is not."""
    path = tmp_path / "x.json"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigurationFailed) as caught:
        read_file(path)
    assert found in caught.value.message


def test_runs_of_a_deleted_job_do_not_bring_its_flow_back(ground: Ground) -> None:
    """Its tables are described, and its run; the flow comes only as one that is removed."""
    ground.load(1, "customers")
    ground.store.delete_job(ground.job.id, at(9))
    with serve_datahub() as datahub:
        assert ground.replay(datahub)[0] == 0
        names: set[Any] = {(urn.split(":")[2], name) for urn, name in datahub.aspects}
    assert {name for kind, name in names if kind == "dataFlow"} == {"status", "dataFlowKey"}
    assert ("dataset", "schemaMetadata") in names


DOMAIN = "urn:li:domain:marketing-ops"


@pytest.mark.parametrize("options", [[], ["--from-files"]], ids=["tables", "files"])
def test_a_domain_is_made_once_and_then_belongs_to_people(ground: Ground, options: list[str]) -> None:
    """When its first run is sent, however that is; what people make of it stays."""
    ground.environment.setenv("AIRBERG_DATAHUB__DOMAIN_POLICY", "create")
    ground.write_file(ground.load(1, "customers"))
    with serve_datahub() as datahub:
        assert ground.replay(datahub, *options)[0] == 0
        assert datahub.aspect(DOMAIN, "domainProperties")["name"] == "Marketing Ops"
        renamed = {"name": "Marketing", "description": "By people", "parentDomain": "urn:li:domain:all"}
        datahub.upsert(DOMAIN, "domainProperties", renamed)
        ground.write_file(ground.load(2, "customers"))
        assert ground.replay(datahub, *options)[0] == 0
        assert ground.due() == []
        assert datahub.aspect(DOMAIN, "domainProperties") == renamed
        assert datahub.aspect(TABLE, "domains") == {"domains": [DOMAIN]}
        diff = CliRunner().invoke(app, ["governance", "diff", "--table", "sales.customers"])
        assert "0 difference(s)" in diff.output, diff.output
        datahub.delete(DOMAIN)
        diff = CliRunner().invoke(app, ["governance", "diff", "--table", "sales.customers"])
        assert f"missing    {DOMAIN} domainProperties" in diff.output


FLOW = "urn:li:dataFlow:(airflow,{},prod)"
TASK = "urn:li:dataJob:(" + FLOW + ",sync)"


def test_the_end_of_a_job_is_told_once_datahub_is_there(ground: Ground) -> None:
    """Flow and task are removed without edges; of its tables the one that another job fills says nothing."""
    plan = ground.job.plan
    assert plan is not None
    request = msgspec.structs.replace(ground.job.request, name="another")
    orders = msgspec.structs.replace(plan, streams=plan.streams[1:])
    ground.store.add_job(replace(ground.job, id=UUID(int=99), request=request, plan=orders), {})
    flow, task = (text.format(ground.job.flow_id) for text in (FLOW, TASK))
    with serve_datahub() as datahub:
        ground.register(ground.load(1, "customers", "orders"), datahub)
        assert datahub.aspect(task, "dataJobInputOutput")["outputDatasets"]
    ground.store.delete_job(ground.job.id, at(9))
    code, lines = ground.replay(datahub)
    assert (code, lines[-1]) == (1, "0 sent, 1 not")
    assert [job.id for job in ground.store.metadata_due.deleted_jobs()] == [ground.job.id]
    with serve_datahub(datahub):
        assert ground.replay(datahub) == (0, [f"deleted job {ground.job.id}: removed", "1 sent, 0 not"])
        assert ground.replay(datahub) == (0, ["0 sent, 0 not"])
    for urn in (flow, task):
        assert datahub.aspect(urn, "status") == {"removed": True}
        assert datahub.aspect(urn, "ownership")["owners"]
    assert datahub.aspect(task, "dataJobInputOutput")["outputDatasets"] == []
    assert datahub.aspect(TABLE, "status") == {"removed": False}
    said = datahub.aspect(TABLE, "datasetProperties")["customProperties"]
    assert said["airberg.job-deleted-at"] == "2026-03-29T12:09:00+00:00"
    assert said["format-version"]
    other = datahub.aspect(TABLE.replace("customers", "orders"), "datasetProperties")["customProperties"]
    assert "airberg.job-deleted-at" not in other


def test_a_job_that_datahub_never_knew_ends_unsaid(ground: Ground) -> None:
    """Nothing is made there only to be removed."""
    ground.store.delete_job(ground.job.id, at(9))
    with serve_datahub() as datahub:
        assert ground.replay(datahub)[0] == 0
    assert not datahub.aspects
    assert not ground.store.metadata_due.deleted_jobs()


def test_the_task_of_another_job_tells_of_deleted_ones(ground: Ground) -> None:
    """Without anybody calling a command."""
    request = msgspec.structs.replace(ground.job.request, name="another")
    gone = ground.store.add_job(replace(ground.job, id=UUID(int=99), request=request), {})
    known = ground.store.start_run(gone.id, "g1", 1, at(1))
    report = RunReport(metadata="http://datahub")
    ground.store.end_run(known.id, RunStatus.COMPLETED, at(2), report=report)
    ground.store.delete_job(gone.id, at(3))
    run = ground.load(4, "orders")
    with serve_datahub() as datahub:
        ground.point_to(datahub)
        command = [sys.executable, "-m", "airberg.cli", "register", str(ground.job.id)]
        done = subprocess.run(
            [*command, "--flow-run-id", run.flow_run_id], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert datahub.aspect(FLOW.format(gone.flow_id), "status") == {"removed": True}
    assert datahub.aspect(FLOW.format(ground.job.flow_id), "status") == {"removed": False}
    assert not ground.store.metadata_due.deleted_jobs()
    assert ground.due() == []
