"""Pages are run against the stack: their commands work as printed, in order, and print what they show."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from airberg.cli.quickstart import BODY, OWNER, STREAMS, load
from airberg.flows.credentials import load_credentials
from airberg.lake.catalog import open_catalog
from airberg.lake.tables import find_table
from support.duckdb_reader import duckdb_connection
from support.free_ports import free_ports
from support.live_stack import LiveStack, wait_for
from support.page_run import PageRun, not_printed, outputs
from support.pages import READ_ENCRYPTED, ROOT, Block, Page, blocks, pages

NOT_RUN = {
    "make airflow-package": "needs the repository; tests/integration/flows makes the wheel and installs it",
    "make help": "sets up an environment; `.ci/run` runs what it lists",
    "make run": "starts the stack that runs here already; what it shows is compared with `quickstart` below",
    "make smoke-datahub": "needs Docker; tests/integration/governance plays it against the double",
    "make test": "would run these tests within these tests",
    "git clone": "there is no such host; then `make run`",
    "from airflow.sdk": "needs Airflow; tests/integration/flows has Airflow read it",
    "import decrypt_email": "needs numpy; tests/integration/engines runs it where that is",
    ".venv/bin/python -m airberg.testing.datahub": "stays; tests/integration/governance starts it",
    ".venv/bin/uv venv .airberg/postgres-lite": "needs the package index",
    "docker build": "needs Docker; tests/kubernetes runs the commands of the Dockerfile",
    "kubectl apply": "needs a cluster; tests/kubernetes holds manifests against its API",
    ".venv/bin/uv build": "needs the package index; another test makes a wheel and looks into it",
}
"""First words of blocks that are not run, and why. Nothing else is left out."""
SQL_FOR_ENGINES = {READ_ENCRYPTED}
"""Pages with SQL for other engines: tests/integration/engines and tests/spark run it where they run."""


def reason_not_to_run(block: Block) -> str | None:
    """Why a block is not run."""
    return next((why for start, why in NOT_RUN.items() if block.text.startswith(start)), None)


def runnable(page: Page) -> list[Block]:
    """The blocks of a page that are run."""
    return [b for b in page.blocks if b.language in ("bash", "python") and reason_not_to_run(b) is None]


RUN_PAGES = [p for p in pages() if runnable(p)]


@pytest.fixture(scope="session")
def quickstart(live: LiveStack) -> str:
    """What `make run` prints from its request on; the pages read the tables that it makes."""
    out = io.StringIO()
    with live.client(OWNER) as api:
        load(api, live.settings, Console(file=out, width=140))
    text = out.getvalue().replace(live.settings.airflow_url, "http://127.0.0.1:8080")
    return text.replace(str(live.settings.home), ".airberg")


@pytest.mark.parametrize("page", RUN_PAGES, ids=lambda p: p.name)
def test_page(live: LiveStack, quickstart: str, tmp_path: Path, page: Page) -> None:
    """Every block ends well, and what the page shows behind it was printed."""
    skip = [b for b in page.blocks if reason_not_to_run(b) is not None]
    printed = {p.block: p.text for p in PageRun(page, live.settings, tmp_path, skip).run()}
    for block, shown in outputs(page):
        if block in printed:
            complaint = not_printed(shown.text, printed[block])
            assert not complaint, f"{shown}:\n{complaint}\n--- printed:\n{printed[block]}"


def test_what_the_readme_shows_of_make_run(quickstart: str) -> None:
    """The first screen shows what the first run prints, shortened."""
    [shown] = [b.text for a, b in outputs(Page("README.md")) if a.text.startswith("make run")]
    start, request, rest = shown.partition("POST /api/airbyte/ingest\n")
    assert start.startswith("Starting Airberg\n")
    complaint = not_printed(request + rest, quickstart)
    assert not complaint, f"{complaint}\n--- printed:\n{quickstart}"


def test_the_request_of_the_readme_is_that_of_the_contract() -> None:
    """The same options of curl in the same order, and every field of the contract's example."""
    [block] = [b for b in Page("README.md").blocks if "--request POST" in b.text]
    body = json.loads(block.text.split("--data '")[1].rpartition("'")[0])
    assert list(body) == [
        *("name", "source_name", "source_config", "schema_name", "mode", "streams", "merge", "schedule"),
        *("domain", "tags", "owner_id", "column_transformations"),
    ]
    assert list(body["column_transformations"][0]) == [
        *("column", "transformation_type", "stream", "target_type", "new_name", "encryption_key_name"),
    ]


# ---- SQL -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "block", [b for b in blocks("sql") if b.page not in SQL_FOR_ENGINES], ids=lambda b: str(b)
)
def test_sql(live: LiveStack, quickstart: str, block: Block) -> None:
    """DuckDB runs it over the tables of `make run`."""
    connection = duckdb_connection().cursor()
    for stream in STREAMS:
        table = find_table(open_catalog(live.settings), (str(BODY["schema_name"]),), stream)
        assert table is not None
        metadata = table.metadata_location.removeprefix("file://")
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {stream} AS FROM iceberg_scan('{metadata}')")
    assert connection.execute(block.text).description


# ---- tables ----------------------------------------------------------------------------------------------


def documented(heading: str) -> set[str]:
    """Names of the properties that the page lists."""
    rows = Page("docs/reference/tables.md").table(heading)
    return {name.strip(" `") for row in rows for name in row[0].split(",")}


