"""The package for one's own Airflow: built, installed into a new environment, and found by Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import uv

import airberg_airflow
from airberg.flows.model import DOCTOR_ID, SENTINEL_ID, UPKEEP_ID, doctor_spec, upkeep_spec
from airberg.settings import Settings
from airberg.stack.environments import lock_file
from support.airflow_stack import UNDER_TEST
from support.flow_feed import FlowFeed
from support.free_ports import free_ports
from support.pages import ROOT, Page

TOKEN = "machine-token-of-the-test"
LOADS = """
import json, sys
import airberg_airflow
from airflow.dag_processing.bundles.manager import DagBundlesManager
try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # Airflow 3.1
    from airflow.models.dagbag import DagBag
bundle = DagBundlesManager().get_bundle("airberg")
bundle.initialize()
bag = DagBag(dag_folder=str(bundle.path), bundle_path=bundle.path)
print(json.dumps({"flows": sorted(bag.dags), "errors": bag.import_errors, "from": airberg_airflow.__file__}))
"""

FINDS_NOTHING = """
from airberg_airflow.bundle import AirbergDagBundle
from airflow.exceptions import AirflowException
try:
    AirbergDagBundle(name="airberg", url="http://127.0.0.1:9").initialize()
except AirflowException as e:
    print("told:", e)
"""


def run(*argv: str | Path, **variables: str) -> str:
    """Run a command outside of any Python environment."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "AIRBERG", "PYTHON"))}
    kept.pop("VIRTUAL_ENV", None)
    ran = subprocess.run(
        list(argv), capture_output=True, text=True, env=kept | variables, cwd=ROOT / "airflow-package"
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture
def feed() -> Iterator[FlowFeed]:
    """A feed with the two flows of every deployment."""
    opened = FlowFeed(free_ports(1)[0], TOKEN)
    settings = Settings()
    upkeep = upkeep_spec(settings)
    assert upkeep is not None
    opened.offer(upkeep, doctor_spec(settings))
    opened.open()
    yield opened
    opened.close()


def test_the_package_works_in_a_new_environment(tmp_path: Path, feed: FlowFeed) -> None:
    """It brings nothing but itself; Airflow finds the bundle by its configuration and loads all flows.

    Without the API and without a copy, the bundle says so by an error of Airflow's own kind.
    """
    tool = uv.find_uv_bin()
    run(tool, "build", "-q", "--wheel", "--out-dir", tmp_path, ".")
    [wheel] = tmp_path.glob("airberg_airflow-*.whl")
    assert airberg_airflow.__file__ is not None
    with zipfile.ZipFile(wheel) as archive:
        packed = {Path(n).name for n in archive.namelist() if n.startswith("airberg_airflow/")}
    assert packed == {p.name for p in Path(airberg_airflow.__file__).parent.glob("*.py")}
    assert f"pip install dist/{wheel.name}\n" in Page("docs/how-to/own-airflow.md").text

    python = tmp_path / "venv" / "bin" / "python"
    lock = ROOT / "requirements" / f"{os.environ[UNDER_TEST]}.txt" if UNDER_TEST in os.environ else None
    run(tool, "venv", "-q", tmp_path / "venv")
    run(tool, "pip", "install", "-q", "--python", python, "-r", lock or lock_file("airflow"))
    before = run(tool, "pip", "freeze", "--python", python).splitlines()
    run(tool, "pip", "install", "-q", "--python", python, wheel)
    after = run(tool, "pip", "freeze", "--python", python).splitlines()
    assert [line.split(" ")[0] for line in after if line not in before] == ["airberg-airflow"]
    assert [line for line in before if line not in after] == []

    bundle = {
        "name": "airberg",
        "classpath": "airberg_airflow.bundle.AirbergDagBundle",
        "kwargs": {"url": feed.url, "refresh_interval": 60},
    }
    printed = run(
        python,
        "-c",
        LOADS,
        AIRFLOW_HOME=str(tmp_path / "home"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST=json.dumps([bundle]),
        AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH=str(tmp_path / "bundles"),
        AIRBERG_AIRFLOW__BUNDLE_TOKEN=TOKEN,
    )
    found: dict[str, object] = json.loads(printed.splitlines()[-1])
    assert found["flows"] == sorted([SENTINEL_ID, UPKEEP_ID, DOCTOR_ID])
    assert found["errors"] == {}
    assert str(found["from"]).startswith(str(tmp_path / "venv"))
    assert feed.answers == [200]

    # Errors of any other kind would end the dag-processor of Airflow 3.1 and 3.2, with everybody's flows.
    told = run(
        python,
        "-c",
        FINDS_NOTHING,
        AIRFLOW_HOME=str(tmp_path / "home"),
        AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH=str(tmp_path / "elsewhere"),
    )
    assert "told: http://127.0.0.1:9/internal/airflow/flows does not answer" in told
