"""Airflow with its OpenLineage provider, for `make test-openlineage`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from support.lineage_events import events_in
from support.pages import ROOT

FLOW = ROOT / "tests" / "support" / "lineage_flow.py"
CHILD = ROOT / "tests" / "support" / "lineage_child.py"
COMMAND = """\
#!/bin/sh
export OPENLINEAGE__TRANSPORT__TYPE=file
export OPENLINEAGE__TRANSPORT__LOG_FILE_PATH={events}
export OPENLINEAGE__TRANSPORT__APPEND=true
export PYTHONPATH={tests}:{root}
exec {python} {child} {folder} "$@"
"""


@dataclass(frozen=True)
class Played:
    """What was told of one run of a flow.

    Attributes:
        by_airflow: The provider's events.
        by_airberg: Ours.
    """

    by_airflow: list[dict[str, Any]]
    by_airberg: list[dict[str, Any]]


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """A flow with the task `sync` of Airberg's, run by Airflow with its provider."""
    if "OPENLINEAGE_TESTS" not in os.environ:
        pytest.skip("Airflow's OpenLineage provider: not part of `make test`; see `make test-openlineage`")
    python = ROOT / ".build" / "openlineage" / "bin" / "python"
    folder = tmp_path_factory.mktemp("openlineage")
    ours, theirs = folder / "airberg.jsonl", folder / "airflow.jsonl"
    command = folder / "airberg"
    names = {"python": sys.executable, "child": CHILD, "root": ROOT, "tests": ROOT / "tests"}
    command.write_text(COMMAND.format(events=ours, folder=folder, **names))
    command.chmod(0o755)
    dags = folder / "dags"
    dags.mkdir()
    shutil.copy(FLOW, dags)
    transport = f'{{"type": "file", "log_file_path": "{theirs}", "append": true}}'
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT / "src"),
        "AIRBERG_BIN": str(command),
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "airflow-test",
        "AIRFLOW__OPENLINEAGE__TRANSPORT": transport,
    }
    for argv in (["-m", "airflow", "db", "migrate"], [str(dags / FLOW.name)]):
        done = subprocess.run(
            [python, *argv],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return Played(events_in(theirs), events_in(ours))