def test_properties_of_tables_and_snapshots(live: LiveStack, quickstart: str) -> None:
    """A table that was just made has no property that the page lacks."""
    with live.client(OWNER) as api:
        [job] = [j for j in api.get("/api/jobs").json() if j["job_name"] == BODY["name"]]
    table = find_table(open_catalog(live.settings), ("quickstart",), "users")
    assert table is not None
    generic = {job["id"]: "<job id>", "encryption.email": "encryption.<column>"}
    found = set(table.properties)
    for concrete, general in generic.items():
        found = {name.replace(concrete, general) for name in found}
    # For streams that have a namespace, tables that are merged by a primary key, columns of other kinds.
    kinds_of_columns = {"airberg.hash.<column>", "airberg.mask.<column>"}
    others = {"airberg.stream-namespace", "airberg.identifier", *kinds_of_columns}
    assert found == documented("Table properties") - others
    # Other blocks of the pages may have compacted this table since: then the newest snapshot is upkeep's.
    summaries = [s.summary.additional_properties for s in table.snapshots() if s.summary is not None]
    kinds = [{name for name in summary if name.startswith("airberg.")} for summary in summaries]
    of_upkeep, of_people = {"airberg.upkeep"}, {"airberg.act"}  # nobody has changed its state
    assert of_upkeep | of_people < documented("Snapshot properties")
    of_runs = documented("Snapshot properties") - of_upkeep - of_people
    assert of_runs in kinds
    assert all(kind in (of_runs, of_upkeep) for kind in kinds)


def test_members_of_jobs_and_runs(live: LiveStack, quickstart: str) -> None:
    """The page of the calls names every member of a job, of a run and of a report, and no other."""
    page = Page("docs/reference/jobs.md")
    with live.client(OWNER) as api:
        job = api.get("/api/jobs").json()[-1]
        run = api.get(f"/api/runs/{job['runs'][0]['id']}").json()
    for heading, members in (("A job", set(job)), ("A run", set(run))):
        listed = {n for row in page.table(heading) for n in row[0].replace("`", "").split(", ")}
        assert listed == members
    texts = page.prose.split("\n\n")
    [report] = [text for text in texts if text.startswith("A report for a stream")]
    [progress] = [text for text in texts if text.startswith("How far the stream has come")]
    named = {*re.findall(r"`(\w+)`", report), *re.findall(r"`(state_\w+)`", progress)}
    counts = {"rows_read", "rows_written", "rows_deleted"}  # "the three counts of rows"
    assert named == set(run["streams"][0]) - counts


# ---- own parts -------------------------------------------------------------------------------------------

AIRFLOW_LOOKS = """
import json, os
from airflow.configuration import conf
from airflow.dag_processing.bundles.manager import DagBundlesManager
known = conf.configuration_description
for name in json.loads(os.environ["LOOK_FOR"]):
    _, section, option = name.lower().split("__")
    assert option in known[section]["options"], name
print(json.dumps(sorted(DagBundlesManager()._bundle_config)))
"""


def environment_of(page: str) -> dict[str, str]:
    """Variables of all `env` blocks of a page; a later one wins."""
    lines = (line for b in Page(page).blocks if b.language == "env" for line in b.text.splitlines())
    return dict(line.split("=", 1) for line in lines)


def test_airflow_knows_its_options_and_finds_the_bundle(live: LiveStack, tmp_path: Path) -> None:
    """The lines for Airflow's configuration, read by Airflow itself with our package on its path."""
    airflow = {k: v for k, v in environment_of("docs/how-to/own-airflow.md").items() if "AIRFLOW__" in k[:9]}
    home = live.settings.home / "airflow"
    environment = airflow | {
        "LOOK_FOR": json.dumps(list(airflow)),
        "PYTHONPATH": str(ROOT / "src"),
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path / 'airflow.db'}",
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run(
        [str(home / "venv" / "bin" / "python"), "-W", "ignore", "-c", AIRFLOW_LOOKS],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["airberg", "dags-folder"]


@pytest.fixture
def service_with_airflow(live: LiveStack, tmp_path: Path) -> Iterator[str]:
    """`airberg serve` as the page sets it up, with the running Airflow in the place of one's own."""
    credentials, url = load_credentials(live.settings), live.settings.airflow_url
    [port] = free_ports(1)
    values = environment_of("docs/how-to/own-airflow.md")
    service = {k: v for k, v in values.items() if k.startswith("AIRBERG_AIRFLOW__")} | {
        "AIRBERG_AIRFLOW__URL": url,
        "AIRBERG_AIRFLOW__PASSWORD": credentials.password,
        "AIRBERG_HOME": str(tmp_path),
        "AIRBERG_API__PORT": str(port),
        "AIRBERG_KEYS__MASTER_KEY": values["AIRBERG_KEYS__MASTER_KEY"],
        "PATH": "/usr/bin:/bin",
    }
    airberg = [sys.executable, "-m", "airberg.cli"]
    subprocess.run([*airberg, "db", "upgrade"], env=service, check=True, timeout=60)
    with subprocess.Popen([*airberg, "serve"], env=service, stdout=subprocess.DEVNULL) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


def test_a_service_with_its_own_airflow(service_with_airflow: str) -> None:
    """With the settings of the page the service reaches Airflow, and tells its users the public address."""

    def ready() -> dict[str, object] | None:
        try:
            answer = httpx.get(f"{service_with_airflow}/api/health/ready", trust_env=False)
        except httpx.TransportError:
            return None
        facts = dict(answer.json()) if answer.status_code == 200 else {}
        # An Airflow under load may be late once with its heartbeat.
        return facts if facts.get("orchestrator") is True else None

    assert wait_for(ready, 120, "the service, and Airflow through it")
